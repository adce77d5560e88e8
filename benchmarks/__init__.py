"""What the performance claims stand on: each script prints a table of its own."""
