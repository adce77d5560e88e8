"""Values: the speech request, its ``ExtParam``, and the task. Nothing here does I/O."""
