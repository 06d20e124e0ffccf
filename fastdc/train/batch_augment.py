"""Random augmentation of a batch on its device: two variants of DSA, and colour jitter with lighting.

Each image has its own random numbers, but the operation is drawn once per batch. Draws are made on the CPU and depend
only on (seed, epoch, step) and the batch size. A resumed run and any device therefore use the same draws.

DSA is "differentiable siamese augmentation" (Zhao & Bilen, ICML 2021). Training on a finished set has no siamese pair
and needs no gradient through the augmentation. Here it is therefore a plain random augmentation of normalised images.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fastdc.common.float32 import exact_float32
from fastdc.common.keys import derive_seed
from fastdc.common.normalisation import IMAGENET_MEAN, IMAGENET_STD
from fastdc.common.transfer import send
from fastdc.train.protocols import BatchAugment

FLIP = 0.5
SCALE = 1.2
ROTATE = math.radians(15)
CROP, CUTOUT = 0.125, 0.5
BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
DSA_OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")
IDC_CHOICE = ("crop", "scale", "rotate")
JITTER, LIGHTING = 0.4, 0.1
GREY = (0.299, 0.587, 0.114)
EIGENVALUES = (0.2175, 0.0188, 0.0045)
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
"""Principal components of ImageNet's colours, one per column (Krizhevsky et al., NeurIPS 2012)."""


class Draw(NamedTuple):
    """Random numbers for one batch of B images.

    Attributes:
        operations: names of the operations to apply, in order.
        uniform: float64 [B, 8] in [0, 1). Columns: 0 flip, 1 to 3 colour or jitter, 4 and 5 crop, scale or rotation,
            6 and 7 cutout.
        normal: float64 [B, 3], standard normal, for lighting.
        order: int64 [B, 3], a permutation for each image, for jitter.
    """

    operations: tuple[str, ...]
    uniform: NDArray[np.float64]
    normal: NDArray[np.float64]
    order: NDArray[np.int64]


def draw_augment(kind: BatchAugment, seed: int, epoch: int, step: int, batch: int) -> Draw:
    """Draw the random numbers for a batch of `batch` images.

    `dsa` applies one of its six operations, each with equal probability. `idc` applies flip, colour, one of crop, scale
    and rotation, then cutout, as the code of IDC and CIM does.
    """
    generator = np.random.Generator(np.random.PCG64(derive_seed(seed, "batch augment", epoch=epoch, step=step)))
    operations: tuple[str, ...] = (kind,)
    if kind == "dsa":
        operations = (DSA_OPERATIONS[generator.integers(len(DSA_OPERATIONS))],)
    elif kind == "idc":
        operations = ("flip", "color", IDC_CHOICE[generator.integers(len(IDC_CHOICE))], "cutout")
    uniform, normal = generator.random((batch, 8)), generator.standard_normal((batch, 3))
    return Draw(operations, uniform, normal, generator.permuted(np.tile(np.arange(3), (batch, 1)), axis=1))


def augment_batch(images: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Return augmented images, float32 [B, 3, S, S], normalised like `images` and in the same memory format."""
    numbers = _sent(draw.uniform, images)
    changed = images
    for operation in draw.operations:
        changed = _apply(operation, changed, numbers, draw)
    # Indexing and warping lose channels_last, in which the network computes faster.
    last = images.is_contiguous(memory_format=torch.channels_last)
    return changed.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _apply(operation: str, images: torch.Tensor, numbers: torch.Tensor, draw: Draw) -> torch.Tensor:
    if operation == "flip":
        return torch.where(_each(numbers[:, 0] < FLIP), images.flip(3), images)
    if operation == "color":
        return _color(images, numbers[:, 1:4])
    if operation == "crop":
        return _shift(images, draw.uniform[:, 4:6])
    if operation == "cutout":
        return _cut_out(images, draw.uniform[:, 6:8])
    if operation == "scale":
        return _warp(images, _scaling(draw.uniform[:, 4:6]))
    if operation == "rotate":
        return _warp(images, _rotation(draw.uniform[:, 4]))
    return _jitter(images, numbers[:, 1:4], draw)


def _sent(values: NDArray[np.float64], images: torch.Tensor) -> torch.Tensor:
    """Return numbers on the device of `images`, in their type."""
    return send(torch.from_numpy(values).to(images.dtype), images.device)


def _each(values: torch.Tensor) -> torch.Tensor:
    """Reshape one number per image, [B], to [B, 1, 1, 1]."""
    return values[:, None, None, None]


def _color(images: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Change brightness, then saturation about the pixel's mean, then contrast about the image's mean."""
    images = images + (_each(uniform[:, 0]) - 0.5) * BRIGHTNESS
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * (_each(uniform[:, 1]) * SATURATION) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (_each(uniform[:, 2]) + CONTRAST) + mean


def _integers(uniform: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Map uniform numbers to integers below `count`."""
    return np.minimum((uniform * count).astype(np.int64), count - 1)  # the product may round up to `count`


def _shift(images: torch.Tensor, uniform: NDArray[np.float64]) -> torch.Tensor:
    """Shift by up to an eighth of the side, in whole pixels; vacated pixels become 0, the mean colour."""
    side = images.shape[-1]
    most = int(side * CROP + 0.5)
    moves = send(torch.from_numpy(_integers(uniform, 2 * most + 1) - most), images.device)
    origin = torch.arange(side, device=images.device) + moves[:, :, None]  # [B, 2, S], rows and columns
    inside = (origin >= 0) & (origin < side)
    rows, columns = origin.clamp(0, side - 1).unbind(1)
    number = torch.arange(len(images), device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return moved * (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]


def _cut_out(images: torch.Tensor, uniform: NDArray[np.float64]) -> torch.Tensor:
    """Blank a square of half the side around a uniformly drawn centre, clipped at the image's edge."""
    side = images.shape[-1]
    edge = int(side * CUTOUT + 0.5)
    # As in DSA's code, an even edge has one more centre than the side has pixels.
    starts = send(torch.from_numpy(_integers(uniform, side + 1 - edge % 2) - edge // 2), images.device)
    place = torch.arange(side, device=images.device) - starts[:, :, None]
    rows, columns = ((place >= 0) & (place < edge)).unbind(1)
    return images * ~(rows[:, :, None] & columns[:, None, :])[:, None]


def _scaling(uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return affine maps from output to input coordinates that scale each axis by its own factor, [B, 2, 3]."""
    maps = np.zeros((len(uniform), 2, 3))
    maps[:, [0, 1], [0, 1]] = uniform * (SCALE - 1 / SCALE) + 1 / SCALE
    return maps


def _rotation(uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return affine maps that rotate by up to 15 degrees either way, [B, 2, 3]."""
    angle = (uniform - 0.5) * 2 * ROTATE
    zero = np.zeros_like(angle)
    rows = [[np.cos(angle), -np.sin(angle), zero], [np.sin(angle), np.cos(angle), zero]]
    return np.moveaxis(np.array(rows), 2, 0)


def _warp(images: torch.Tensor, maps: NDArray[np.float64]) -> torch.Tensor:
    """Sample each output pixel bilinearly at the input position that its map gives; outside is 0."""
    with exact_float32():  # the grid is a matrix product, whatever products the network before it takes
        grid = functional.affine_grid(_sent(maps, images), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def _jitter(images: torch.Tensor, uniform: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Change brightness, contrast and saturation by up to 40 % in random order, then lighting, without clipping levels.

    Brightness moves an image towards black or away from it, contrast towards its mean grey, and saturation towards its
    own grey version.
    """
    constants = _sent(np.array([IMAGENET_MEAN, IMAGENET_STD, GREY]), images)
    mean, std, grey = constants.view(3, 1, 3, 1, 1).unbind()
    levels = images * std + mean
    shares, order = (uniform * 2 - 1) * JITTER, send(torch.from_numpy(draw.order), images.device)
    for turn in range(3):
        which = order[:, turn]  # per image: 0 brightness (target 0), 1 contrast, 2 saturation
        tone = (levels * grey).sum(1, keepdim=True)
        target = tone * _each(which == 2) + tone.mean((1, 2, 3), keepdim=True) * _each(which == 1)
        levels = levels + _each(shares.gather(1, which[:, None])[:, 0]) * (target - levels)
    light = (draw.normal * LIGHTING * np.array(EIGENVALUES)) @ np.array(EIGENVECTORS).T
    return (levels + _sent(light, images)[:, :, None, None] - mean) / std
