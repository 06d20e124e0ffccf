"""Pack a sweep's results with all that explains them into one archive; check such a bundle and run its rows again."""
