"""Run cells on workers: a scheduler, and workers in this process, in a process of their own, or as Ray actors."""
