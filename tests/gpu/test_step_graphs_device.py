"""CUDA graphs of training steps on a device: they are used, agree with plain steps, and do not wait for the host.

The CPU's suite tests everything but the capture itself (`tests/nn/test_step_graphs.py`). Runs with `-m gpu`.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fastdc.common.errors import DivergedError
from fastdc.loader import Loader, TrainView, open_loader
from fastdc.nn.device import Compute
from fastdc.nn.fit import Fit
from fastdc.nn.fit_loop import run_fit, run_fits, steps_per_epoch
from fastdc.nn.fit_plan import FitPlan
from fastdc.nn.graph_check import graphs_fault
from fastdc.nn.models import build_model, decay_weights_only
from fastdc.nn.step_graphs import CHECKED_STEPS
from fastdc.nn.visit_program import VisitProgram
from fastdc.train.batch_augment import augment_batch, draw_augment
from fastdc.train.batch_mixing import mix_batch, mix_classes
from tests.gpu.test_device_engine import no_cuda
from tests.loader.conftest import picture, write
from tests.nn.test_step_graphs import Doubled, Losses, Reading, nan_once

pytestmark = [pytest.mark.gpu, no_cuda]
BOUND, REDUCED_BOUND = 0.01, 0.1
"""Largest relative difference of an epoch's loss between graphs and plain steps, in fp32 and with shorter fractions.

Kernels may add in any order, and some dozen steps enlarge the last bits that differ.
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 images of 28 px, the same in every run: seven whole batches and a short one."""
    return write(tmp_path_factory.mktemp("graphs") / "set.beton", [picture(28, 28, seed) for seed in range(120)])


def mixed(images: torch.Tensor, labels: torch.Tensor, epoch: int, step: int) -> tuple[torch.Tensor, Any]:
    images = augment_batch(images, draw_augment("idc", 0, epoch, step, len(images)))
    images, mixing = mix_batch("cutmix", images, 0, epoch, step, 1.0)
    return images, mix_classes(labels, 3, mixing)


def make_fit(loader: Loader, precision: str = "fp32", arch: str = "convnet_w8", **changes: Any) -> Fit:
    optimizer, epochs = changes.pop("optimizer", "adamw"), changes.pop("epochs", 3)
    model = nn.Sequential(nn.Dropout2d(0.1), build_model(arch, 3, 28, 0), *changes.pop("more", ())).cuda()
    made: torch.optim.Optimizer = torch.optim.AdamW(decay_weights_only(model, 0.01), fused=True)
    if optimizer == "sgd":
        made = torch.optim.SGD(model.parameters(), momentum=0.9, weight_decay=5e-4, fused=True)
    values = {"loss": nn.functional.cross_entropy, "seed": 5, **changes}
    plan = FitPlan(epochs, steps_per_epoch(loader), lambda epoch, step, steps: 0.003 / (1 + epoch), **values)
    return Fit(model, made, Compute(torch.device("cuda"), precision, 1), plan, Losses())


def open_batches(train: Path, engine: Any) -> Loader:
    return open_loader(train, TrainView(28), batch_size=16, seed=5, shuffle=True, engine=engine, device="cuda")


def losses(fit: Fit) -> list[float]:
    assert isinstance(fit.recorder, Losses)
    return fit.recorder.losses


@pytest.mark.parametrize("engine", ["device", "resident"])
@pytest.mark.parametrize("targets", [None, mixed], ids=["plain", "mixed"])
@pytest.mark.parametrize(
    ("precision", "arch", "optimizer"),
    [("fp32", "convnet_w8", "adamw"), ("bf16", "resnet10", "adamw"), ("tf32", "convnet_w8", "sgd")],
)
def test_graphs_train_as_plain_steps(
    stored: Path, precision: str, arch: str, optimizer: str, targets: Any, engine: Any
) -> None:
    options = {"arch": arch, "optimizer": optimizer, "targets": targets}
    with open_batches(stored, engine) as loader:
        plain, graphed = (make_fit(loader, precision, **options) for _ in range(2))
        plain.graphs = None
        run_fit(plain, loader)
        run_fit(graphed, loader)
    assert graphed.graphs is not None
    assert graphed.graphs.reason == ""
    assert losses(graphed) == pytest.approx(losses(plain), rel=BOUND if precision == "fp32" else REDUCED_BOUND)


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "plain"])
@pytest.mark.parametrize("engine", ["device", "resident"])
@pytest.mark.parametrize("targets", [None, mixed], ids=["plain targets", "mixed"])
def test_a_step_does_not_wait_for_the_host(stored: Path, engine: Any, targets: Any, graphs: bool) -> None:
    with open_batches(stored, engine) as loader:
        fit = make_fit(loader, "bf16", targets=targets, epochs=CHECKED_STEPS + 2)
        if not graphs:
            fit.graphs = None
        program = VisitProgram(loader, loader.drawers[0]) if targets is None and loader.drawers else None
        with fit.running():
            fit.resume()
            for epoch in range(CHECKED_STEPS + 1):
                last = epoch == CHECKED_STEPS
                batches: Iterator[Any] = loader.epoch(epoch) if program is None else program.epoch(epoch)
                torch.cuda.set_sync_debug_mode("error" if last else "default")
                try:
                    for batch in islice(batches, fit.plan.steps - last):  # an epoch's end reads its losses
                        fit.take(batch)
                finally:
                    torch.cuda.set_sync_debug_mode("default")


def test_a_network_that_reads_on_the_host_runs_as_it_is(stored: Path) -> None:
    with open_batches(stored, "device") as loader:
        plain, graphed = (make_fit(loader, more=(Reading(), nn.Dropout(0.1))) for _ in range(2))
        plain.graphs = None
        run_fit(plain, loader)
        run_fit(graphed, loader)
    assert graphed.graphs is not None
    assert "its capture failed" in graphed.graphs.reason
    assert losses(graphed) == pytest.approx(losses(plain), rel=BOUND)


def test_a_fault_in_a_replay_leaves_the_weights_alone(stored: Path) -> None:
    with open_batches(stored, "device") as loader:
        fit = make_fit(loader, targets=nan_once)
        with pytest.raises(DivergedError, match="loss is nan in epoch 2, step 4"):
            run_fit(fit, loader)
    assert all(each.isfinite().all() for each in fit.model.parameters())


def test_runs_take_turns(stored: Path) -> None:
    with open_batches(stored, "device") as loader:
        alone = make_fit(loader)
        run_fit(alone, loader)
        fits = [make_fit(loader) for _ in range(2)]
        assert run_fits(fits, Doubled(loader)) == [None, None]
    for fit in fits:
        assert losses(fit) == pytest.approx(losses(alone), rel=BOUND)


def test_graphs_outlive_those_of_another_training(stored: Path) -> None:
    """A captured address of a library's workspace must not be freed with the graphs of another training."""
    options: dict[str, Any] = {"precision": "bf16", "arch": "resnet10", "epochs": CHECKED_STEPS + 3}
    with open_batches(stored, "device") as loader:
        alone = make_fit(loader, **options)
        run_fit(alone, loader)
        fits = [make_fit(loader, **options) for _ in range(2)]
        for fit in fits:
            fit.resume()
        for epoch in range(CHECKED_STEPS + 3):
            if epoch == CHECKED_STEPS + 1:
                del fits[0]
                torch.cuda.empty_cache()
            for batch in loader.epoch(epoch):
                for fit in fits:
                    with fit.running():
                        fit.take(batch)
        assert fits[0].graphs is not None
        assert fits[0].graphs.reason == ""
    assert losses(fits[0]) == pytest.approx(losses(alone), rel=REDUCED_BOUND)


def test_a_finished_run_returns_its_memory(stored: Path) -> None:
    with open_batches(stored, "device") as loader:
        kept = []
        for _ in range(4):
            run_fit(make_fit(loader), loader)
            torch.cuda.empty_cache()
            kept.append(torch.cuda.memory_reserved())
    assert kept[3] <= kept[1]


def test_the_check_of_doctor_passes() -> None:
    assert graphs_fault(torch.device("cuda", 0)) == ""
