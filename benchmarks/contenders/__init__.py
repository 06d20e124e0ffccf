"""Contenders of the races: fastdc's side in `ours`, every peer in its own file."""
