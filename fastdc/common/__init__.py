"""Errors, settings, keys, files, threads and the log: what every other package may import."""
