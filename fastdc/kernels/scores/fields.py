"""Names of the per-sample records, kept apart from the kernels so that reading a record needs no numba."""

FIELDS = ("p_y", "p_other", "margin", "entropy", "el2n")
"""Fields kept of each sample at each epoch, in storage order; `dynamics.batch_dynamics` defines them."""

FINAL_FIELDS = ("p_y", "p_other", "p_max", "p_second", "margin", "entropy", "el2n", "feature_norm")
"""Fields that the final pass keeps of each sample once the observer is trained; `dynamics.batch_final` defines them."""

EXACT_FIELDS = ("p_rest", "gap")
"""Fields that the final pass adds since fastdc 0.2: digits that float32 loses of a `p_max` near 1 or `p_second`."""

TERMS = (*FINAL_FIELDS[:-1], *EXACT_FIELDS)
"""Terms that `logit_terms` computes of each sample, in its order: all of the above that need no features."""
