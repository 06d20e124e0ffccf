"""Trainings that share one stream: each ends as it would alone, also after a kill or the divergence of another."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fastdc.common.errors import CheckpointError
from fastdc.loader import Batch, Loader, LoaderRequest, TrainView, ViewRequest, open_loader, open_stream
from fastdc.nn import fit as fit_module
from fastdc.nn import fit_loop
from fastdc.nn.device import choose_compute
from fastdc.nn.fit import Fit
from fastdc.nn.fit_loop import join_lone_sample, run_fit, run_fits, steps_per_epoch
from fastdc.nn.fit_plan import FitPlan
from fastdc.nn.models import build_model, decay_weights_only
from tests.nn.test_fit import KilledError, Listener, weights

ORDER, SEEDS, BATCH = 9, (5, 6), 17  # 120 = 7 * 17 + 1: the last sample joins the seventh batch


def make_fit(seed: int, width: int, listener: Listener, checkpoint: Path | None = None, loss: Any = None) -> Fit:
    model = build_model(f"convnet_w{width}", 3, 28, seed)
    model.insert(3, nn.Dropout(0.2))  # type: ignore[operator]  # draws from torch's generator, which all share
    plan = FitPlan(
        epochs=3,
        steps=7,
        learning_rate=lambda epoch, step, steps: 0.01 / (1 + epoch * steps + step),
        loss=loss or nn.functional.cross_entropy,
        seed=seed,
        checkpoint=checkpoint,
        identity="test",
        checkpoint_seconds=0,
    )
    optimizer = torch.optim.AdamW(decay_weights_only(model, 0.01))
    return Fit(model, optimizer, choose_compute("fp32", 1), plan, listener)


def shared(train: Path) -> Loader:
    requests = tuple(ViewRequest(TrainView(28), seed) for seed in SEEDS)
    return open_stream(LoaderRequest(train, requests, batch_size=BATCH, order_seed=ORDER, shuffle=True))


def alone(train: Path, seed: int, width: int) -> tuple[list[float], torch.Tensor]:
    listener = Listener()
    fit = make_fit(seed, width, listener)
    with open_loader(train, TrainView(28), batch_size=BATCH, seed=seed, order_seed=ORDER, shuffle=True) as loader:
        assert steps_per_epoch(loader) == fit.plan.steps
        run_fit(fit, loader)
    return listener.losses, weights(fit)


@pytest.fixture(scope="module")
def expected(betons: Any) -> list[tuple[list[float], torch.Tensor]]:
    return [alone(betons.train, seed, width) for seed, width in zip(SEEDS, (8, 12), strict=True)]


def run_together(train: Path, listeners: list[Listener], **changes: Any) -> tuple[list[Fit], list[Any]]:
    files = changes.get("checkpoints", (None, None))
    losses = changes.get("losses", (None, None))
    fits = [
        make_fit(seed, width, listener, file, loss)
        for seed, width, listener, file, loss in zip(SEEDS, (8, 12), listeners, files, losses, strict=True)
    ]
    with shared(train) as stream:
        assert steps_per_epoch(stream) == 7
        return fits, run_fits(fits, stream)


def test_each_ends_as_it_would_alone(betons: Any, expected: list[tuple[list[float], torch.Tensor]]) -> None:
    listeners = [Listener(), Listener()]
    fits, faults = run_together(betons.train, listeners)
    assert faults == [None, None]
    for fit, listener, (losses, values) in zip(fits, listeners, expected, strict=True):
        assert listener.losses == losses
        assert torch.equal(weights(fit), values)
        assert fit.seconds > 0


class SlowStream:
    """Stream whose batches take a second each, by a clock that nothing else moves."""

    def __init__(self, stream: Loader) -> None:
        self.stream, self.now = stream, 0.0

    def monotonic(self) -> float:
        return self.now

    def epoch_views(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, ...]]:
        for batches in self.stream.epoch_views(epoch, start):
            self.now += 1
            yield batches


def test_only_runs_that_train_are_charged_for_the_wait(betons: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One run diverges in the first step, before which two of the 8 batches of an epoch are read."""
    fits = [make_fit(5, 8, Listener(), loss=failing_from(1)), make_fit(6, 8, Listener())]
    with shared(betons.train) as stream:
        slow = SlowStream(stream)
        for module in (fit_module, fit_loop):
            monkeypatch.setattr(module, "time", slow)
        faults = run_fits(fits, slow)
    assert [fault is None for fault in faults] == [False, True]
    assert [fit.seconds for fit in fits] == [1, 3 * 8 - 1]


@pytest.mark.parametrize(("first", "second"), [(3, None), (None, 9), (20, None)])
def test_runs_killed_at_different_steps_resume_together(
    betons: Any,
    tmp_path: Path,
    expected: list[tuple[list[float], torch.Tensor]],
    first: int | None,
    second: int | None,
) -> None:
    files = [tmp_path / "a.pt", tmp_path / "b.pt"]
    with pytest.raises(KilledError):  # one is killed in the middle of a step, the other has taken more or fewer steps
        run_together(betons.train, [Listener(first), Listener(second)], checkpoints=files)
    listeners = [Listener(), Listener()]
    fits, faults = run_together(betons.train, listeners, checkpoints=files)
    assert faults == [None, None]
    for fit, listener, (losses, values) in zip(fits, listeners, expected, strict=True):
        assert listener.losses == losses
        assert torch.equal(weights(fit), values)
        assert listener.seen < 21  # it resumed and did not start over


def failing_from(step: int) -> Callable[..., torch.Tensor]:
    calls = 0

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return nn.functional.cross_entropy(logits, labels) * (float("nan") if calls >= step else 1.0)

    return loss


def test_one_that_diverges_does_not_disturb_the_other(
    betons: Any, expected: list[tuple[list[float], torch.Tensor]]
) -> None:
    listeners = [Listener(), Listener()]
    fits, faults = run_together(betons.train, listeners, losses=(failing_from(10), None))
    assert "loss is nan in epoch 2, step 3" in str(faults[0])
    assert faults[1] is None
    assert torch.equal(weights(fits[1]), expected[1][1])


def test_a_damaged_checkpoint_ends_all_before_any_step(betons: Any, tmp_path: Path) -> None:
    damaged = tmp_path / "b.pt"
    damaged.write_bytes(b"half a checkpoint")
    listeners = [Listener(), Listener()]
    with pytest.raises(CheckpointError):
        run_together(betons.train, listeners, checkpoints=(None, damaged))
    assert [listener.seen for listener in listeners] == [0, 0]


class Counted:
    """Stream that counts its batches."""

    def __init__(self, loader: Loader) -> None:
        self.loader, self.given = loader, 0

    def epoch_views(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, ...]]:
        for batches in self.loader.epoch_views(epoch, start):
            self.given += 1
            yield batches


def test_no_batch_is_made_after_every_run_has_diverged(betons: Any) -> None:
    fits = [make_fit(seed, 8, Listener(), loss=failing_from(step)) for seed, step in zip(SEEDS, (1, 3), strict=True)]
    with shared(betons.train) as stream:
        counted = Counted(stream)
        faults = run_fits(fits, counted)
    assert [str(fault).partition(",")[0] for fault in faults] == ["loss is nan in epoch 1"] * 2
    assert counted.given == 4, "three steps, and the batch that might be a lone sample"


def batches(sizes: list[int]) -> Iterator[Batch]:
    start = 0
    for size in sizes:
        indices = torch.arange(start, start + size)
        yield Batch(torch.zeros(size, 2, 2, 3, dtype=torch.uint8), indices % 2, indices)
        start += size


@pytest.mark.parametrize(
    ("sizes", "expected"), [([3, 3, 1], [3, 4]), ([3, 3, 2], [3, 3, 2]), ([1], [1]), ([1, 1, 1], [1, 1, 1]), ([], [])]
)
def test_a_single_last_sample_joins_the_previous_batch(sizes: list[int], expected: list[int]) -> None:
    joined = list(join_lone_sample(zip(batches(sizes), batches(sizes), strict=True)))
    for k in range(2):
        assert [len(pair[k].labels) for pair in joined] == expected
        if joined:
            assert torch.cat([pair[k].indices for pair in joined]).tolist() == list(range(sum(sizes)))
