"""Hold what a checked sweep consists of: its cells, the subsets that they train on, and what all of them share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdc.common.choices import Device
from fastdc.common.files import store_path
from fastdc.sweep.external_variant import ExternalVariant
from fastdc.sweep.holdout import Holdout
from fastdc.sweep.plan_checks import AnyVariant
from fastdc.sweep.store.results import Rerun
from fastdc.sweep.store.transitions import Planned
from fastdc.sweep.sweep_config import SweepConfig

if TYPE_CHECKING:
    from fastdc.beton import Manifest
    from fastdc.observe.observer_config import ObserverConfig
    from fastdc.subsets.external import ExternalSet
    from fastdc.teachers.plan import TeacherPlan
    from fastdc.train.protocols import Protocol


@dataclass(frozen=True)
class SubsetPlan:
    """Describe one compressed set, shared by every cell that trains on it.

    Attributes:
        key: content key of the set.
        group: key of the set with seed 0, common to the sets of all seeds.
        path: where the set is or will be; for the whole set, the training set itself.
        variant: the method as configured, or an external set.
        ipc: stored images per class; None for the whole set.
        seed: subset seed; 0 if the method is deterministic.
        images: number of stored images.
        given: the file at `path` is the user's: the training set, or an imported beton.
    """

    key: str
    group: str
    path: Path
    variant: AnyVariant
    ipc: int | None
    seed: int
    images: int
    given: bool = False


@dataclass(frozen=True)
class Cell:
    """Describe one run of the grid.

    Attributes:
        key: content key of the result.
        axes: what names the run without its content, with its seed; see `Planned`.
        label: values to show in reports. `ipc` is None for a method that keeps the whole set.
        subset: the set to train on; None for a plug-in that cannot be loaded.
        protocol: the training protocol.
        arch: network to train.
        seed: training seed.
        skip: why the cell cannot run; None if it can.
        teacher: network that gives soft labels, if any.
        views: visits to each stored image in an epoch.
    """

    key: str
    axes: str
    label: dict[str, Any]
    subset: SubsetPlan | None
    protocol: "Protocol"
    arch: str
    seed: int
    skip: str | None = None
    teacher: "TeacherPlan | None" = None
    views: int = 1

    @property
    def teachers(self) -> "tuple[TeacherPlan, ...]":
        """Return the networks that the cell needs: those of its method, and the one that gives soft labels."""
        own = self.subset.variant.teachers if self.subset is not None else ()
        return own if self.teacher is None else (*own, self.teacher)

    @property
    def name(self) -> str:
        """Describe the cell in one line: what is trained on what."""
        return run_name({**self.label, "arch": self.arch, "seed": self.seed})

    def planned(self) -> Planned:
        """Return the cell as the store registers it."""
        return Planned(self.key, self.axes, self.label, self.skip)


def run_name(label: Mapping[str, Any]) -> str:
    """Describe a run by its label in one line: what is trained on what."""
    ipc = "all" if label["ipc"] is None else label["ipc"]
    rule = "" if label["augment"] == "method" else f" augment {label['augment']}"
    return f"{label['method']} ipc {ipc} {label['protocol']}{rule} {label['arch']} seed {label['seed']}"


@dataclass(frozen=True)
class Plan:
    """Hold a checked sweep: its cells in the order they run, and what they share.

    With `holdout`, `train` and `val` describe the two parts of the split, and so do the paths in `config`.
    """

    config: SweepConfig
    device: Device
    threads: int
    train: "Manifest"
    val: "Manifest"
    observer: "ObserverConfig"
    teacher: "TeacherPlan | None" = None
    holdout: Holdout | None = None
    cells: list[Cell] = field(default_factory=list)

    @cached_property
    def runnable(self) -> list[Cell]:
        """Return the cells that are not skipped."""
        return [cell for cell in self.cells if cell.skip is None]

    @property
    def external_sets(self) -> "list[ExternalSet]":
        """Return the external sets that cells train on, each once."""
        variants = {cell.subset.variant.name: cell.subset.variant for cell in self.cells if cell.subset is not None}
        return [variant.source for variant in variants.values() if isinstance(variant, ExternalVariant)]

    @property
    def store_path(self) -> Path:
        """Return the path of the result store, `DIR/store.sqlite`."""
        return store_path(self.config.workdir)

    def missing(self, states: dict[str, str], rerun: Rerun = "missing") -> list[Cell]:
        """Return the cells that a sweep would run: those without a result, and those that `rerun` adds."""
        final = {"missing": ("done", "failed", "diverged"), "failed": ("done",), "all": ()}[rerun]
        return [cell for cell in self.runnable if states.get(cell.key) not in final]
