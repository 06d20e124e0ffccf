"""Architectures, one file each. No file imports torch before a network is built."""
