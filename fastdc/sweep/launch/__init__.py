"""Run cells on workers: in this process, in one of their own, or on Ray."""
