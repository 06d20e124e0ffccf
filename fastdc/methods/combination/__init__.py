"""Methods that combine real images into mosaics."""
