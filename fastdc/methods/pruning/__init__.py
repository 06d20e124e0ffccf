"""Methods that keep real images."""
