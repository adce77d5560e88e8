"""Extra links of task instances."""
