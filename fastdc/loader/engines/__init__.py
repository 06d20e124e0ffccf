"""The three engines of a loader: `ffcv` streams the file, `resident` keeps images in memory, `device` on the GPU."""
