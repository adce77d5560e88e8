"""Links on a task instance in the UI."""
