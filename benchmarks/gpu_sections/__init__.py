"""Sections of `gpu_check.py`: each measures one side of the GPU path in a process of its own."""
