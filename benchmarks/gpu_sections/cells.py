"""Cells of the check: the ConvNet on ten images per class of Fashion-MNIST, as `fastdc evaluate` trains them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastdc.common.choices import Precision
from fastdc.train import EvaluateSettings, get_protocol
from fastdc.train.evaluation import evaluate
from gpu_sections.setup import Setup

ARCH = "convnet_w32"


def settings_of(
    epochs: int, seed: int, precision: Precision, changes: Mapping[str, Any] | None = None, **more: Any
) -> EvaluateSettings:
    """Return the settings of a cell.

    Args:
        changes: further changes of its protocol. more: further settings of the evaluation.
    """
    protocol = get_protocol("hard-small", {"epochs": epochs, "validate_every": epochs, **(changes or {})})
    return EvaluateSettings(**{"protocol": protocol, "arch": ARCH, "seed": seed, "precision": precision, **more})


def accuracy(setup: Setup, seed: int, precision: Precision, checkpoint: Path | None = None) -> float:
    """Train a cell and return its accuracy in percent; with a checkpoint, one is saved at every step."""
    settings = settings_of(setup.size.epochs, seed, precision)
    more: dict[str, Any] = {"checkpoint": checkpoint, "checkpoint_seconds": 0} if checkpoint else {}
    return evaluate(Path(setup.subset), Path(setup.val), settings, **more).top1


def native(setup: Setup) -> Precision:
    """Return the precision that `auto` chooses."""
    return "bf16" if setup.on_cuda else "fp32"


def reference(setup: Setup) -> list[float] | None:
    """Return the accuracies of the CPU in fp32 from the bundle, by seed, if they are of cells of this length."""
    path = Path(setup.reference)
    stored: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    same = (stored.get("arch"), stored.get("epochs")) == (ARCH, setup.size.epochs)
    return list(stored["top1"])[: setup.size.seeds] if same else None
