"""Layouts of exports, one file each."""
