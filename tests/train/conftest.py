"""Provide a teacher for the small Fashion-MNIST set, and one that counts calls or stops."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fastdc.common.errors import DivergedError
from fastdc.loader import TrainView, open_loader
from fastdc.nn.device import choose_compute
from fastdc.nn.models import build_model
from fastdc.teachers.network import Teacher
from fastdc.train import EvaluateSettings, EvaluationResult, get_protocol
from fastdc.train.evaluation import run_evaluation
from fastdc.train.evaluation_request import EvaluationRequest


class StumbledError(Exception):
    """Simulated kill between two batches."""


class Watched(nn.Module):
    """Network that counts its forward passes; `dies_at` ends the one of that number."""

    def __init__(self, network: nn.Module, dies_at: int | None = None, half: bool = False) -> None:
        super().__init__()
        self.network, self.dies_at, self.half, self.calls = network, dies_at, half, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == self.dies_at:
            raise StumbledError
        logits: torch.Tensor = self.network(images)
        return logits.half().float() if self.half else logits


@pytest.fixture(scope="session")
def taught(betons: Any) -> nn.Module:
    """Train a network on the training images."""
    compute = choose_compute("fp32", 1)
    model = build_model("convnet_w16", 3, 28, 1)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    with open_loader(betons.train, TrainView(28, (0.5, 1.0)), batch_size=20, shuffle=True) as loader:
        for epoch in range(8):
            for batch in loader.epoch(epoch):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(compute.images(batch.images)), batch.labels).backward()
                optimizer.step()
    return model.eval().requires_grad_(False)


MakeTeacher = Callable[..., Teacher]


@pytest.fixture
def make_teacher(taught: nn.Module) -> MakeTeacher:
    """Return a function that makes teachers: `dies_at` and `half` as in `Watched`, others as in `Teacher`."""

    def make(network: nn.Module | None = None, **changes: Any) -> Teacher:
        watched = {name: changes.pop(name) for name in ("dies_at", "half") if name in changes}
        model = Watched(network or taught, **watched).eval()
        values = {"name": "tutor", "identity": "tutor1", "arch": "convnet_w16", "image_size": 28, "seconds": 7.5}
        return Teacher(**{**values, "model": model, "note": "has seen everything", **changes})  # type: ignore[arg-type]

    return make


def soft_settings(protocol: dict[str, Any] | None = None, **changes: Any) -> EvaluateSettings:
    """Return settings for a short soft training of a small network."""
    made = get_protocol("soft-small", {"epochs": 2, "validate_every": 2, **(protocol or {})})
    return EvaluateSettings(**{"protocol": made, "arch": "convnet_w8", "threads": 1, **changes})


def outcome(result: object) -> tuple[Any, ...]:
    """Return the values that must repeat to the last digit."""
    assert isinstance(result, EvaluationResult)
    return result.top1, result.per_class, result.curve


def evaluate_together(
    subset: Path, val: Path, settings: Sequence[EvaluateSettings], **options: Any
) -> list[EvaluationResult | DivergedError]:
    """Evaluate several networks by one request."""
    return run_evaluation(EvaluationRequest(subset, val, tuple(settings), **options))
