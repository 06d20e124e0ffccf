"""A batch of images as the optimiser sees it: groups that join one after the other, stages of different sides."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fastdc.loader.views import IMAGENET_MEAN, IMAGENET_STD
from fastdc.recover.recipe import Recipe

BETAS = (0.5, 0.9)


class PixelBatch:
    """The images of one batch, and the Adam that changes them.

    Every group of images is a parameter of its own, so that Adam's moments of a group that joins late start when it
    joins; one moment estimate for all would make its first steps many times too large.

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
        self._labels = torch.cat([labels[rows] for rows in self._rows])
        self._joined = 0
        self.images = [start[rows] for rows in self._rows]
        self._low, self._high = pixel_range(start.device)
        self._stages = recipe.stage_sides(start.shape[2])
        self.optimizer = self._new_optimizer(self._stages[0], residual=0.0)

    @property
    def side(self) -> int:
        """Side of the images at this stage, pixels."""
        return int(self.images[0].shape[2])

    def at(self, iteration: int) -> torch.Tensor:
        """The images that take part in an iteration, float32 [B', 3, side, side]; to be called once, in order."""
        if iteration > 0 and iteration in self._stages:
            self.optimizer = self._new_optimizer(self._stages[iteration], self.recipe.residual)
        self._joined = min(iteration // self.recipe.join_every + 1, len(self.images))
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate_at(iteration)
        return torch.cat(self.images[: self._joined]) if self._joined > 1 else self.images[0]

    def labels(self) -> torch.Tensor:
        """Classes of the images that the last `at` gave, int64 [B']."""
        return self._labels[: sum(len(rows) for rows in self._rows[: self._joined])]

    @torch.no_grad()
    def clamp(self) -> None:
        """Back into the range of valid pixels."""
        for images in self.images[: self._joined]:
            torch.clamp(images, self._low, self._high, out=images)

    @torch.no_grad()
    def result(self) -> torch.Tensor:
        """The whole batch in its own order, float32 [B, 3, S, S]."""
        whole = torch.empty_like(self._start)
        for rows, images in zip(self._rows, self.images, strict=True):
            whole[rows] = resized(images.detach(), whole.shape[2])
        return whole

    @torch.no_grad()
    def _new_optimizer(self, side: int, residual: float) -> torch.optim.Adam:
        """Images at `side`, with a share of the start mixed in, under a fresh Adam (FADRM makes one a stage)."""
        mixed = []
        for rows, images in zip(self._rows, self.images, strict=True):
            new = resized(images.detach(), side)
            if residual > 0:
                new = (1 - residual) * new + residual * resized(self._start[rows], side)
            mixed.append(new.clone().requires_grad_(True))
        self.images = mixed
        return torch.optim.Adam(self.images, lr=self.recipe.learning_rate, betas=BETAS)


def resized(images: torch.Tensor, side: int) -> torch.Tensor:
    """Float images [B, 3, S, S] at another side, bilinear without antialiasing, as FADRM's code does it."""
    if images.shape[2] == side:
        return images
    return functional.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)


def pixel_range(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised values of the levels 0 and 255, float32 [1, 3, 1, 1] each."""
    mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1)
    return (0 - mean) / std, (1 - mean) / std


def to_levels(images: torch.Tensor) -> NDArray[np.uint8]:
    """Normalised float32 [B, 3, S, S] as uint8 [B, S, S, 3], rounded to the nearest level."""
    low, high = pixel_range(images.device)
    levels = ((images - low) / (high - low) * 255).round().clamp(0, 255)
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()


def noise_start(positions: Sequence[int], side: int, seed: int) -> torch.Tensor:
    """N(0, 1), float32 [B, 3, side, side]; an image depends on the seed and its position alone, not on its batch."""
    return torch.stack(list(_noise(positions, side, seed)))


def _noise(positions: Sequence[int], side: int, seed: int) -> Iterator[torch.Tensor]:
    for position in positions:
        generator = np.random.Generator(np.random.PCG64([seed, position]))
        yield torch.from_numpy(generator.standard_normal((3, side, side), np.float32))


def join_groups(ipc: int, positions: NDArray[np.int64], rounds: int) -> NDArray[np.int64]:
    """Group of every image: a class's images are split into `rounds` groups as equal as can be, larger ones first.

    Args:
        ipc: images of a class.
        positions: class-major positions, int64 [B].
        rounds: at least 1.

    Returns:
        int64 [B] in [0, rounds). DELT (Shen et al., CVPR 2025), early-late training.
    """
    sizes = np.full(rounds, ipc // rounds)
    sizes[: ipc % rounds] += 1
    return np.searchsorted(np.cumsum(sizes), positions % ipc, side="right").astype(np.int64)
