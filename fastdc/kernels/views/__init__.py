"""Views of decoded images: boxes, crops, resize, mosaics, whole batches."""
