"""Read files and decode JPEGs without the GIL."""
