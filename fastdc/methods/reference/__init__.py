"""Rows that other methods are compared with."""
