"""The contenders: fastdc's side in `ours`, every peer in a file of its own."""
