"""Operators: work given to MPS, and its results stored."""
