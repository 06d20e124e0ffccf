"""Names of the per-sample dynamics; apart from the kernel, so that reading a log needs no numba."""

FIELDS = ("p_y", "p_other", "margin", "entropy", "el2n")
"""What is kept of each sample at each epoch, in storage order; `batch_dynamics` defines them."""
