"""Compile, cache and seed numba kernels, and call C from them."""
