"""Decorators that turn a function into a task."""
