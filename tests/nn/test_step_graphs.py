"""Steps as graphs: on the CPU a tape stands for CUDA's capture, and results are those of plain steps in every bit."""

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from fastdc.common.errors import DivergedError
from fastdc.loader import Loader, LoaderRequest, TrainView, ViewRequest, open_loader, open_stream
from fastdc.loader.engines.device import DeviceStream
from fastdc.loader.engines.device_resize import resize_views
from fastdc.nn import visit_program
from fastdc.nn.device import choose_compute
from fastdc.nn.fit import Fit
from fastdc.nn.fit_loop import join_lone_sample, run_fit, run_fits, steps_per_epoch
from fastdc.nn.fit_plan import FitPlan, Recorder
from fastdc.nn.models import build_model, decay_weights_only
from fastdc.nn.step_graphs import WARM_UP_STEPS, StepGraphs, report_no_graphs, why_no_graphs
from fastdc.nn.step_ledger import StepLedger
from fastdc.nn.training_state import TrainingState
from fastdc.nn.visit_program import VisitProgram
from tests.nn.tape import Recording, record

CPU = torch.device("cpu")
ADAMW, SGD = "adamw", "sgd"


class Losses(Recorder):
    """Keeps the losses of epochs."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def epoch_end(self, epoch: int, loss: float, lr: float) -> None:
        self.losses.append(loss)

    def state(self) -> dict[str, Any]:
        return {"losses": self.losses}

    def restore(self, state: dict[str, Any]) -> None:
        self.losses = list(state["losses"])


class KilledError(Exception):
    """Stands for a kill."""


class Killed(Losses):
    """Ends the training after a step."""

    def __init__(self, stop_at: int) -> None:
        super().__init__()
        self.left = stop_at

    def step(self, samples: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KilledError


class Counted(Recording):
    """Capture that counts tapes and replays."""

    def __init__(self) -> None:
        self.tapes = self.replays = 0

    def __call__(self, run: Callable[[], None]) -> Callable[[], None]:
        replay = super().__call__(run)
        self.tapes += 1

        def counted() -> None:
            self.replays += 1
            replay()

        return counted


def make_network() -> nn.Module:
    """A network with statistics (BatchNorm), and with draws from torch's generator (dropout)."""
    model = build_model("convnet_w8", 3, 28, 0)
    model.insert(3, nn.Sequential(nn.BatchNorm2d(8), nn.Dropout(0.2)))  # type: ignore[operator]
    return model


def make_fit(
    loader: Loader,
    recorder: Recorder,
    capture: Any = None,
    *,
    optimizer: str = ADAMW,
    model: nn.Module | None = None,
    precision: Any = "fp32",
    **plan: Any,
) -> Fit:
    """A fit that defers its losses as on CUDA; `capture` stands for CUDA's."""
    model = model or make_network()
    made: torch.optim.Optimizer = torch.optim.AdamW(decay_weights_only(model, 0.01), fused=True)
    if optimizer == SGD:
        made = torch.optim.SGD(model.parameters(), momentum=0.9, weight_decay=5e-4, fused=True)
    values = {"loss": nn.functional.cross_entropy, "seed": 5, "identity": "test", "checkpoint_seconds": 0, **plan}
    schedule = FitPlan(
        3, steps_per_epoch(loader), lambda epoch, step, steps: 0.01 / (1 + epoch * steps + step), **values
    )
    fit = Fit(model, made, choose_compute(precision, 1), schedule, recorder)
    fit.ledger = StepLedger(CPU)
    if capture is not None:
        fit.graphs = StepGraphs(fit.model, fit.optimizer, fit.ledger, CPU, capture)
    return fit


class Result(NamedTuple):
    losses: list[float]
    state: dict[str, torch.Tensor]
    moments: list[torch.Tensor]
    groups: list[dict[str, Any]]


def result(fit: Fit) -> Result:
    optimizer = fit.optimizer.state_dict()
    moments = [value for state in optimizer["state"].values() for value in state.values()]
    assert isinstance(fit.recorder, Losses)
    return Result(fit.recorder.losses, fit.model.state_dict(), moments, optimizer["param_groups"])


def assert_equal(found: Fit, expected: Fit) -> None:
    one, other = result(found), result(expected)
    assert one.losses == other.losses
    assert one.groups == other.groups
    assert all(torch.equal(one.state[name], other.state[name]) for name in other.state)
    assert len(one.moments) == len(other.moments) > 0
    assert all(torch.equal(*pair) for pair in zip(one.moments, other.moments, strict=True))


def open_batches(train: Path, engine: Any = "resident", batch: int = 16) -> Loader:
    return open_loader(train, TrainView(28), batch_size=batch, seed=5, shuffle=True, engine=engine)


def shifted(images: torch.Tensor, labels: torch.Tensor, epoch: int, step: int) -> tuple[torch.Tensor, Any]:
    """Targets that depend on the place, as mixing does; the second is a tuple, as soft labels are."""
    return images.roll(epoch + step, 0), (labels.roll(epoch + step), None)


def first_target(logits: torch.Tensor, targets: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, targets[0])


@torch.library.custom_op("fastdc_tests::draw", mutates_args=())
def draw(images: torch.Tensor, samples: torch.Tensor, places: torch.Tensor, size: int) -> torch.Tensor:
    """One operation for a tape, as Triton's kernel is for a graph; matrix products read places on the host."""
    return resize_views(images[samples], places, size)


@pytest.fixture(autouse=True)
def drawn_in_one_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(stream: DeviceStream, _number: int, samples: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return draw(stream.images, samples, places, 28)

    monkeypatch.setattr(DeviceStream, "draw", drawn)


@pytest.mark.parametrize("engine", ["resident", "device"])
@pytest.mark.parametrize(("batch", "kinds", "optimizer"), [(16, 2, ADAMW), (17, 2, SGD), (200, 1, ADAMW)])
def test_graphs_train_as_plain_steps(betons: Any, engine: str, batch: int, kinds: int, optimizer: str) -> None:
    counted = Counted()
    with open_batches(betons.train, engine, batch) as loader:
        plain = make_fit(loader, Losses(), optimizer=optimizer)
        run_fit(plain, loader)
        graphed = make_fit(loader, Losses(), counted, optimizer=optimizer)
        run_fit(graphed, loader)
    assert_equal(graphed, plain)
    assert graphed.graphs is not None
    assert graphed.graphs.reason == ""
    assert (counted.tapes, counted.replays) == (kinds, 3 * plain.plan.steps)


@pytest.mark.parametrize(("engine", "precision"), [("resident", "bf16"), ("device", "fp32")])
def test_targets_are_made_outside_the_graph(betons: Any, engine: str, precision: str) -> None:
    """In bf16 the capture holds autocast with its casts of the weights."""
    counted, options = Counted(), {"targets": shifted, "loss": first_target, "precision": precision}
    with open_batches(betons.train, engine) as loader:
        plain, graphed = make_fit(loader, Losses(), **options), make_fit(loader, Losses(), counted, **options)
        run_fit(plain, loader)
        run_fit(graphed, loader)
    assert_equal(graphed, plain)
    assert counted.replays == 3 * plain.plan.steps


def test_a_program_draws_the_batches_of_its_loader(betons: Any) -> None:
    for batch in (16, 17, 60):
        with open_batches(betons.train, "device", batch) as loader:
            (drawer,) = loader.drawers
            program = VisitProgram(loader, drawer)
            for epoch, start in ((0, 0), (1, 2), (0, 1)):
                expected = [batches[0] for batches in join_lone_sample(loader.epoch_views(epoch, start))]
                drawn = [(visits.size, *visits.read()) for visits in program.epoch(epoch, start)]
                assert [size for size, *_ in drawn] == [len(each.labels) for each in expected]
                for (_, images, labels), each in zip(drawn, expected, strict=True):
                    assert torch.equal(images, each.images)
                    assert torch.equal(labels, each.labels)


def test_a_program_is_uploaded_in_parts(betons: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visit_program, "_CHUNK_VISITS", 40)
    test_a_program_draws_the_batches_of_its_loader(betons)


def test_a_killed_run_resumes_bit_equal_with_and_without_graphs(betons: Any, tmp_path: Path) -> None:
    with open_batches(betons.train, "device") as loader:
        whole = make_fit(loader, Losses())
        run_fit(whole, loader)
        for number, (first, second) in enumerate([(record, record), (record, None), (None, record)]):
            checkpoint = tmp_path / f"{number}.pt"
            with pytest.raises(KilledError):
                run_fit(make_fit(loader, Killed(13), first, checkpoint=checkpoint), loader)
            torch.manual_seed(999)
            resumed = make_fit(loader, Losses(), second, checkpoint=checkpoint)
            run_fit(resumed, loader)
            assert_equal(resumed, whole)


def test_runs_take_turns(betons: Any) -> None:
    """Each has graphs, inputs and random numbers of its own."""
    with open_batches(betons.train) as loader:
        plain = make_fit(loader, Losses())
        run_fit(plain, loader)
        fits = [make_fit(loader, Losses(), record) for _ in range(2)]
        assert run_fits(fits, Doubled(loader)) == [None, None]
    for fit in fits:
        assert_equal(fit, plain)


@pytest.mark.parametrize("stops", [(None, None), (13, None), (None, 13)])
def test_runs_share_images_on_the_device(betons: Any, tmp_path: Path, stops: tuple[int | None, int | None]) -> None:
    """Each has views of its own; runs that a kill left at different places meet again."""
    requests = tuple(ViewRequest(TrainView(28), seed) for seed in (5, 6))
    files = [tmp_path / f"{number}.pt" for number in range(2)]
    with open_stream(
        LoaderRequest(betons.train, requests, batch_size=16, order_seed=5, shuffle=True, engine="device")
    ) as stream:
        if any(stops):
            pairs = zip(stops, files, strict=True)
            killed = [make_fit(stream, Killed(stop or 99), record, checkpoint=file) for stop, file in pairs]
            with pytest.raises(KilledError):
                run_fits(killed, stream)
        fits = [make_fit(stream, Losses(), record, checkpoint=file) for file in files]
        assert run_fits(fits, stream) == [None, None]
    for fit, request in zip(fits, requests, strict=True):
        with open_loader(
            betons.train, request.view, batch_size=16, seed=request.seed, order_seed=5, shuffle=True, engine="device"
        ) as loader:
            alone = make_fit(loader, Losses())
            run_fit(alone, loader)
        assert_equal(fit, alone)
        assert fit.graphs is not None
        assert fit.graphs.reason == ""


class Doubled:
    """Batches of one loader for two runs."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def epoch_views(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, ...]]:
        for (batch,) in self.loader.epoch_views(epoch, start):
            yield batch, batch


def nan_once(images: torch.Tensor, labels: torch.Tensor, epoch: int, step: int) -> tuple[torch.Tensor, Any]:
    return images * (float("nan") if (epoch, step) == (1, 3) else 1.0), labels


def test_a_fault_in_a_replay_leaves_the_weights_alone(betons: Any) -> None:
    with open_batches(betons.train) as loader:
        plain, graphed = (make_fit(loader, Losses(), each, targets=nan_once) for each in (None, record))
        for fit in (plain, graphed):
            with pytest.raises(DivergedError, match=r"loss is nan in epoch 2, step 4, at learning rate 0\.00083"):
                run_fit(fit, loader)
    for one, other in zip(graphed.model.parameters(), plain.model.parameters(), strict=True):
        assert one.isfinite().all()
        assert torch.equal(one, other)


class Reading(nn.Module):
    """Reads a value on the host in every forward pass."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values * (2.0 if values.max().item() > -1 else 1.0)


def test_what_cannot_be_captured_runs_as_it_is(betons: Any, capsys: pytest.CaptureFixture[str]) -> None:
    report_no_graphs.cache_clear()
    models = [make_network().append(Reading()) for _ in range(2)]  # type: ignore[operator]
    with open_batches(betons.train) as loader:
        plain, graphed = (
            make_fit(loader, Losses(), each, model=model) for each, model in zip((None, record), models, strict=True)
        )
        run_fit(plain, loader)
        run_fit(graphed, loader)
    assert_equal(graphed, plain)
    said = capsys.readouterr().err
    assert said.count("not as CUDA graphs, because its capture failed (RuntimeError: operation not permitted") == 1


class Forgetful(Recording):
    """A capture whose replays do nothing."""

    def __call__(self, run: Callable[[], None]) -> Callable[[], None]:
        return lambda: None


class Late(Recording):
    """A capture whose replays differ from the second on, as if the input stayed the first."""

    def __init__(self) -> None:
        self.replays = 0

    def __call__(self, run: Callable[[], None]) -> Callable[[], None]:
        replay = super().__call__(run)

        def late() -> None:
            self.replays += 1
            if self.replays < 2:
                replay()

        return late


@pytest.mark.parametrize("capture", [Forgetful(), Late()], ids=["at once", "later"])
def test_a_replay_that_differs_is_not_used(betons: Any, capture: Any) -> None:
    with open_batches(betons.train, "device") as loader:
        plain, graphed = make_fit(loader, Losses()), make_fit(loader, Losses(), capture)
        run_fit(plain, loader)
        run_fit(graphed, loader)
    assert_equal(graphed, plain)
    assert graphed.graphs is not None
    assert graphed.graphs.reason.startswith("a replay differed from the step: loss by 1 (bound 0.001), weights by 1 (")


class Disturbed(Recording):
    """A capture whose graphs become unusable after some replays, because that of another training failed."""

    def __init__(self, replays: int) -> None:
        self.left = replays

    @property
    def usable(self) -> bool:  # type: ignore[override]
        self.left -= 1
        return self.left >= 0


def test_graphs_end_where_another_capture_failed(betons: Any) -> None:
    with open_batches(betons.train, "device") as loader:
        plain, graphed = make_fit(loader, Losses()), make_fit(loader, Losses(), Disturbed(10))
        run_fit(plain, loader)
        run_fit(graphed, loader)
    assert_equal(graphed, plain)
    assert graphed.graphs is not None
    assert graphed.graphs.reason == "the capture of another training on its stream failed"


class Full:
    """A loss for which memory runs out when both ways are run a second time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == WARM_UP_STEPS + 3:  # after the warm-up, the step and its capture
            raise torch.OutOfMemoryError("CUDA out of memory")
        return nn.functional.cross_entropy(logits, labels)


def test_a_graph_that_takes_the_memory_of_a_step_is_dropped(betons: Any) -> None:
    with open_batches(betons.train, "device") as loader:
        plain, graphed = make_fit(loader, Losses()), make_fit(loader, Losses(), record, loss=Full())
        run_fit(plain, loader)
        run_fit(graphed, loader)
        assert_equal(graphed, plain)
        assert graphed.graphs is not None
        assert graphed.graphs.reason == "memory does not hold a graph and a step"


@pytest.mark.parametrize("fails", [1, 2, 3], ids=["before the step", "after the step", "in the comparison"])
def test_a_copy_of_the_weights_that_does_not_fit_ends_the_graphs(
    betons: Any, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    copy, calls = TrainingState.copy, iter(range(1, 1000))

    def copied(state: TrainingState) -> Any:
        if next(calls) == fails:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return copy(state)

    with open_batches(betons.train, "device") as loader:
        plain, graphed = make_fit(loader, Losses()), make_fit(loader, Losses(), record)
        run_fit(plain, loader)
        monkeypatch.setattr(TrainingState, "copy", copied)
        run_fit(graphed, loader)
        assert_equal(graphed, plain)
        assert graphed.graphs is not None
        assert "memory" in graphed.graphs.reason


def test_a_step_that_does_not_fit_is_an_error(betons: Any) -> None:
    def never(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with open_batches(betons.train) as loader, pytest.raises(torch.OutOfMemoryError):
        run_fit(make_fit(loader, Losses(), record, loss=never), loader)


def test_a_finished_run_frees_its_graphs(betons: Any) -> None:
    """Their memory is that of a whole step, so they must not wait for the garbage collector."""
    with open_batches(betons.train) as loader:
        fit = make_fit(loader, Losses(), record)
        graphs = weakref.ref(fit.graphs)
        run_fit(fit, loader)
        gc.disable()
        try:
            del fit
            assert graphs() is None
        finally:
            gc.enable()


def test_a_number_of_the_host_in_a_step_is_found(betons: Any) -> None:
    """A graph keeps the number that the host had at its capture."""
    calls = 0

    def changing(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return nn.functional.cross_entropy(logits, labels) * (1 + calls / 10)

    with open_batches(betons.train) as loader:
        graphed = make_fit(loader, Losses(), record, loss=changing)
        run_fit(graphed, loader)
    assert graphed.graphs is not None
    assert "loss by" in graphed.graphs.reason


def test_why_there_are_no_graphs() -> None:
    model, ledger, cuda = nn.Linear(2, 2), StepLedger(CPU), torch.device("cuda")

    class Reader(Recorder):
        def batch(self, batch: Any, logits: torch.Tensor) -> None:
            pass

    fused = torch.optim.AdamW(model.parameters(), fused=True)
    assert why_no_graphs(cuda, fused, ledger, Recorder()) == ""
    assert why_no_graphs(cuda, torch.optim.SGD(model.parameters(), momentum=0.9), ledger, Recorder()) == ""
    assert why_no_graphs(CPU, fused, ledger, Recorder()) == "graphs need CUDA"
    assert why_no_graphs(cuda, fused, ledger, Reader()) == "its recorder reads every batch"
    assert why_no_graphs(cuda, fused, None, Recorder()) == "its optimizer is not fused, or precision is fp16"
    damped = torch.optim.SGD(model.parameters(), momentum=0.9, dampening=0.1)
    for odd in (damped, torch.optim.Adagrad(model.parameters())):
        assert (
            why_no_graphs(cuda, odd, ledger, Recorder()) == f"the state of {type(odd).__name__} does not begin with 0"
        )


@pytest.mark.parametrize("kind", [ADAMW, SGD])
def test_a_rate_in_a_tensor(kind: str) -> None:
    """In float64 it gives the digits of a number; CUDA's float32 is within 2**-24 of it, and so is each update."""
    ends = []
    for rate in (0.0013, torch.tensor(0.0013, dtype=torch.float64), torch.tensor(0.0013)):
        torch.manual_seed(0)
        weights = nn.Parameter(torch.randn(1000))
        start = weights.detach().clone()
        optimizer: torch.optim.Optimizer = torch.optim.AdamW([weights], fused=True, weight_decay=0.01)
        if kind == SGD:
            optimizer = torch.optim.SGD([weights], fused=True, momentum=0.9, weight_decay=0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate
        for _ in range(5):
            weights.grad = torch.randn(1000)
            optimizer.step()
        ends.append(weights.detach() - start)
    assert torch.equal(ends[0], ends[1])
    assert (ends[0] - ends[2]).abs().max() < 5 * 2**-23 * 4  # a few roundings of weights of at most 4
