"""The engine: the loop against an independent one in float64; kills, damage, NaN and short memory."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.transforms import functional as vision

from fastdc.common.errors import DivergedError, MethodError
from fastdc.common.keys import derive_seed
from fastdc.common.normalisation import IMAGENET_MEAN, IMAGENET_STD
from fastdc.methods import MethodContext
from fastdc.nn.device import Compute
from fastdc.nn.models import build_model
from fastdc.recover.engine import joining, recover
from fastdc.recover.pixels import PixelBatch, noise_start
from fastdc.recover.recovery_job import RecoverJob
from fastdc.recover.recovery_recipe import MatchingSpec, Recipe
from fastdc.recover.shared_view import draw_view
from fastdc.teachers.network import Teacher, freeze
from fastdc.teachers.resources import Teaching

RECIPE = Recipe(iterations=6, jitter=2, batch_size=4)


class KilledError(Exception):
    """Simulated kill in the middle of an iteration."""


def make_job(recipe: Recipe = RECIPE, **changes: Any) -> RecoverJob:
    job = RecoverJob("test", 10, 2, 28, 3, recipe, "across", MatchingSpec())
    return replace(job, **changes)


@pytest.fixture
def teaching(make_context: Callable[..., MethodContext]) -> Teaching:
    found = make_context().teaching
    assert found is not None
    return found


def images_of(job: RecoverJob, teaching: Teaching) -> np.ndarray:
    return np.stack(list(recover(job, teaching).images()))


def reference(job: RecoverJob, teacher: Teacher) -> np.ndarray:
    """Run the paper's SRe2L in float64, without the engine: levels [M, 28, 28, 3] before rounding."""
    model = build_model(teacher.arch, 10, 28, 0).double()
    model.load_state_dict({name: value.double() for name, value in teacher.model.state_dict().items()})
    model.eval().requires_grad_(False)
    norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    inputs: list[torch.Tensor] = []
    for layer in norms:
        layer.register_forward_pre_hook(lambda _layer, given: inputs.append(given[0]))
    mean = torch.tensor(IMAGENET_MEAN).double().view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD).double().view(1, 3, 1, 1)
    out = np.empty((20, 28, 28, 3))
    recipe, batch = job.recipe, 0
    for index in range(2):
        for first in range(0, 10, 4):
            labels = torch.arange(first, min(first + 4, 10))
            positions = (labels * 2 + index).tolist()
            images = noise_start(positions, 28, derive_seed(3, "recover start")).double().requires_grad_(True)
            moment, square = torch.zeros_like(images), torch.zeros_like(images)
            for step in range(recipe.iterations):
                view = draw_view(recipe, derive_seed(3, "recover views"), batch, step, 28)
                seen = vision.resized_crop(images, *view.box, [28, 28], antialias=False)
                seen = torch.roll(vision.hflip(seen) if view.mirror else seen, view.roll, (2, 3))
                inputs.clear()
                loss = functional.cross_entropy(model(seen), labels)
                for number, (layer, given) in enumerate(zip(norms, inputs, strict=True)):
                    own_mean = given.mean((0, 2, 3))
                    own_variance = (given - own_mean.view(1, -1, 1, 1)).square().mean((0, 2, 3))
                    gap = (own_mean - layer.running_mean).square().sum().sqrt()
                    gap = gap + (own_variance - layer.running_var).square().sum().sqrt()
                    loss = loss + recipe.matching_weight * gap * (10 if number == 0 else 1)
                (gradient,) = torch.autograd.grad(loss, images)
                rate = recipe.learning_rate * 0.5 * (1 + np.cos(np.pi * step / recipe.iterations))
                moment = 0.5 * moment + 0.5 * gradient
                square = 0.9 * square + 0.1 * gradient**2
                change = moment / (1 - 0.5 ** (step + 1)) / ((square / (1 - 0.9 ** (step + 1))).sqrt() + 1e-8)
                images = torch.minimum(torch.maximum(images.detach() - rate * change, -mean / std), (1 - mean) / std)
                images.requires_grad_(True)
            out[positions] = ((images.detach() * std + mean) * 255).permute(0, 2, 3, 1).numpy()
            batch += 1
    return out


def test_loop_equals_sre2l(teaching: Teaching) -> None:
    job = make_job(Recipe(iterations=6, jitter=2, batch_size=4, matching_weight=0.5))
    difference = np.abs(images_of(job, teaching) - reference(job, teaching.teachers[0]))
    assert (
        np.mean(difference < 0.51) > 0.99
    )  # half a level is rounding; Adam enlarges float32's noise where g is near 0
    other = images_of(make_job(Recipe(iterations=6, jitter=2, batch_size=4, matching_weight=0.0)), teaching)
    assert np.abs(other - reference(job, teaching.teachers[0])).mean() > 1


@pytest.mark.parametrize("calls", [1, 9, 30])
def test_killed_recovery_resumes_bit_equal(teaching: Teaching, tmp_path: Path, calls: int) -> None:
    undisturbed = images_of(make_job(), replace(teaching, scratch=tmp_path.with_name("undisturbed")))
    left = [calls]

    def kill(_images: torch.Tensor, _labels: torch.Tensor) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KilledError

    with pytest.raises(KilledError):
        recover(make_job(extra_loss=kill), teaching)
    files = sorted(path.name for path in teaching.scratch.rglob("*.npy"))
    assert len(files) == (calls - 1) // 6  # at most the current batch is lost
    torch.manual_seed(99)
    np.random.seed(99)
    ran: list[int] = []
    resumed = images_of(make_job(extra_loss=lambda _images, labels: ran.append(len(labels))), teaching)
    np.testing.assert_array_equal(resumed, undisturbed)
    assert len(ran) == 36 - 6 * len(files)
    assert not list(teaching.scratch.rglob("*.tmp"))


def test_damaged_batch_is_made_again(teaching: Teaching) -> None:
    first = images_of(make_job(), teaching)
    files = sorted(teaching.scratch.rglob("*.npy"))
    files[0].write_bytes(files[0].read_bytes()[:500])
    files[1].with_suffix(".json").write_text("{")
    files[2].unlink()
    np.testing.assert_array_equal(images_of(make_job(), teaching), first)


def test_seed_and_recipe_determine_the_batches(teaching: Teaching) -> None:
    first = images_of(make_job(), teaching)
    assert not np.array_equal(images_of(make_job(seed=4), teaching), first)
    assert not np.array_equal(images_of(make_job(replace(RECIPE, jitter=0)), teaching), first)
    np.testing.assert_array_equal(images_of(make_job(), teaching), first)


def test_nan_is_reported_with_its_place(teaching: Teaching) -> None:
    seen: list[int] = []

    def poison(images: torch.Tensor, _labels: torch.Tensor) -> torch.Tensor:
        seen.append(1)
        return images.sum() * (float("nan") if len(seen) == 6 + 4 else 0.0)

    with pytest.raises(DivergedError, match=r"method test: batch 2 of 6: .* iteration 4 of 6; lower learning_rate"):
        recover(make_job(extra_loss=poison), teaching)
    assert len(list(teaching.scratch.rglob("*.npy"))) == 1


def test_nan_of_the_last_gradient_is_reported(teaching: Teaching) -> None:
    seen: list[int] = []

    def poison(images: torch.Tensor, _labels: torch.Tensor) -> torch.Tensor:
        seen.append(1)
        return (0 * images).sum().sqrt() if len(seen) == 6 else images.sum() * 0  # value 0, gradient 0 x infinity

    with pytest.raises(DivergedError, match="batch 1 of 6: the last iteration left images that are not finite"):
        recover(make_job(extra_loss=poison), teaching)
    assert not list(teaching.scratch.rglob("*.npy"))


def test_fp16_that_skips_every_step_is_reported(teaching: Teaching, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are finite but gradients never are: the images would never change, and pass as recovered."""

    def endless(images: torch.Tensor, _labels: torch.Tensor) -> torch.Tensor:
        return (0 * images).sum().sqrt()  # value 0, gradient 0 x infinity

    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-8)
    monkeypatch.setattr(Compute, "scaler", lambda _: scaler)
    with pytest.raises(DivergedError, match=r"gradients are not finite at any scale up to iteration 6 of 6"):
        recover(make_job(extra_loss=endless), teaching)
    assert not list(teaching.scratch.rglob("*.npy"))


def test_teacher_of_nan_is_refused_before_the_first_iteration(teaching: Teaching, teacher: Teacher) -> None:
    model = build_model("convnet_w16", 10, 28, 0)
    model.load_state_dict(teacher.model.state_dict())
    with torch.no_grad():
        next(model.parameters())[0, 0, 0, 0] = float("nan")
    broken = replace(teacher, model=freeze(model, torch.device("cpu")))
    with pytest.raises(DivergedError, match="batch 1 of 6: a teacher's loss on whole images is not finite"):
        recover(make_job(), replace(teaching, teachers=(broken,)))


def test_the_error_about_memory_names_the_setting(teaching: Teaching) -> None:
    def greedy(images: torch.Tensor, _labels: torch.Tensor) -> torch.Tensor:
        return images.sum() * torch.empty(10**15)[0]

    with pytest.raises(MethodError, match=r"method test: batch 1 of 6 does not fit .* batch_size=4; lower batch_size"):
        recover(make_job(extra_loss=greedy), teaching)


def test_too_little_memory_for_one_image_is_reported(teaching: Teaching, teacher: Teacher) -> None:
    class Greedy(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.new_zeros(2**50)

    greedy = replace(teacher, model=torch.nn.Sequential(*teacher.model, Greedy()).eval())
    with pytest.raises(MethodError, match="not even one image of 28 px fits into memory with teacher small"):
        recover(make_job(), replace(teaching, teachers=(greedy,)))


def test_other_runtime_errors_are_not_hidden(teaching: Teaching) -> None:
    def wrong(images: torch.Tensor, _labels: torch.Tensor) -> torch.Tensor:
        return images @ torch.zeros(3, 3)

    with pytest.raises(RuntimeError, match="shape"):
        recover(make_job(extra_loss=wrong), teaching)


def test_teachers_take_turns(teaching: Teaching, teacher: Teacher) -> None:
    """With an untrained second teacher, the first one still gets half of the iterations."""
    calls: list[str] = []
    second = freeze(build_model("convnet_w8", 10, 28, 1), torch.device("cpu"))
    for name, model in (("first", teacher.model), ("second", second)):
        model.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
    both = (teacher, replace(teacher, model=second, identity="second"))
    recover(make_job(replace(RECIPE, batch_size=20)), replace(teaching, teachers=both))
    batch = ["first", "second"] * 5  # whole images before, six iterations, whole images after
    assert calls == ["first", "second"] + batch * 2  # one pass each to check the side of images


def test_groups_join_late_with_moments_of_their_own() -> None:
    """A group that joins late moves as if it were alone from its first iteration on."""
    recipe = Recipe(iterations=8, rounds=4, learning_rate=0.1)
    start = torch.zeros(4, 3, 4, 4)
    pixels = PixelBatch(start, torch.arange(4), np.arange(4), recipe)
    target = noise_start(range(4), 4, 0).clamp(-1, 1)
    sizes = []
    for iteration in range(8):
        images = pixels.at(iteration)
        sizes.append(len(images))
        (images - target[pixels.labels()]).square().sum().backward()
        pixels.optimizer.step()
        pixels.optimizer.zero_grad(set_to_none=True)
    assert sizes == [1, 1, 2, 2, 3, 3, 4, 4]
    last = start[3].clone().requires_grad_(True)
    alone = torch.optim.Adam([last], betas=(0.5, 0.9))
    for iteration in (6, 7):
        alone.param_groups[0]["lr"] = recipe.learning_rate_at(iteration)
        alone.zero_grad()
        (last - target[3]).square().sum().backward()
        alone.step()
    torch.testing.assert_close(pixels.result()[3], last.detach())


def test_batch_of_only_late_groups_is_shorter() -> None:
    recipe = Recipe(iterations=80, rounds=8)
    groups, whole = joining(recipe, 16, np.arange(16))
    assert (groups.max(), whole.iterations, whole.join_every) == (7, 80, 10)
    groups, late = joining(recipe, 16, np.arange(8, 16))
    assert (groups.tolist(), late.iterations, late.join_every) == ([0, 0, 1, 1, 2, 2, 3, 3], 40, 10)


def test_stages_change_the_side_and_mix_the_start_in() -> None:
    start = noise_start([0, 1], 28, 0)
    recipe = Recipe(iterations=4, stages=(200 / 224, 1.0), residual=0.25)
    pixels = PixelBatch(start, torch.arange(2), np.zeros(2, np.int64), recipe)
    assert pixels.at(0).shape[2] == 25
    small = functional.interpolate(start, (25, 25), mode="bilinear", align_corners=False)
    torch.testing.assert_close(pixels.at(1).detach(), small)
    large = functional.interpolate(small, (28, 28), mode="bilinear", align_corners=False)
    torch.testing.assert_close(pixels.at(2).detach(), 0.75 * large + 0.25 * start)
    torch.testing.assert_close(pixels.result(), 0.75 * large + 0.25 * start)


class _OneSide(nn.Module):
    """Network that asserts its side, as torchvision's vision transformers do."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[2] == 64, "Wrong image height!"
        return images.mean((2, 3))


def test_teacher_that_asserts_its_side_is_refused(teaching: Teaching) -> None:
    one = replace(teaching, teachers=(replace(teaching.teachers[0], model=_OneSide()),))
    with pytest.raises(MethodError, match=r"takes no images of 28 px, .*trained at 28"):
        recover(make_job(RECIPE), one)


def test_teacher_of_another_side_is_refused(teaching: Teaching) -> None:
    with pytest.raises(MethodError, match=r"teacher small \(convnet_w16\) takes no images of 14 px, .*trained at 28"):
        recover(make_job(replace(RECIPE, stages=(0.5, 1.0))), teaching)
    assert not list(teaching.scratch.rglob("*.npy"))
