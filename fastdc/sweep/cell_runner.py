"""Run a cell: make or find its subset, then train its network."""

import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fastdc.beton.manifest import manifest_path
from fastdc.common.choices import Device
from fastdc.common.crash_points import hit
from fastdc.common.errors import CheckpointError, DivergedError, FastDCError, TeacherError
from fastdc.common.keys import file_key
from fastdc.common.locks import locked
from fastdc.common.log import log_message
from fastdc.sweep.cell_groups import by_stream
from fastdc.sweep.cell_networks import OBSERVER, network_key, observer_needs
from fastdc.sweep.cell_result import CellResult
from fastdc.sweep.cells import subset_request
from fastdc.sweep.external_variant import ExternalVariant
from fastdc.sweep.failures import classify, ends_sweep, is_short_of_memory, loses_device
from fastdc.sweep.plan import Cell, Plan, SubsetPlan

if TYPE_CHECKING:
    from fastdc.teachers.network import Teacher
    from fastdc.teachers.plan import TeacherPlan
    from fastdc.train import EvaluateSettings, EvaluationResult
    from fastdc.train.evaluation_request import EvaluationRequest

State = tuple[Path, int, int, int]
DETAIL_FIELDS = ("per_class", "curve", "environment")
CONTENT = "sha256"  # key of `subset_content`, which is stored among the seconds of a subset's cost
NO_COST = {"observer": 0.0, "teacher": 0.0, "scoring": 0.0, "selection": 0.0, "writing": 0.0}


def actual_device() -> Device:
    """Return the device on which torch computes on this machine."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class SubsetCosts(Protocol):
    """Record of what subsets cost to make, such as the store."""

    def subset_cost(self, key: str) -> dict[str, Any] | None:
        """Return the seconds by part for the subset of this content key; None if it is not known to be made."""

    def keep_subset_cost(self, key: str, label: str, cost: dict[str, Any]) -> None:
        """Keep the cost of making a subset."""


class CellRunner:
    """Runner of the cells of one plan in this process, where they share decoded images and compiled kernels.

    Args:
        plan: the checked sweep.
        costs: record of the subsets that are made; the store, or its stand-in on another host.
    """

    def __init__(self, plan: Plan, costs: SubsetCosts) -> None:
        self.plan, self.costs = plan, costs
        self._broken: dict[str, Exception] = {}
        self._whole: set[State | None] = set()
        self._teacher: Teacher | FastDCError | None = None

    def run(self, cell: Cell) -> CellResult:
        """Run one cell and return its result.

        Raises:
            FastDCError: the method or the training cannot serve the cell; DivergedError if the loss is not finite.
        """
        cost = self._make_subset_of(cell)
        try:
            (result,) = self._evaluate([[cell]])
        except CheckpointError as error:
            from fastdc.nn.checkpoint import set_aside

            # The checkpoint is damaged or of an older version. It only saves time, so training starts over.
            log_message(f"{cell.name}: starts over ({str(error).partition(';')[0]})")
            set_aside(self._checkpoint(cell))
            (result,) = self._evaluate([[cell]])
        if isinstance(result, DivergedError):
            raise result
        return self._finish(cell, result, cost)

    def run_together(self, cells: Sequence[Cell]) -> list[CellResult | DivergedError]:
        """Train cells of one group at once; return for each its result, or the error by which it diverged."""
        streams = by_stream(cells)
        costs = [cost for same in streams for cost in [self._make_subset_of(same[0])] * len(same)]
        ended = {
            cell.key: result if isinstance(result, DivergedError) else self._finish(cell, result, cost)
            for cell, result, cost in zip(chain(*streams), self._evaluate(streams), costs, strict=True)
        }
        return [ended[cell.key] for cell in cells]

    def _make_subset_of(self, cell: Cell) -> dict[str, Any]:
        assert cell.subset is not None
        return self.make_subset(cell.subset)

    def _evaluate(self, streams: Sequence[Sequence[Cell]]) -> "list[EvaluationResult | DivergedError]":
        """Train the cells of all streams at once; return their results in the order of the cells."""
        from fastdc.train.evaluation import run_evaluations

        return list(chain.from_iterable(run_evaluations([self._request(cells) for cells in streams])))

    def _request(self, cells: Sequence[Cell]) -> "EvaluationRequest":
        from fastdc.train.evaluation_request import EvaluationRequest

        subset, config = cells[0].subset, self.plan.config
        assert subset is not None
        return EvaluationRequest(
            subset.path,
            config.val_file,
            tuple(map(self._settings, cells)),
            allow_missing_classes=config.allow_missing_classes,
            checkpoints=tuple(map(self._checkpoint, cells)),
            names=tuple(cell.name for cell in cells),
            **self._labels(cells[0]),
        )

    def _finish(self, cell: Cell, result: "EvaluationResult", cost: dict[str, Any]) -> CellResult:
        """Build the row of a finished cell."""
        assert cell.subset is not None
        summary = result.model_dump(mode="json")
        detail = {name: summary.pop(name) for name in DETAIL_FIELDS}
        detail["subset"] = str(cell.subset.path)
        return CellResult({**summary, "cost": cost}, detail, self._checkpoint(cell).parent)

    def _checkpoint(self, cell: Cell) -> Path:
        return self.plan.config.workdir / "checkpoints" / cell.key / "checkpoint.pt"

    def _settings(self, cell: Cell) -> "EvaluateSettings":
        from fastdc.train import EvaluateSettings

        config = self.plan.config
        return EvaluateSettings(
            protocol=cell.protocol,
            arch=cell.arch,
            seed=cell.seed,
            augment=cell.label["augment"],
            precision=config.precision,
            threads=self.plan.threads,
            image_size=config.image_size,
            loader=config.loader,
            compile=config.compile,
        )

    def _labels(self, cell: Cell) -> dict[str, Any]:
        """Return the fields of the request that name the source of soft labels; none for a hard protocol."""
        if cell.teacher is None:
            return {}
        return {"teacher": self.teacher(cell.teacher), "labels_root": self.plan.config.workdir / "labels"}

    def teacher(self, teacher: "TeacherPlan") -> "Teacher":
        """Return the network that gives soft labels, loaded once.

        If it cannot be loaded, every later call raises the same error without another try, unless memory was short or
        the GPU failed.

        Raises:
            FastDCError: see `load_teacher`.
        """
        if self._teacher is None:
            try:
                self._teacher = self._load(teacher)
            except FastDCError as error:  # also if its training diverges: it would do so again for every cell
                if is_short_of_memory(error) or loses_device(error):
                    raise
                self._teacher = error
        if isinstance(self._teacher, FastDCError):
            raise self._teacher
        return self._teacher

    def forget_teacher(self) -> None:
        """Drop the network that `teacher` loaded, with its memory; keep the error if it could not be loaded."""
        if not isinstance(self._teacher, FastDCError):
            self._teacher = None

    def _load(self, teacher: "TeacherPlan") -> "Teacher":
        from fastdc.nn.device import choose_compute
        from fastdc.teachers.load import load_teacher

        config = self.plan.config
        compute = choose_compute(config.precision, self.plan.threads)
        data, needs = (config.train, config.workdir, compute), observer_needs(self.plan.runnable)
        return load_teacher(teacher, *data, needs, image_size=config.image_size)

    def check_teachers(self, cells: Sequence[Cell]) -> None:
        """Refuse, before any work, teachers that come trained and do not fit the data set's classes or image size.

        Any other fault of such a teacher becomes the reason of each cell that needs it.

        Raises:
            TeacherError: see `load_teacher`.
        """
        plans = {plan.identity: plan for cell in cells for plan in cell.teachers if plan.observer is None}
        for plan in plans.values():
            try:
                self._load(plan)
            except TeacherError:
                raise
            except FastDCError:
                continue

    def make_network(self, key: str) -> None:
        """Train the network named `key`, one of the `networks_of` the plan's cells, unless it is trained already.

        Raises:
            FastDCError: see `observe` and `load_teacher`.
        """
        from fastdc.observe.train_observer import complete_records

        config, cells = self.plan.config, self.plan.runnable
        needs = observer_needs(cells)
        if key == OBSERVER and any(cell.subset and cell.subset.variant.observed for cell in cells):
            complete_records(config.train, config.workdir, self.plan.observer, needs)
        teachers = (teacher for cell in cells for teacher in cell.teachers if network_key(teacher) == key)
        if (teacher := next(teachers, None)) is not None:
            self._load(teacher)

    def make_subset(self, subset: SubsetPlan) -> dict[str, Any]:
        """Make the subset, unless an undamaged one of known cost exists; return its cost in seconds by part.

        If the method fails, later calls for the same subset raise the same error without another try, unless memory was
        short, the GPU failed, or the disk is at fault.
        """
        if subset.ipc is None:
            return dict(NO_COST)
        if subset.key in self._broken:
            raise self._broken[subset.key]
        if subset.given:
            self._check_given(subset)
            return dict(NO_COST)
        subset.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(subset.path.with_suffix(".lock")):  # two sweeps that need one subset make it once
            cost = self.costs.subset_cost(subset.key)
            # A cost without CONTENT was stored by an older fastdc.
            if cost is not None and self._is_whole(subset.path, cost.get(CONTENT)):
                return {part: seconds for part, seconds in cost.items() if part != CONTENT}
            try:
                return self._compress(subset)
            except Exception as error:
                again = is_short_of_memory(error) or loses_device(error) or ends_sweep(error)
                if not again and (isinstance(error, FastDCError) or classify(error) == "method"):
                    self._broken[subset.key] = error
                raise

    def _check_given(self, subset: SubsetPlan) -> None:
        """Refuse an imported beton that changed since the sweep was planned, or is damaged; check each state once."""
        assert isinstance(subset.variant, ExternalVariant)
        state = file_state(subset.path)
        if state is None or state not in self._whole:
            try:
                subset.variant.source.check(deep=True)
            except FastDCError as error:
                self._broken[subset.key] = error
                raise
            self._whole.add(state)

    def _is_whole(self, path: Path, made_as: list[str] | None) -> bool:
        """Return `is_whole` and whether the content is `made_as`, checked once for each state of the file.

        The check reads every image, which would be too slow for each cell.
        """
        state = file_state(path)
        if state is None:
            return False
        if state not in self._whole and is_whole(path) and made_as in (None, subset_content(path)):
            self._whole.add(state)
        return state in self._whole

    def _compress(self, subset: SubsetPlan) -> dict[str, Any]:
        from fastdc.subsets.compress import make_subset
        from fastdc.subsets.external_request import ExternalRequest, make_external

        start = time.monotonic()
        assert subset.ipc is not None
        request = subset_request(self.plan, subset.variant, subset.ipc, subset.seed)
        if isinstance(request, ExternalRequest):
            made = make_external(request, subset.path)
        else:
            also = observer_needs(self.plan.runnable)  # one observer run records what all methods of the plan read
            # A damaged file, or one of unknown cost, may be there. `force` spares an X.json that is no manifest.
            manifest_path(subset.path).unlink(missing_ok=True)
            made = make_subset(request, subset.path, also=also, force=True)
        cost = {**NO_COST, **made.seconds, "wall": time.monotonic() - start}
        hit("subset.made")
        kept = {**cost, CONTENT: subset_content(subset.path)}
        self.costs.keep_subset_cost(subset.key, f"{subset.variant.name} ipc {subset.ipc}", kept)
        return cost


def file_state(path: Path) -> State | None:
    """Return what changes with a file's content; None if there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return path, found.st_ino, found.st_size, found.st_mtime_ns


def subset_content(path: Path) -> list[str]:
    """Return the SHA-256 of a subset's beton and manifest, by which a later change of either is found."""
    return [file_key(path, 64), file_key(manifest_path(path), 64)]


def is_whole(path: Path) -> bool:
    """Return whether a subset exists and every byte agrees with its manifest; a damaged one is made again."""
    from fastdc.beton import load_manifest, verify_beton

    try:
        load_manifest(path)
        return not verify_beton(path, deep=True)
    except FastDCError:
        return False
