"""Rules for trainings that overlap on one GPU: which do, and what memory each takes. Imports no torch."""

SMALL_SIDE = 64
"""Largest side of images of which several trainings run at once on a GPU.

The kernels of a step on such images are too short and too small to fill a GPU.
"""
MOST_TOGETHER = 8
"""Most trainings that overlap: the number of streams that CUDA runs side by side by default."""
STEP_BYTES = 12_000
"""Memory that a training takes for each pixel of a step's images, an upper estimate.

The network with the largest maps, `resnet18_small`, keeps 4,600 bytes for its backward pass in float32. The first steps
run both ways, as a graph and without one (`fastdc.nn.step_graphs`), and gradients need room as well.
"""
PARAMETER_BYTES = 64
"""Memory for each parameter: weights, gradients of both ways, AdamW's moments, three copies of these, and a check."""
LANE_BYTES = 128 << 20
"""Memory of cuBLAS for the streams of a training, on the GPUs that take most."""


def overlaps(trainings: int, side: int) -> bool:
    """Return whether trainings on images of this side gain by running at once on a GPU."""
    return 1 < trainings <= MOST_TOGETHER and side <= SMALL_SIDE


def training_bytes(batch: int, side: int, parameters: int) -> int:
    """Return an upper estimate of the memory that one of several trainings takes on a GPU."""
    return STEP_BYTES * batch * side**2 + PARAMETER_BYTES * parameters + LANE_BYTES
