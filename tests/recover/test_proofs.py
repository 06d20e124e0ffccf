"""Recovered images are recognised by their teacher and by another network; noise is not.

The teacher is a small ConvNet with BatchNorm trained on 2,000 images of Fashion-MNIST; the other network has neither
BatchNorm nor pooling. Chance is 10 %.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fastdc.methods import Compressed, MethodConfig, MethodContext, MethodInfo, get_method
from fastdc.methods.bases.recovery_methods import RecoverMethod
from fastdc.methods.bases.recovery_starts import Start
from fastdc.nn.device import Compute
from fastdc.recover.recovery_job import BatchStart
from fastdc.recover.recovery_recipe import MatchingSpec, Presets, Recipe
from fastdc.teachers.network import Teacher

IPC = 2


def recognised(network: nn.Module, compressed: Compressed, compute: Compute) -> float:
    assert compressed.images is not None
    images = compute.images(torch.from_numpy(np.stack(list(compressed.images()))))
    with torch.no_grad():
        return float(100 * (network(images).argmax(1).numpy() == compressed.labels).mean())


@pytest.mark.parametrize("name", ["sre2l", "cda", "dwa", "delt", "fadrm"])
def test_classes_are_recognised(
    name: str, make_context: Callable[..., MethodContext], teacher: Teacher, other: nn.Module, compute: Compute
) -> None:
    method = get_method(name)
    config = method.configure({"preset": "cpu"})
    compressed = method.compress(make_context(), config, IPC, 0)
    assert compressed.labels.tolist() == np.repeat(range(10), IPC).tolist()
    assert recognised(teacher.model, compressed, compute) >= 95
    assert recognised(other, compressed, compute) >= 30
    assert compressed.details["recognised"] >= 95
    assert compressed.details["loss_end"] < compressed.details["loss_start"]
    assert compressed.details["recipe"]["iterations"] == 100
    assert method.reductions(config, 28)[0].startswith("100 instead of ")
    assert compressed.sources.shape[1] == (0 if name in ("sre2l", "cda") else 1)
    assert compressed.encoding == ("png" if name == "fadrm" else "jpg")


def test_rded_chooses_recognisable_crops(
    make_context: Callable[..., MethodContext], teacher: Teacher, other: nn.Module, compute: Compute
) -> None:
    """At this side a mosaic has one tile; random crops are recognised less well."""
    method, losses = get_method("rded"), []
    for settings in ({}, {"crops": 1, "pool": IPC}):
        made = method.compress(make_context(), method.configure(settings), IPC, 0)
        assert made.images is not None
        with torch.no_grad():
            logits = teacher.model(compute.images(torch.from_numpy(np.stack(list(made.images())))))
        losses.append(float(functional.cross_entropy(logits, torch.from_numpy(made.labels))))
        if not settings:
            assert recognised(teacher.model, made, compute) >= 95
            assert recognised(other, made, compute) >= 30
    assert losses[0] < losses[1] / 10


def test_noise_is_not(
    make_context: Callable[..., MethodContext], teacher: Teacher, other: nn.Module, compute: Compute
) -> None:
    method = get_method("noise")
    noise = method.compress(make_context(), method.configure({}), 10, 0)
    assert recognised(teacher.model, noise, compute) < 30
    assert recognised(other, noise, compute) < 30


class Stranger(RecoverMethod):
    """Plug-in of the family: dark starts, means alone, an extra loss, own networks."""

    info = MethodInfo(name="stranger", title="Stranger", family="distillation", paper="", year=2026, bibtex="")
    presets = Presets(*[Recipe(iterations=3, batch_size=5, learning_rate=0.01)] * 3)
    layout = "class_major"
    encoding = "png"

    def start(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Start:
        dark = np.full((28, 28, 3), 9, np.uint8)
        sources = np.arange(10 * ipc, dtype=np.int64)[:, None]
        return Start(sources, lambda: iter([dark] * len(sources)))

    def matching(self, recipe: Recipe) -> MatchingSpec:
        return MatchingSpec(variance_weight=0.0)

    def networks(self, teachers: Sequence[nn.Module], batch: BatchStart, recipe: Recipe) -> Sequence[nn.Module]:
        self.batches = [*getattr(self, "batches", []), tuple(batch.images.shape)]
        return teachers

    def extra_loss(self, images: torch.Tensor, labels: torch.Tensor, recipe: Recipe) -> torch.Tensor:
        return 1e4 * images.mean()


def test_a_plugin_method_is_its_hooks(make_context: Callable[..., MethodContext]) -> None:
    method = Stranger()
    compressed = method.compress(make_context(), method.configure({}), 2, 0)
    assert compressed.images is not None
    levels = np.stack(list(compressed.images()))
    assert levels.mean() < 9  # darker still: the extra loss outweighs the rest
    assert levels.max() <= 11  # 3 steps of at most 0.01 away from level 9
    assert method.batches == [(5, 3, 28, 28)] * 4
    assert (compressed.encoding, compressed.sources.shape) == ("png", (20, 1))


def test_dwa_without_adjustment_gives_other_images(make_context: Callable[..., MethodContext], tmp_path) -> None:  # type: ignore[no-untyped-def]
    """So images were optimised against the adjusted teachers."""
    method, images = get_method("dwa"), []
    for steps in (0, 3):
        context = make_context(scratch=tmp_path / str(steps))
        settings = {"iterations": 5, "steps": steps, "radius": 2.0}
        made = method.compress(context, method.configure(settings), 1, 0).images
        assert made is not None
        images.append(np.stack(list(made())).astype(int))
    assert np.abs(images[0] - images[1]).mean() > 1


def test_late_images_of_delt_stay_nearer_to_their_start(make_context: Callable[..., MethodContext]) -> None:
    method, context = get_method("delt"), make_context()
    config = method.configure({"iterations": 16, "rounds": 4})
    compressed = method.compress(context, config, 4, 0)
    assert compressed.images is not None
    assert isinstance(method, RecoverMethod)
    start = method.start(context, config, 4, 0)
    assert start is not None
    pairs = zip(compressed.images(), start.images(), strict=True)
    change = [np.abs(image.astype(int) - first.astype(int)).mean() for image, first in pairs]
    by_group = np.array(change).reshape(10, 4).mean(0)
    assert (np.diff(by_group) < 0).all()
