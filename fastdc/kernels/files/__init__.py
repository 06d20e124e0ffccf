"""Read and hash files without the GIL."""
