"""The training loop: resume is bit-equal, a NaN never reaches the weights, no sample is lost."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fastdc.common.errors import CheckpointError, DivergedError
from fastdc.loader import Batch, Loader, TrainView, open_loader
from fastdc.nn.device import choose_compute
from fastdc.nn.fit import Fit
from fastdc.nn.fit_loop import run_fit, steps_per_epoch
from fastdc.nn.fit_plan import FitPlan, Recorder
from fastdc.nn.models import build_model, decay_weights_only
from fastdc.nn.step_ledger import StepLedger


class KilledError(Exception):
    """Simulated kill that leaves the loop between two steps."""


class Listener(Recorder):
    """Keep the losses; raise `KilledError` at a given batch."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.losses: list[float] = []
        self.seen = 0
        self.stop_at = stop_at

    def batch(self, batch: Batch, logits: torch.Tensor) -> None:
        self.seen += 1
        if self.seen == self.stop_at:
            raise KilledError

    def epoch_end(self, epoch: int, loss: float, lr: float) -> None:
        self.losses.append(loss)

    def state(self) -> dict[str, Any]:
        return {"losses": self.losses}

    def restore(self, state: dict[str, Any]) -> None:
        self.losses = list(state["losses"])


class Run(Fit):
    """Fit with its loader."""

    loader: Loader

    def train(self) -> None:
        run_fit(self, self.loader)


def make_fit(
    train: Path,
    listener: Listener,
    checkpoint: Path | None = None,
    loss: Any = None,
    batch: int = 16,
    deferred: bool = False,
) -> Run:
    """Build a fit; `deferred` keeps losses on the device, as on CUDA."""
    model = build_model("convnet_w8", 3, 28, 0)
    model.insert(3, nn.Dropout(0.2))  # type: ignore[operator]  # draws from torch's generator, which a resume must restore
    loader = open_loader(train, TrainView(28), batch_size=batch, seed=5, shuffle=True)
    plan = FitPlan(
        epochs=3,
        steps=steps_per_epoch(loader),
        learning_rate=lambda epoch, step, steps: 0.01 / (1 + epoch * steps + step),
        loss=loss or nn.functional.cross_entropy,
        seed=5,
        checkpoint=checkpoint,
        identity="test",
        checkpoint_seconds=0,
    )
    compute = choose_compute("fp32", 1)
    optimizer = torch.optim.AdamW(decay_weights_only(model, 0.01), fused=True)
    fit = Run(model, optimizer, compute, plan, listener)
    if deferred:
        fit.ledger = StepLedger(compute.device)
    fit.loader = loader
    return fit


def weights(fit: Fit) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in fit.model.state_dict().values() if p.is_floating_point()])


def parameters(fit: Fit) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in fit.model.parameters()])


@pytest.mark.parametrize("deferred", [False, True], ids=["at once", "deferred"])
@pytest.mark.parametrize("stop_at", [1, 4, 8, 9, 20])
def test_a_killed_run_resumes_bit_equal(betons: Any, tmp_path: Path, stop_at: int, deferred: bool) -> None:
    undisturbed, checkpoint = Listener(), tmp_path / "checkpoint.pt"
    whole = make_fit(betons.train, undisturbed)
    whole.train()
    with pytest.raises(KilledError):
        make_fit(betons.train, Listener(stop_at), checkpoint, deferred=deferred).train()
    torch.manual_seed(999)
    resumed = Listener()
    second = make_fit(betons.train, resumed, checkpoint, deferred=deferred)
    second.train()
    assert resumed.losses == undisturbed.losses
    assert torch.equal(weights(second), weights(whole))
    assert resumed.seen < 24 or stop_at == 1  # it resumed and did not start over


@pytest.mark.parametrize("deferred", [False, True], ids=["at once", "deferred"])
def test_nan_never_reaches_the_weights(betons: Any, deferred: bool) -> None:
    calls, seen = 0, {}

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        seen[calls] = parameters(fit)
        value = nn.functional.cross_entropy(logits, labels)
        return value * float("nan") if calls == 5 else value

    fit = make_fit(betons.train, Listener(), loss=loss, deferred=deferred)
    with pytest.raises(DivergedError, match=r"loss is nan in epoch 1, step 5, at learning rate 0\.002; lower lr"):
        fit.train()
    assert calls == (8 if deferred else 5)  # a deferred fault is read at the end of the epoch
    assert not torch.equal(seen[4], seen[5])
    assert torch.equal(parameters(fit), seen[5])


def test_a_deferred_fault_is_found_before_a_checkpoint_is_saved(betons: Any, tmp_path: Path) -> None:
    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits, labels) * float("inf")

    fit = make_fit(betons.train, Listener(), tmp_path / "checkpoint.pt", loss, deferred=True)
    with pytest.raises(DivergedError, match="loss is inf in epoch 1, step 1,"):
        fit.train()
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("deferred", [False, True], ids=["at once", "deferred"])
def test_an_infinite_gradient_is_found_before_the_step(betons: Any, deferred: bool) -> None:
    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        value = nn.functional.cross_entropy(logits, labels)
        return value.detach() + torch.sqrt(value * 0)  # finite, with the derivative of a square root at 0

    fit = make_fit(betons.train, Listener(), loss=loss, deferred=deferred)
    before = weights(fit)
    with pytest.raises(DivergedError, match="gradient norm is nan"):
        fit.train()
    assert torch.equal(dict(fit.model.named_parameters())["0.weight"], before[:216].view(8, 3, 3, 3))


def test_a_run_of_fp16_that_skips_every_step_has_diverged(betons: Any) -> None:
    """The loss is finite but its gradients are not: the scale goes to 0, and the weights would never change."""
    fit = make_fit(betons.train, Listener())
    fit.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-8)
    next(fit.model.parameters()).register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(DivergedError, match=r"gradients are not finite at any scale in epoch 1, step 3, at learning"):
        fit.train()


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(betons: Any, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    fit = make_fit(betons.train, Listener(), checkpoint)
    fit.train()
    other = make_fit(betons.train, Listener(), checkpoint)
    other.plan = FitPlan(3, 8, lambda *_: 0.1, nn.functional.cross_entropy, 5, checkpoint, "other")
    with pytest.raises(CheckpointError, match="belongs to run test"):
        other.train()
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        make_fit(betons.train, Listener(), checkpoint).train()


def test_steps_count_the_merged_batch(betons: Any) -> None:
    assert steps_per_epoch(make_fit(betons.train, Listener(), batch=7).loader) == 17  # 120 = 17 * 7 + 1
    assert steps_per_epoch(make_fit(betons.train, Listener(), batch=13).loader) == 10


def test_batches_of_one_are_trained_one_by_one(betons: Any) -> None:
    listener = Listener()
    make_fit(betons.train, listener, batch=1).train()
    assert listener.seen == 3 * 120
