"""numba kernels on arrays, one package per use; each call releases the GIL."""
