"""LPLD, G-VBSM and EDC on small teachers of Fashion-MNIST."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fastdc.common.errors import ConfigError, MethodError
from fastdc.methods import Compressed, MethodContext
from fastdc.methods.bases.recovery_methods import RecoverMethod
from fastdc.methods.distillation.edc import EDC
from fastdc.methods.distillation.gvbsm import GVBSM, ConvolutionRecipe
from fastdc.methods.distillation.lpld import LPLD
from fastdc.nn.device import Compute
from fastdc.recover.image_losses import densification
from fastdc.recover.layer_statistics import Statistics
from fastdc.recover.recovery_recipe import MatchingSpec
from fastdc.recover.statistics_matching import Matching
from fastdc.teachers.network import Teacher
from tests.recover.conftest import CLASSES, SIDE

IPC = 3
METHODS = [LPLD(), GVBSM(), EDC()]
NAMES = [method.info.name for method in METHODS]
MakeContext = Callable[..., MethodContext]


def recover(method: RecoverMethod, context: MethodContext, ipc: int = IPC, **settings: Any) -> Compressed:
    return method.compress(context, method.configure({"preset": "cpu", **settings}), ipc, 0)


def statistics_of(method: RecoverMethod, context: MethodContext, **settings: Any) -> tuple[Statistics | None, ...]:
    return method.job(context, method.configure(settings), IPC, 0, None).statistics


def pixels(made: Compressed) -> np.ndarray:
    assert made.images is not None
    return np.stack(list(made.images()))


def recognised(model: nn.Module, made: Compressed, compute: Compute) -> float:
    """Return the percentage of images that a network assigns to their class."""
    with torch.no_grad():
        guesses = model(compute.images(torch.from_numpy(pixels(made)))).argmax(1)
    return 100 * float((guesses == torch.from_numpy(made.labels)).float().mean())


@pytest.mark.parametrize(("method", "iterations"), [(LPLD(), 100), (GVBSM(), 100), (EDC(), 60)], ids=NAMES)
def test_images_are_recognised_as_their_class(
    method: RecoverMethod,
    iterations: int,
    make_context: MakeContext,
    teacher: Teacher,
    other: nn.Module,
    compute: Compute,
) -> None:
    context = make_context()
    made = recover(method, context, ipc=6, iterations=iterations)
    assert made.labels.tolist() == [label for label in range(CLASSES) for _ in range(6)]
    assert pixels(made).shape == (CLASSES * 6, SIDE, SIDE, 3)
    assert recognised(teacher.model, made, compute) >= 95
    assert recognised(other, made, compute) >= 3 * 100 / CLASSES
    assert made.details["loss_end"] < made.details["loss_start"]
    assert made.sources.shape == (CLASSES * 6, 1 if method.info.name == "edc" else 0)
    assert (context.labels[made.sources] == made.labels[:, None]).all()


def test_classes_of_lpld_have_their_own_statistics(
    make_context: MakeContext, teacher: Teacher, compute: Compute
) -> None:
    """With a large weight of statistics, images are nearest to those of their own class."""
    method, given = LPLD(), make_context()
    made = recover(method, given, ipc=4, matching_weight=1.0, iterations=80)
    (statistics,) = statistics_of(method, given)
    images = compute.images(torch.from_numpy(pixels(made)))
    nearest = []
    with Matching(teacher.model, MatchingSpec(statistics="class"), statistics) as matching, torch.no_grad():
        for label in range(CLASSES):
            teacher.model(images[made.labels == label])
            nearest.append(int(np.argmin([float(matching.loss(torch.tensor([c]))) for c in range(CLASSES)])) == label)
    assert sum(nearest) >= 8


@pytest.mark.parametrize("method", METHODS[:2], ids=NAMES[:2])
def test_a_resumed_recovery_equals_an_undisturbed_one(
    method: RecoverMethod, make_context: MakeContext, tmp_path: Path
) -> None:
    settings = {"iterations": 4, "batch_size": 10}
    whole = pixels(recover(method, make_context(scratch=tmp_path / "whole"), **settings))
    scratch = tmp_path / "halves"
    recover(method, make_context(scratch=scratch), **settings)
    kept = {path: path.stat().st_mtime_ns for path in scratch.glob("statistics_*")}
    batches = sorted(scratch.glob("recover_*/batch_*.npy"))
    assert len(kept) == 1
    assert len(batches) >= 3
    for path in batches[1:]:
        path.unlink()
    assert np.array_equal(pixels(recover(method, make_context(scratch=scratch), **settings)), whole)
    assert kept == {path: path.stat().st_mtime_ns for path in scratch.glob("statistics_*")}


def test_teachers_alternate_and_one_may_lack_batch_norm(
    make_context: MakeContext, teacher: Teacher, other: nn.Module, compute: Compute
) -> None:
    plain = Teacher("plain", "plain teacher", "other", other, SIDE, 0.0)
    made = recover(GVBSM(), make_context(teacher, plain), ipc=2)
    assert recognised(teacher.model, made, compute) >= 95
    assert recognised(other, made, compute) >= 95
    with pytest.raises(MethodError, match="no BatchNorm"):
        recover(LPLD(), make_context(teacher, plain))


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
def test_too_little_memory_in_the_pass_over_the_set_is_reported(
    method: RecoverMethod, make_context: MakeContext, teacher: Teacher
) -> None:
    class Greedy(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.new_zeros(2**50)

    greedy = Teacher("greedy", "greedy", "greedy", nn.Sequential(*teacher.model, Greedy()).eval(), SIDE, 0.0)
    context = make_context(greedy)
    with pytest.raises(MethodError, match="do not fit into memory with teacher greedy"):
        statistics_of(method, context)
    assert context.teaching is not None
    assert not list(context.teaching.scratch.glob("statistics_*"))


def test_densification_is_a_separate_term() -> None:
    method, labels = GVBSM(), torch.tensor([0, 0, 0])

    def recipe_of(weight: float) -> ConvolutionRecipe:
        return method.recipe(method.configure({"densification": weight}), SIDE)

    images = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 0.03
    found = method.extra_loss(images, labels, recipe_of(2.5))
    assert found is not None
    assert float(found) == pytest.approx(2.5 * float(densification(images, labels)))
    assert float(found) > 0
    assert method.extra_loss(images, labels, recipe_of(0)) is None


@pytest.mark.parametrize(("method", "layer"), [(LPLD(), "1"), (EDC(), "0")], ids=["lpld", "edc"])
def test_released_statistics_lack_the_part_between_images(
    method: RecoverMethod, layer: str, make_context: MakeContext
) -> None:
    exact, released = (statistics_of(method, make_context(), statistics=kind)[0] for kind in ("exact", "released"))
    assert exact is not None
    assert released is not None
    names = [f"{layer}/channel/class/{field}" for field in ("mean", "variance")]
    assert torch.equal(exact.tensors[names[0]], released.tensors[names[0]])
    assert (exact.tensors[names[1]] > released.tensors[names[1]]).all()
    with pytest.raises(ConfigError, match="statistics"):
        method.configure({"statistics": "none"})


def test_presets_equal_the_scripts_and_reductions_are_reported() -> None:
    recipe = GVBSM().recipe(GVBSM().configure({}), 224)
    assert isinstance(recipe, ConvolutionRecipe)
    assert (recipe.learning_rate, recipe.batch_size, recipe.ema, recipe.patch, recipe.densification) == (
        0.1,
        80,
        0.4,
        16,
        1,
    )
    small = GVBSM().recipe(GVBSM().configure({"ema": 0.5, "patch": 8}), 64)
    assert isinstance(small, ConvolutionRecipe)
    assert (small.learning_rate, small.ema, small.patch) == (0.05, 0.5, 8)
    reductions = EDC().reductions(EDC().configure({"preset": "cpu"}), 224)
    assert reductions == ("100 instead of 1,000 iterations", "1 instead of 5 teachers")
    assert not [each for each in GVBSM().reductions(GVBSM().configure({"learning_rate": 0.5}), 224) if "rate" in each]
    assert "learning rate 0.05 instead of 0.1" in GVBSM().reductions(GVBSM().configure({"learning_rate": 0.05}), 224)
    reductions = GVBSM().reductions(GVBSM().configure({"preset": "cpu", "teachers": "a,b,c,d,e"}), 64)
    assert reductions == (
        "100 instead of 4,000 iterations",
        "learning rate 0.25 instead of 0.05",
        "jitter 8 instead of 32",
    )
    assert LPLD().reductions(LPLD().configure({}), 224) == ()
