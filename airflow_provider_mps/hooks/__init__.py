"""Hooks: the way to MPS."""
