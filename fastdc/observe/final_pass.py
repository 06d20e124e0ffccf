"""Final pass of an observer: one forward pass of the trained network over the training set."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastdc.common.errors import DivergedError, MethodError
from fastdc.common.log import progress
from fastdc.kernels.scores.dynamics import batch_final
from fastdc.kernels.scores.fields import EXACT_FIELDS, FINAL_FIELDS
from fastdc.loader import EvalView, open_loader
from fastdc.nn.device import Compute
from fastdc.observe.final_outputs import EXACT_NAME, FEATURES_NAME, OUTPUTS_NAME, SCALARS_NAME, FinalPass, commit_final

BATCH = 256


def final_pass(
    train: Path,
    folder: Path,
    model: nn.Module,
    epoch: int,
    image_size: int,
    compute: Compute,
    *,
    outputs: bool,
    show_progress: bool = False,
) -> FinalPass:
    """Compute outputs and penultimate features of every image of `train`, and write them to `folder`.

    Images are seen as in validation (shorter side resized to 256/224 of `image_size`, then centre crop), in file
    order. The record therefore depends on the weights alone. A killed pass leaves no record of its own, and starts
    over; an earlier pass stays in place until the new one is complete.

    Args:
        model: trained network; left in eval mode.
        epoch: whole epochs of training before the pass.
        outputs: whether to keep every probability too, which takes 2 N C bytes.

    Raises:
        MethodError: the network has no linear layer.
        DivergedError: a logit is not finite, or a feature is not finite in float16.
    """
    start = time.monotonic()
    model.eval()
    with (
        open_loader(train, EvalView(image_size), batch_size=BATCH, device=compute.device) as loader,
        _Penultimate(model) as penultimate,
        progress(f"features of {train.name}", loader.num_samples, enabled=show_progress) as bar,
        torch.no_grad(),
    ):
        arrays: _Arrays | None = None
        for batch in loader.epoch(0):
            logits = compute.logits(model, compute.images(batch.images)).cpu()
            features = penultimate.take().float().cpu()
            if arrays is None:
                arrays = _Arrays(folder, loader.num_samples, features.shape[1], logits.shape[1], outputs)
            arrays.put(logits, features, batch.labels.cpu().numpy(), batch.indices.numpy())
            bar.advance(len(batch.indices))
    assert arrays is not None, "a loader has at least one batch"
    arrays.close()
    shape = (loader.num_samples, arrays.features.shape[1], arrays.num_classes)
    final = FinalPass(folder, epoch, time.monotonic() - start, *shape, outputs)
    commit_final(final)
    return final


class _Penultimate:
    """Context manager that captures the input of a network's last linear layer.

    Raises:
        MethodError: the network has no linear layer.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
        if not layers:
            raise MethodError(
                f"{type(model).__name__}: has no linear layer, expected one at its end; use another --arch"
            )
        self._layer = layers[-1]
        self._caught: torch.Tensor | None = None

    def __enter__(self) -> "_Penultimate":
        self._handle = self._layer.register_forward_pre_hook(self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _catch(self, _layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._caught = inputs[0]

    def take(self) -> torch.Tensor:
        """Return the features [B, D] of the latest batch."""
        assert self._caught is not None, "the network has run"
        return self._caught.flatten(1)


class _Arrays:
    """Arrays of the pass on disk, in `.part` files until they are complete."""

    def __init__(self, folder: Path, samples: int, width: int, classes: int, outputs: bool) -> None:
        self.num_classes = classes
        self.scalars = _create(folder / SCALARS_NAME, np.dtype("<f4"), (len(FINAL_FIELDS), samples))
        self.exact = _create(folder / EXACT_NAME, np.dtype("<f4"), (len(EXACT_FIELDS), samples))
        self.features = _create(folder / FEATURES_NAME, np.dtype("<f2"), (samples, width))
        self.outputs = _create(folder / OUTPUTS_NAME, np.dtype("<f2"), (samples, classes)) if outputs else None

    def put(
        self,
        logits: torch.Tensor,
        features: torch.Tensor,
        labels: NDArray[np.int64],
        indices: NDArray[np.int64],
    ) -> None:
        """Write one batch.

        Raises:
            DivergedError: a logit is not finite, or a feature is not finite in float16.
        """
        halved = features.half()
        if not (torch.isfinite(logits).all() and torch.isfinite(halved).all()):
            raise DivergedError("the observer's outputs or features are not finite; lower its lr or use fp32")
        scalars = np.empty((len(FINAL_FIELDS), len(indices)), np.float32)
        exact = np.empty((len(EXACT_FIELDS), len(indices)), np.float32)
        # The kernel's arrays hold this batch only, so its sample numbers are rows of the batch.
        batch_final(logits.numpy(), features.contiguous().numpy(), labels, np.arange(len(indices)), scalars, exact)
        self.scalars[:, indices], self.exact[:, indices] = scalars, exact
        self.features[indices] = halved.numpy()
        if self.outputs is not None:
            self.outputs[indices] = logits.softmax(dim=1).half().numpy()

    def close(self) -> None:
        """Flush all arrays to disk, then rename them over those of an earlier pass.

        The order matters: the earlier pass's record must never refer to a partly written file.
        """
        arrays = [self.scalars, self.exact, self.features, *([] if self.outputs is None else [self.outputs])]
        for array in arrays:
            array.flush()
        for array in arrays:
            part = Path(str(array.filename))
            os.replace(part, part.with_suffix(""))  # drops `.part`


def _create(path: Path, dtype: np.dtype[Any], shape: tuple[int, int]) -> "np.memmap[Any, Any]":
    part = path.with_name(f"{path.name}.part")  # `path` may be in use by a reader or a record
    with part.open("wb") as handle:
        os.posix_fallocate(handle.fileno(), 0, shape[0] * shape[1] * dtype.itemsize)  # fails now if the disk is full
    return np.memmap(part, dtype, "r+", shape=shape)
