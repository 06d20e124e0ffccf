"""Write the images of a beton in layouts that other programs read, one file each in `layouts`."""
