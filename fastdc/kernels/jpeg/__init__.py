"""Decode JPEGs, and make batches from stored ones, without the GIL."""
