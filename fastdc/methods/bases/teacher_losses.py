"""Losses of teachers on whole training images and on views of them. Torch is imported only where it runs."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import MethodError
from fastdc.common.files import atomic_file
from fastdc.common.keys import content_key
from fastdc.methods.bases.method import MethodContext
from fastdc.teachers.resources import Teaching

if TYPE_CHECKING:
    from fastdc.loader import ViewRequest
    from fastdc.teachers.network import Teacher

Losses = NDArray[np.float64]
Indices = NDArray[np.int64]
BATCH = 256
"""Images in a forward pass of the teachers, where a method has no setting for it; it affects only time, memory and
rounding."""


def teaching_of(context: MethodContext, name: str) -> Teaching:
    """Return the networks of a method that needs some.

    Raises:
        MethodError: the context has no teacher.
    """
    if context.teaching is None or not context.teaching.teachers:
        raise MethodError(f"method {name}: needs a teacher, the context has none; name one in the setting 'teachers'")
    return context.teaching


def image_losses(
    context: MethodContext,
    teachers: "Sequence[Teacher]",
    batch_size: int,
    label: str,
    *,
    resize: int = 0,
    samples: Indices | None = None,
) -> Losses:
    """Return the loss of whole training images, resized and cut to the central S x S pixels, float64 [n].

    Args:
        label: name of the task, for progress and messages.
        resize: shorter side after resizing, in pixels, at least S; 0 takes validation's, round(S * 256 / 224).
        samples: int64 [n], the images; None for all.
    """
    from fastdc.loader import EvalView, ViewRequest

    view = EvalView(context.image_size, resize)
    chosen = np.arange(context.labels.size) if samples is None else samples
    key: list[object] = ["whole", view.resize]
    found = scored_once(context, chosen, lambda: [ViewRequest(view)], key, teachers, batch_size, label)
    return found[:, 0]


def scored_once(
    context: MethodContext,
    samples: Indices,
    requests: "Callable[[], list[ViewRequest]]",
    key: list[object],
    teachers: "Sequence[Teacher]",
    batch_size: int,
    label: str,
) -> Losses:
    """Return `view_losses`, cached in the subset's scratch folder for a run that is killed and resumed.

    Args:
        samples: int64 [n], the images.
        requests: makes the views of every image; called only if the cache has no losses.
        key: plain data that identifies the requests.
        label: name of the task, for progress and messages.

    Returns:
        float64 [n, views], in the order of `samples`.
    """
    from fastdc.teachers.view_losses import view_losses

    teaching = teaching_of(context, label)
    # The batch size is part of the identity because rounding depends on it.
    identity = [key, context.image_size, batch_size, samples.tolist(), [teacher.identity for teacher in teachers]]
    path = teaching.scratch / f"losses-{content_key(identity)[:16]}.npy"
    with suppress(OSError, ValueError, EOFError):  # the file is missing or damaged: compute the losses again
        kept = np.load(path, allow_pickle=False)
        if isinstance(kept, np.ndarray) and kept.ndim == 2 and kept.dtype == np.float64 and len(kept) == len(samples):
            return kept
    order = np.argsort(samples, kind="stable")  # so that the beton is read from front to back
    found = view_losses(
        teaching.train,
        samples[order],
        requests(),
        context.image_size,
        teachers,
        teaching.compute,
        batch_size=batch_size,
        label=label,
    )
    losses = np.empty_like(found)
    losses[order] = found
    teaching.scratch.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as handle:
        np.save(handle, losses)
    return losses
