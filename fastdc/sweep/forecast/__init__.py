"""Estimate time and disk of a sweep before it runs."""
