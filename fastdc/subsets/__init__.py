"""From a method's name to a stored beton, and lists of kept images."""
