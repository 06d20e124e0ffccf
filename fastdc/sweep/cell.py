"""One cell: its subset made (or found), a network trained on it. The only file of the room that starts torch."""

import shutil
import time
from pathlib import Path
from typing import Any

from filelock import FileLock

from fastdc.errors import CheckpointError, FastDCError
from fastdc.nn.options import Device
from fastdc.progress import say
from fastdc.sweep.plan import Cell, Plan, SubsetPlan
from fastdc.sweep.run import CellResult
from fastdc.sweep.store import Store

DETAIL_FIELDS = ("per_class", "curve", "environment")
NO_COST = {"observer": 0.0, "scoring": 0.0, "selection": 0.0, "writing": 0.0}


def actual_device() -> Device:
    """Where torch computes on this machine."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class CellRunner:
    """Runs cells of one plan in this process, so that they share decoded images and compiled kernels.

    Args:
        checkpoint_seconds: longest time between two checkpoints of a training; None keeps the trainer's own.
    """

    def __init__(
        self, plan: Plan, store: Store, show_progress: bool = False, checkpoint_seconds: float | None = None
    ) -> None:
        self.plan, self.store, self.show_progress = plan, store, show_progress
        self._checkpointing = {} if checkpoint_seconds is None else {"checkpoint_seconds": checkpoint_seconds}
        self._broken: dict[str, FastDCError] = {}
        self._whole: set[tuple[Path, int, int, int]] = set()

    def run(self, cell: Cell) -> CellResult:
        """Result of one cell.

        Raises:
            FastDCError: the method or the training cannot serve it; DivergedError for a loss that is not finite.
        """
        assert cell.subset is not None
        cost = self.make_subset(cell.subset)
        folder = self.plan.config.workdir / "checkpoints" / cell.key
        try:
            result = self._evaluate(cell, cell.subset, folder / "checkpoint.pt")
        except CheckpointError as error:
            from fastdc.nn.checkpoint import set_aside

            # damaged, or of an older version: it only ever saves time
            say(f"{cell.name}: starts over ({str(error).partition(';')[0]})")
            set_aside(folder / "checkpoint.pt")
            result = self._evaluate(cell, cell.subset, folder / "checkpoint.pt")
        shutil.rmtree(folder, ignore_errors=True)
        detail = {name: result.pop(name) for name in DETAIL_FIELDS}
        return CellResult({**result, "cost": cost}, {**detail, "subset": str(cell.subset.path)})

    def _evaluate(self, cell: Cell, subset: SubsetPlan, checkpoint: Path) -> dict[str, Any]:
        from fastdc.train import EvaluateSettings
        from fastdc.train.evaluation import evaluate

        config = self.plan.config
        settings = EvaluateSettings(
            protocol=cell.protocol,
            arch=cell.arch,
            seed=cell.seed,
            augment=config.augment,
            precision=config.precision,
            threads=self.plan.threads,
            image_size=config.image_size,
            loader=config.loader,
        )
        return evaluate(
            subset.path,
            config.val,
            settings,
            checkpoint=checkpoint,
            show_progress=self.show_progress,
            **self._checkpointing,
        ).model_dump(mode="json")

    def make_subset(self, subset: SubsetPlan) -> dict[str, Any]:
        """Make the subset unless it is there, whole, with its cost known; returns that cost in seconds by part.

        A method that fails on a subset is not asked again for the same one by the next cell.
        """
        if subset.ipc is None:
            return dict(NO_COST)
        if subset.key in self._broken:
            raise self._broken[subset.key]
        subset.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(subset.path.with_suffix(".lock")):  # two sweeps that need one subset make it once
            cost = self.store.subset_cost(subset.key)
            if cost is not None and self._is_whole(subset.path):
                return cost
            try:
                return self._compress(subset)
            except FastDCError as error:
                self._broken[subset.key] = error
                raise

    def _is_whole(self, path: Path) -> bool:
        """`is_whole`, which reads every image, once for each state of the file and not for each cell."""
        if not path.exists():
            return False
        found = path.stat()
        state = (path, found.st_ino, found.st_size, found.st_mtime_ns)
        if state not in self._whole and is_whole(path):
            self._whole.add(state)
        return state in self._whole

    def _compress(self, subset: SubsetPlan) -> dict[str, Any]:
        from fastdc.compress import compress_beton

        config = self.plan.config
        start = time.monotonic()
        assert subset.ipc is not None
        made = compress_beton(
            subset.variant.method.info.name,
            config.train,
            subset.path,
            ipc=subset.ipc,
            seed=subset.seed,
            image_size=config.image_size,
            settings=subset.variant.settings,
            workdir=config.workdir,
            observer=self.plan.observer,
            force=True,
            show_progress=self.show_progress,
        )
        cost = {**NO_COST, **made.seconds, "wall": time.monotonic() - start}
        self.store.keep_subset_cost(subset.key, f"{subset.variant.name} ipc {subset.ipc}", cost)
        return cost


def is_whole(path: Path) -> bool:
    """Whether a subset lies there, every byte as its manifest says; a damaged one is made again."""
    from fastdc.beton import load_manifest, verify_beton

    try:
        load_manifest(path)
        return not verify_beton(path, deep=True)
    except FastDCError:
        return False
