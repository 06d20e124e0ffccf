"""How well frozen networks recognise views of training images: one pass of an image set, in batches on the device."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fastdc.errors import MethodError
from fastdc.loader import Batch, ViewRequest, open_shared
from fastdc.nn.device import Compute
from fastdc.nn.teacher import Teacher
from fastdc.progress import progress


@torch.inference_mode()
def view_losses(
    path: Path,
    samples: NDArray[np.int64],
    requests: Sequence[ViewRequest],
    side: int,
    teachers: Sequence[Teacher],
    compute: Compute,
    *,
    batch_size: int,
    label: str,
    show_progress: bool = False,
) -> NDArray[np.float64]:
    """Cross-entropy of every view of every sample with the sample's class, natural logarithm.

    Every image is read and decoded once for all of its views. With several teachers the loss is that of their mean
    logits, as in EDC's code. A view smaller than `side` is put in the middle of a frame of the mean colour: zeros after
    normalising, as in RDED's code.

    Args:
        path: the beton.
        samples: int64 [n], distinct sample numbers; memory does not grow with the size of the images.
        requests: K views, none larger than `side`.
        side: of the images that the teachers get, in pixels.
        batch_size: views in a forward pass, about.
        label: what is being done, for the progress line.

    Returns:
        float64 [n, K], in the order of `samples`.

    Raises:
        MethodError: a loss is not finite, or memory does not suffice for `batch_size`.
        LoaderError: a sample cannot be decoded.
    """
    images = max(batch_size // len(requests), 1)
    losses = np.empty((samples.size, len(requests)))
    place = 0
    with (
        _memory(batch_size, side),
        open_shared(
            path,
            requests,
            batch_size=images,
            order_seed=0,
            shuffle=False,
            indices=samples,
            workers=compute.threads,
            device=compute.device,
        ) as loader,
        progress(label, samples.size, "images", show_progress) as bar,
    ):
        for batches in loader.epoch(0):
            found = _losses(batches, side, teachers, compute)
            losses[place : place + len(found)] = found
            place += len(found)
            bar.advance(len(found))
    _check_finite(losses, samples, teachers)
    return losses


def _losses(batches: Sequence[Batch], side: int, teachers: Sequence[Teacher], compute: Compute) -> NDArray[np.float64]:
    """Losses of one batch, float64 [B, K]."""
    views = torch.cat([_framed(compute.images(batch.images), side) for batch in batches])
    views = views.contiguous(memory_format=torch.channels_last)
    labels = batches[0].labels.to(compute.device).repeat(len(batches))
    with compute.autocast():
        logits = torch.stack([teacher.model(views).double() for teacher in teachers]).mean(0)
    # In float64, or all views that a good teacher is sure of (loss < 1e-7) would tie at 0.
    losses = functional.cross_entropy(logits, labels, reduction="none")
    return losses.view(len(batches), -1).T.cpu().numpy()


def _framed(images: torch.Tensor, side: int) -> torch.Tensor:
    """Images [B, 3, s, s] in the middle of [B, 3, side, side] zeros; an odd pixel goes below and to the right."""
    spare = side - images.shape[-1]
    low, high = spare // 2, spare - spare // 2
    return functional.pad(images, (low, high, low, high)) if spare else images


def _check_finite(losses: NDArray[np.float64], samples: NDArray[np.int64], teachers: Sequence[Teacher]) -> None:
    bad = np.flatnonzero(~np.isfinite(losses).all(axis=1))
    if bad.size:
        names = ", ".join(teacher.name for teacher in teachers)
        raise MethodError(
            f"teacher {names}: its loss on training image {samples[bad[0]]} is not finite, nor on {bad.size - 1} "
            "others; use another teacher, or precision fp32"
        )


@contextmanager
def _memory(batch_size: int, side: int) -> Iterator[None]:
    """Say what to lower when a forward pass does not fit."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not _is_memory(error):
            raise
        raise MethodError(
            f"out of memory with batch_size={batch_size} views of {side} px; lower the method's batch_size"
        ) from error


def _is_memory(error: RuntimeError) -> bool:
    """torch has a class for CUDA's memory, and words alone for the CPU's."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
