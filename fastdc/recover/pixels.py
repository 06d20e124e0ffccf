"""A batch of images for the optimiser: groups that join one after the other, stages of different sides."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fastdc.common.normalisation import IMAGENET_MEAN, IMAGENET_STD
from fastdc.recover.recovery_recipe import Recipe

BETAS = (0.5, 0.9)


class PixelBatch:
    """Images of one batch and their Adam optimiser.

    Every group of images is a separate parameter, so that Adam's moments of a group start when it joins. With one
    shared step count, the first steps of a late group would be many times too large.

    Args:
        start: float32 [B, 3, S, S], normalised.
        labels: int64 [B], on the same device.
        groups: int64 [B], the group of every image; group g joins at iteration g x recipe.join_every.
        recipe: the recovery's values.
    """

    def __init__(self, start: torch.Tensor, labels: torch.Tensor, groups: NDArray[np.int64], recipe: Recipe) -> None:
        self.recipe = recipe
        self._start = start
        numbers = range(int(groups.max()) + 1)
        self._rows = [torch.from_numpy(np.flatnonzero(groups == number)).to(start.device) for number in numbers]
        # In the order of the groups, like the images that `at` returns.
        self._labels = torch.cat([labels[rows] for rows in self._rows])
        self._joined = 0
        self.images = [start[rows] for rows in self._rows]
        self._low, self._high = pixel_range(start.device)
        self._stages = recipe.stage_sides(start.shape[2])
        self.optimizer = self._new_optimizer(self._stages[0], residual=0.0)

    @property
    def side(self) -> int:
        """Return the side of the images at this stage, pixels."""
        return int(self.images[0].shape[2])

    def at(self, iteration: int) -> torch.Tensor:
        """Return the images that take part in an iteration, float32 [B', 3, side, side].

        It also sets the learning rate and starts a new stage if one is due. Call it once per iteration, in order.
        """
        if iteration > 0 and iteration in self._stages:  # the constructor starts stage 0
            self.optimizer = self._new_optimizer(self._stages[iteration], self.recipe.residual)
        self._joined = min(iteration // self.recipe.join_every + 1, len(self.images))
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate_at(iteration)
        return torch.cat(self.images[: self._joined]) if self._joined > 1 else self.images[0]

    def labels(self) -> torch.Tensor:
        """Return the classes of the images from the last call of `at`, int64 [B']."""
        return self._labels[: sum(len(rows) for rows in self._rows[: self._joined])]

    @torch.no_grad()
    def clamp(self) -> None:
        """Clamp the images to the range of valid pixels."""
        for images in self.images[: self._joined]:
            torch.clamp(images, self._low, self._high, out=images)

    @torch.no_grad()
    def result(self) -> torch.Tensor:
        """Return the whole batch in its own order, float32 [B, 3, S, S]."""
        whole = torch.empty_like(self._start)
        for rows, images in zip(self._rows, self.images, strict=True):
            whole[rows] = resized(images.detach(), whole.shape[2])
        return whole

    @torch.no_grad()
    def _new_optimizer(self, side: int, residual: float) -> torch.optim.Adam:
        """Resize the images to `side`, mix in a share of the start, and return a fresh Adam.

        As in FADRM, every stage gets one of its own.
        """
        mixed = []
        for rows, images in zip(self._rows, self.images, strict=True):
            new = resized(images.detach(), side)
            if residual > 0:
                new = (1 - residual) * new + residual * resized(self._start[rows], side)
            # A clone, because `resized` returns its argument if the side stays the same.
            mixed.append(new.clone().requires_grad_(True))
        self.images = mixed
        return torch.optim.Adam(self.images, lr=self.recipe.learning_rate, betas=BETAS)


def resized(images: torch.Tensor, side: int) -> torch.Tensor:
    """Resize float images [B, 3, S, S] bilinearly without antialiasing, as in FADRM's code."""
    if images.shape[2] == side:
        return images
    return functional.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)


def pixel_range(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the normalised values of the levels 0 and 255, float32 [1, 3, 1, 1] each."""
    mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1)
    return (0 - mean) / std, (1 - mean) / std


def to_levels(images: torch.Tensor) -> NDArray[np.uint8]:
    """Convert normalised float32 [B, 3, S, S] to uint8 [B, S, S, 3], rounded to the nearest level."""
    low, high = pixel_range(images.device)
    levels = ((images - low) / (high - low) * 255).round().clamp(0, 255)
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def noise_start(positions: Sequence[int], side: int, seed: int) -> torch.Tensor:
    """Draw N(0, 1) noise, float32 [B, 3, side, side].

    An image depends only on the seed and its position, not on its batch.
    """
    return torch.stack(list(_noise(positions, side, seed)))


def _noise(positions: Sequence[int], side: int, seed: int) -> Iterator[torch.Tensor]:
    for position in positions:
        generator = np.random.Generator(np.random.PCG64([seed, position]))
        yield torch.from_numpy(generator.standard_normal((3, side, side), np.float32))


def join_groups(ipc: int, positions: NDArray[np.int64], rounds: int) -> NDArray[np.int64]:
    """Return the group of every image: a class's images split into `rounds` nearly equal groups, larger ones first.

    Args:
        ipc: images per class.
        positions: class-major positions, int64 [B].
        rounds: at least 1.

    Returns:
        int64 [B] in [0, rounds). DELT (Shen et al., CVPR 2025), early-late training.
    """
    sizes = np.full(rounds, ipc // rounds)
    sizes[: ipc % rounds] += 1
    return np.searchsorted(np.cumsum(sizes), positions % ipc, side="right").astype(np.int64)
