"""Final pass of an observer: one forward pass of the trained network over the training set."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastdc.common.errors import DivergedError, MethodError
from fastdc.common.files import reserve
from fastdc.common.log import progress
from fastdc.kernels.scores.dynamics import batch_final
from fastdc.kernels.scores.fields import EXACT_FIELDS, FINAL_FIELDS
from fastdc.loader import EvalView, open_loader
from fastdc.nn.device import Compute
from fastdc.observe.final_outputs import EXACT_NAME, FEATURES_NAME, OUTPUTS_NAME, SCALARS_NAME, FinalPass, commit_final
from fastdc.observe.observer_config import ObserverConfig

BATCH = 256


def final_pass(
    train: Path,
    folder: Path,
    model: nn.Module,
    config: ObserverConfig,
    compute: Compute,
    *,
    outputs: bool,
) -> FinalPass:
    """Compute outputs and penultimate features of every image of `train`, and write them to `folder`.

    Images are seen as in validation (shorter side resized to 256/224 of the training side, then centre crop), in file
    order. The record therefore depends on the weights alone. A killed pass leaves no record of its own, and starts
    over; an earlier pass stays in place until the new one is complete.

    Args:
        model: network at the end of the schedule; left in eval mode.
        outputs: whether to keep every probability too, which takes 2 N C bytes.

    Raises:
        MethodError: the network has no linear layer.
        DivergedError: a logit is not finite, or a feature is not finite in float16.
    """
    start = time.monotonic()
    model.eval()
    with (
        open_loader(train, EvalView(config.image_size), batch_size=BATCH, device=compute.device) as loader,
        _Penultimate(model) as penultimate,
        progress(f"features of {train.name}", loader.num_samples) as bar,
        torch.no_grad(),
    ):
        arrays: _Arrays | None = None
        for batch in loader.epoch(0):
            logits = compute.logits(model, compute.images(batch.images)).cpu()
            features = penultimate.take().float().cpu()
            if arrays is None:
                width, classes = features.shape[1], logits.shape[1]
                arrays = _Arrays(FinalPass(folder, config.epochs, 0.0, loader.num_samples, width, classes, outputs))
            arrays.put(logits, features, batch.labels.cpu().numpy(), batch.indices.numpy())
            bar.advance(len(batch.indices))
    assert arrays is not None, "a loader has at least one batch"
    arrays.close()
    final = replace(arrays.final, seconds=time.monotonic() - start)
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

    def __init__(self, final: FinalPass) -> None:
        self.final = final
        self._files = {name: _create(final.folder / name, *file) for name, file in final.files().items()}

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
        self._files[SCALARS_NAME][:, indices], self._files[EXACT_NAME][:, indices] = scalars, exact
        self._files[FEATURES_NAME][indices] = halved.numpy()
        if self.final.has_outputs:
            self._files[OUTPUTS_NAME][indices] = logits.softmax(dim=1).half().numpy()

    def close(self) -> None:
        """Flush all arrays to disk, then rename them over those of an earlier pass.

        The order matters: the earlier pass's record must never refer to a partly written file.
        """
        for array in self._files.values():
            array.flush()
        for name in self._files:
            os.replace(_part(self.final.folder / name), self.final.folder / name)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")  # `path` may be in use by a reader or a record


def _create(path: Path, dtype: str, shape: tuple[int, int]) -> "np.memmap[Any, Any]":
    reserve(_part(path), shape[0] * shape[1] * np.dtype(dtype).itemsize)
    return np.memmap(_part(path), dtype, "r+", shape=shape)
