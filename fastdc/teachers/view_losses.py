"""Losses of frozen networks on views of training images, in one pass over the images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from fastdc.common.errors import MethodError, is_out_of_memory
from fastdc.common.log import progress
from fastdc.loader import Batch, LoaderRequest, ViewRequest, engine_for_part, open_stream
from fastdc.nn.device import Compute
from fastdc.teachers.network import Teacher


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
) -> NDArray[np.float64]:
    """Compute the cross-entropy (natural logarithm) of every view of every sample with the sample's class.

    Each image is read and decoded once for all of its views. With several teachers the loss is that of their mean
    logits, as in EDC's code. A view smaller than `side` is centred in a frame of the mean colour (zero after
    normalisation), as in RDED's code.

    Args:
        path: the beton.
        samples: int64 [n], distinct sample numbers; memory does not grow with the size of the images.
        requests: K views of one size, none larger than `side`.
        side: side of the teachers' input in pixels.
        batch_size: approximate number of views in a forward pass; at least one image's K views.
        label: text of the progress line.

    Returns:
        Losses, float64 [n, K], in the order of `samples`.

    Raises:
        MethodError: a loss is not finite, or memory does not suffice for `batch_size`.
        LoaderError: a sample cannot be decoded.
    """
    images = max(batch_size // len(requests), 1)
    losses = np.empty((samples.size, len(requests)))
    request = LoaderRequest(
        path,
        tuple(requests),
        batch_size=images,
        order_seed=0,
        indices=samples,
        engine=engine_for_part(path, requests[0].view, samples.size),
        workers=compute.threads,
        output="float32" if compute.device.type == "cpu" else "uint8",  # a quarter of the bytes to upload
        device=compute.device,
    )
    place = 0
    with (
        _memory(batch_size, side),
        open_stream(request) as loader,
        progress(label, samples.size, "images") as bar,
    ):
        most = min(images, samples.size) * len(requests)
        frame = torch.zeros((most, side, side, 3), device=compute.device).permute(0, 3, 1, 2)  # channels_last
        for batches in loader.epoch_views(0):
            found = _losses(batches, frame, teachers, compute)
            losses[place : place + len(found)] = found
            place += len(found)
            bar.advance(len(found))
    _check_finite(losses, samples, teachers)
    return losses


def _losses(
    batches: Sequence[Batch], frame: torch.Tensor, teachers: Sequence[Teacher], compute: Compute
) -> NDArray[np.float64]:
    """Compute the losses of one batch, float64 [B, K].

    Args:
        frame: zeros [at least K * B, 3, S, S]. The views are written into its middle; an odd pixel is left at the
            bottom and right. All batches reuse it, because allocating and clearing one takes longer than the views.
    """
    count = len(batches[0].labels)
    for number, batch in enumerate(batches):
        views = compute.images(batch.images)
        size = views.shape[-1]
        low = (frame.shape[-1] - size) // 2
        frame[number * count : (number + 1) * count, :, low : low + size, low : low + size] = views
    images, labels = frame[: count * len(batches)], batches[0].labels.to(compute.device).repeat(len(batches))
    logits = torch.stack([compute.logits(teacher.model, images).double() for teacher in teachers]).mean(0)
    # In float32, all views of which a good teacher is certain (loss < 1e-7) would tie at 0.
    losses = functional.cross_entropy(logits, labels, reduction="none")
    return losses.view(len(batches), -1).T.cpu().numpy()


def _check_finite(losses: NDArray[np.float64], samples: NDArray[np.int64], teachers: Sequence[Teacher]) -> None:
    bad = np.flatnonzero(~np.isfinite(losses).all(axis=1))
    if bad.size:
        names = ", ".join(teacher.name for teacher in teachers)
        raise MethodError(
            f"teacher {names}: its loss on training image {samples[bad[0]]} is not finite ({bad.size} such "
            f"image{'s' * (bad.size > 1)}); use another teacher, or precision fp32"
        )


@contextmanager
def _memory(batch_size: int, side: int) -> Iterator[None]:
    """Turn an out-of-memory error into one that names the setting to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise MethodError(
            f"out of memory with batch_size={batch_size} views of {side} px; lower the method's batch_size"
        ) from error
