"""Training protocols of fastdc, a file for each source. No file imports torch."""
