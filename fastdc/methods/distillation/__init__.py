"""Methods that synthesise images, or choose patches with a teacher."""
