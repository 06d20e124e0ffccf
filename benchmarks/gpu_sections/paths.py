"""Ways to train the same steps: operation by operation, as CUDA graphs, with each way to draw views, compiled."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fastdc.loader.engines import device as device_engine
from fastdc.loader.engines.device_drawing import Drawing
from fastdc.nn.fit_loop import run_fit
from gpu_sections.findings import Absent, Fact, Finding, Found
from gpu_sections.photos import CLASSES, make_photos
from gpu_sections.setup import Setup
from gpu_sections.trainings import Case, EpochClock, images_per_second, make_fit, open_case


class Way(NamedTuple):
    """Way to train: as graphs or not, with views by Triton's kernel or by matrix products, compiled or not."""

    graphs: bool
    kernel: bool = True
    compiled: bool = False

    @property
    def name(self) -> str:
        """Return the way in words."""
        words = ["graph" if self.graphs else "eager", *([] if self.kernel else ["products"])]
        return " ".join([*words, *(["compiled"] if self.compiled else [])])


class Run(NamedTuple):
    """Outcome of a training: images per second, mean loss of each epoch, and why it used no graphs ("" if it did)."""

    rate: float
    losses: list[float]
    reason: str


def check(setup: Setup) -> Iterator[Finding]:
    """Train a launch-bound network and a larger one in every way, and the former in fp32 to compare losses."""
    small = Case("convnet", 28, "bf16", Path(setup.subset), 10, 100, 10, setup.size.timed)
    large = Case("resnet18", 64, "bf16", make_photos(setup), CLASSES, setup.size.trained, setup.size.batch, 4)
    found = {case.name: train_all(setup, case) for case in (small, large)}
    for name, runs in found.items():
        yield Fact(name, {way: run._asdict() for way, run in runs.items()})
    if setup.on_cuda:
        exact = [train(setup, small._replace(precision="fp32"), Way(graphs)) for graphs in (False, True)]
        yield from _judged(found[small.name], *exact)


def train_all(setup: Setup, case: Case) -> dict[str, Run]:
    """Train a case in every way of the device; on the CPU there is one."""
    ways = [Way(graphs, kernel) for graphs in (False, True) for kernel in (False, True)]
    return {way.name: train(setup, case, way) for way in (ways if setup.on_cuda else ways[1:2])}


def check_compiled(setup: Setup) -> Iterator[Finding]:
    """Train the launch-bound network compiled."""
    case = Case("convnet", 28, "fp32", Path(setup.subset), 10, 100, 10, setup.size.timed)
    plain, compiled = train(setup, case, Way(graphs=False)), train(setup, case, Way(graphs=True, compiled=True))
    yield Fact("images_per_second", {"eager": plain.rate, "compiled": compiled.rate})
    yield Found("compiled-loss", apart(plain, compiled))


def train(setup: Setup, case: Case, way: Way) -> Run:
    """Train a case in one way."""
    clock = EpochClock()
    with drawing(way.kernel), open_case(setup, case) as loader:
        fit = make_fit(case, loader, clock, way.compiled)
        if not way.graphs:
            fit.graphs = None
        run_fit(fit, loader)
    reason = "there are none" if fit.graphs is None else fit.graphs.reason
    return Run(images_per_second(case, clock), clock.losses, reason)


@contextmanager
def drawing(kernel: bool) -> Iterator[None]:
    """Let loaders that open in this block draw as they choose, or by matrix products."""
    engine: Any = device_engine
    chosen = engine.choose_drawing
    if not kernel:
        engine.choose_drawing = lambda _: Drawing("products", "the check compares both")
    try:
        yield
    finally:
        engine.choose_drawing = chosen


def apart(first: Run, second: Run) -> float:
    """Return the relative difference of the losses of the first epoch, before last bits have grown."""
    return abs(first.losses[0] - second.losses[0]) / first.losses[0]


def _judged(runs: dict[str, Run], eager: Run, graph: Run) -> Iterator[Finding]:
    """Yield what decides the claims on graphs and on the kernel, from runs in bf16 and a pair in fp32."""
    reason = runs["graph"].reason or graph.reason
    yield Found("graph-used", float(not reason))
    if reason:
        for claim in ("graph-loss", "graph-gain", "kernel-gain"):
            yield Absent(claim, f"no graphs are used: {reason}")
        return
    yield Found("graph-loss", apart(eager, graph))
    yield Found("graph-gain", runs["graph"].rate / runs["eager"].rate)
    yield Found("kernel-gain", runs["graph"].rate / runs["graph products"].rate)
