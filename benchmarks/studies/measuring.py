"""Measure a trained network's entropy on each method's stored images, whole and cropped, and store it."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.hints import TileCrop, tile_crop
from fastdc.common.errors import ConfigError
from fastdc.common.files import prepare_workdir, write_atomic
from fastdc.common.log import log_message
from fastdc.sweep.cells import make_plan
from fastdc.sweep.plan import Plan
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig
from studies.blocks import Block, read_blocks, wanted_rows
from studies.entropies import FILE, Entropy, read_entropies
from studies.specs import read_questions, spelled

if TYPE_CHECKING:
    from fastdc.loader import Batch, EvalView, TrainView
    from fastdc.nn.device import Compute
    from fastdc.teachers.network import Teacher

AREAS = (1.0, 0.75, 0.5, 0.35, 0.25, 0.15, 0.08)
"""Shares of the area that a crop keeps, down to the smallest of the protocols' crops."""
CROPS = 4
"""Number of crops of each image and area."""
BATCH = 100
DIGITS = 6
KINDS = ("image", "hints")
"""Kinds of crops: of the whole stored image, and those that a set's hints prescribe."""

Answers = dict[float, NDArray[np.float64]]
"""Entropies of all images of a set by area, float64 [N]."""


class Network(NamedTuple):
    """Network whose entropy is measured, under the name that entropy.csv gives it."""

    name: str
    teacher: "Teacher"
    compute: "Compute"


def measure(study: Path, spec: str, seeds: Sequence[int]) -> int:
    """Write entropy.csv: a network's entropy on the images of every method that questions.yaml lists under `entropy`.

    Lines of other networks are kept. A set that is missing in the work folder is made again, its observer included.
    An observer whose training ended early, after the epochs that a score reads, is trained to the end.

    Args:
        spec: the network, as `fastdc.teachers.names` names it. `observer` is that of the smallest seed of the study
            that is not among `seeds`, so that it selected none of the images.
        seeds: seeds of the sets.

    Returns:
        The exit code 0.

    Raises:
        ConfigError: questions.yaml names no method or IPC, or study.yaml lacks a seed.
        FastDCError: a set or the network cannot be made.
    """
    questions, blocks = read_questions(study), read_blocks(study)
    methods = [spelled(name) for question in questions.questions for name in question.entropy]
    ipc = questions.column.get("ipc")
    if not methods or not isinstance(ipc, int):
        raise ConfigError(f"{study / 'questions.yaml'}: expected a question with `entropy` methods, and column.ipc")
    network = _network(_other_seed(blocks, seeds), spec)
    found: dict[tuple[str, str], list[Answers]] = {}
    for method in methods:
        for path, crops in _sets(blocks, method, ipc, seeds):
            for kind, crop in crops.items():
                found.setdefault((method, kind), []).append(_answers(network, path, crop))
    lines = [_line(network, *key, ipc, area, sets) for key, sets in found.items() for area in AREAS]
    kept = [each for each in read_entropies(study) if each.network != network.name]
    write_atomic(study / FILE, _csv([*kept, *lines]).encode())
    print(f"{study / FILE}: {len(lines)} lines of {network.name}")
    return 0


def _other_seed(blocks: Sequence[Block], seeds: Sequence[int]) -> SweepConfig:
    """Return a sweep of the study's smallest seed that is not among these."""
    there = {sweep.seeds[0]: sweep for block in blocks for sweep in block.sweeps}
    unknown, others = set(seeds) - set(there), sorted(set(there) - set(seeds))
    if unknown or not seeds or not others:
        known = ", ".join(map(str, sorted(there)))
        raise ConfigError(f"--seeds: expected some of the study's seeds {known}, one of them left for the observer")
    return there[others[0]]


def _network(sweep: SweepConfig, spec: str) -> Network:
    from fastdc.nn.device import choose_compute
    from fastdc.teachers.load import load_teacher
    from fastdc.teachers.names import OBSERVER, plan_teacher

    plan = make_plan(sweep.model_copy(update={"methods": ("random",), "ipc": (1,)}))
    prepare_workdir(sweep.workdir)
    compute = choose_compute(sweep.precision, plan.threads)
    found = plan_teacher(spec, plan.train, plan.observer, sweep.teacher_order)
    name = f"{found.name}, seed {sweep.seeds[0]}" if spec.partition(":")[0].strip() == OBSERVER else found.name
    return Network(name, load_teacher(found, sweep.train, sweep.workdir, compute), compute)


def _sets(
    blocks: Sequence[Block], method: str, ipc: int, seeds: Sequence[int]
) -> Iterator[tuple[Path, dict[str, TileCrop]]]:
    """Yield the set of every seed, made if it is missing, with its kinds of crops."""
    from fastdc.beton import describe_beton
    from fastdc.sweep.cell_runner import CellRunner

    for seed in seeds:
        plan = _plan(blocks, method, ipc, seed)
        if plan is None:
            log_message(f"{method}, IPC {ipc}, seed {seed}: no block of study.yaml makes such a set; left out")
            continue
        subset = plan.runnable[0].subset
        assert subset is not None
        with Store(plan.store_path) as store:
            CellRunner(plan, store).make_subset(subset)
        own = tile_crop("method", describe_beton(subset.path).hints)
        crops = {"image": TileCrop(), "hints": own}
        yield subset.path, {kind: crops[kind] for kind in KINDS if kind == "image" or own.grid > 1}


def _plan(blocks: Sequence[Block], method: str, ipc: int, seed: int) -> Plan | None:
    """Return a plan of one method's set with the settings of the block that trains on it; None without such a block."""
    for block in blocks:
        for sweep in block.sweeps:
            wanted = wanted_rows([Block(block.name, [sweep])]) if sweep.seeds == (seed,) else []
            if any((each.axes.method, each.axes.ipc) == (method, ipc) for each in wanted):
                plan = make_plan(sweep.model_copy(update={"methods": (method,), "ipc": (ipc,)}))
                return plan if plan.runnable else None
    return None


def _answers(network: Network, path: Path, crop: TileCrop) -> Answers:
    """Return entropies in nats of all images of a set, each the mean over its crops."""
    side = network.teacher.image_size
    return {area: _entropies(network, path, _view(side, crop, area)) for area in AREAS}


def _view(side: int, crop: TileCrop, area: float) -> "EvalView | TrainView":
    """Return the view that keeps this share of an image, or of a tile or window inside it, without flips."""
    from fastdc.loader import EvalView, TrainView

    if area == 1.0 and crop.grid == 1:
        return EvalView(side, side)
    ratio = (1.0, 1.0) if area == 1.0 else (3 / 4, 4 / 3)  # the full area of a square fits only as a square
    view = TrainView(side, (area, area), ratio, flip=False, tile_grid=crop.grid)
    return replace(view, tile_whole=crop.whole, tile_align=crop.align)


def _entropies(network: Network, path: Path, view: "EvalView | TrainView") -> NDArray[np.float64]:
    from fastdc.loader import EvalView, open_loader

    visits = 1 if isinstance(view, EvalView) else CROPS
    with open_loader(path, view, batch_size=BATCH, seed=0, device=network.compute.device) as loader:
        passes = [_one_pass(network, loader.epoch(visit)) for visit in range(visits)]
    return np.asarray(np.mean(passes, axis=0), np.float64)


def _one_pass(network: Network, batches: "Iterator[Batch]") -> NDArray[np.float64]:
    import torch

    found = []
    with torch.no_grad():
        for batch in batches:
            images = network.compute.images(batch.images)
            log_p = network.compute.logits(network.teacher.model, images).double().log_softmax(1)
            found.append(-(log_p.exp() * log_p).sum(1).cpu().numpy())
    return np.concatenate(found)


def _line(network: Network, method: str, kind: str, ipc: int, area: float, sets: list[Answers]) -> Entropy:
    values = np.concatenate([answers[area] for answers in sets]).tolist()
    spread = round(stdev(values), DIGITS)
    return Entropy(network.name, method, ipc, kind, area, round(fmean(values), DIGITS), spread, len(values), len(sets))


def _csv(lines: Sequence[Entropy]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Entropy._fields)
    writer.writerows(lines)
    return text.getvalue()
