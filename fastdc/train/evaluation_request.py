"""Everything that an evaluation depends on, checked once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastdc.common.errors import ConfigError
from fastdc.common.files import check_not_input
from fastdc.nn.checkpoint import CHECKPOINT_SECONDS
from fastdc.train.evaluate_settings import EvaluateSettings
from fastdc.train.labels.source import check_source
from fastdc.train.protocols import Protocol

if TYPE_CHECKING:
    from fastdc.teachers.network import Teacher


@dataclass(frozen=True)
class EvaluationRequest:
    """Evaluation of one subset by K >= 1 networks, checked when it is made.

    Attributes:
        subset, val: betons with the same classes in the same order.
        settings: one per network. They differ only in `arch`, `augment` and, where the order is shared, `seed`.
        teacher, labels_root, allow_missing_classes, checkpoint_seconds: as in `evaluate`. A hard protocol has no
            teacher.
        checkpoints: a file from which a killed run resumes, or None, per network; empty for none at all.
        names: name of each run in its events (`fastdc.track`); empty for none at all.

    Raises:
        ConfigError: the settings cannot share a stream; or a soft protocol has no teacher or no folder for stored
            labels.
        OutputError: a checkpoint is the subset or the validation set.
    """

    subset: Path
    val: Path
    settings: tuple[EvaluateSettings, ...]
    teacher: "Teacher | None" = None
    labels_root: Path | None = None
    allow_missing_classes: bool = False
    checkpoints: tuple[Path | None, ...] = ()
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_shareable(self.settings)
        count, protocol = len(self.settings), self.settings[0].protocol
        # The dataclass is frozen, so an ordinary assignment would raise.
        object.__setattr__(self, "checkpoints", self.checkpoints or (None,) * count)
        object.__setattr__(self, "names", self.names or ("",) * count)
        for file in filter(None, self.checkpoints):
            check_not_input(file, (self.subset, self.val))
        if not protocol.soft:
            object.__setattr__(self, "teacher", None)  # not part of a hard training's identity
        check_source(protocol, self.teacher, self.labels_root)


def check_shareable(settings: Sequence[EvaluateSettings]) -> None:
    """Check that networks can share one stream and still give the results of separate runs.

    Raises:
        ConfigError: there is no network, or a setting differs that must not.
    """
    if not settings:
        raise ConfigError("no networks to train together, expected at least one")
    shares_order = settings[0].protocol.shares_order
    hint = "; seeds share a stream under a protocol with order=shared, or stored labels"
    _check_equal(settings, {"arch", "augment"} | ({"seed"} if shares_order else set()), {"seed": hint})


def check_alike(requests: Sequence[EvaluationRequest]) -> None:
    """Check that the networks of several requests can be trained side by side.

    Raises:
        ConfigError: there is no request, or they differ in the validation set or in a setting that must be equal.
    """
    if not requests:
        raise ConfigError("no sets to train side by side, expected at least one")
    for request in requests[1:]:
        if request.val.resolve() != requests[0].val.resolve():
            raise ConfigError(
                f"sets trained together differ in val ({requests[0].val} and {request.val}), expected one validation "
                "set"
            )
    _check_equal([each for request in requests for each in request.settings], {"arch", "augment", "seed"}, {})


def _check_equal(settings: Sequence[EvaluateSettings], free: set[str], hints: dict[str, str]) -> None:
    first = settings[0]
    for other in settings[1:]:
        for name in sorted(set(EvaluateSettings.model_fields) - free):
            values = getattr(first, name), getattr(other, name)
            if values[0] != values[1]:
                shown = " and ".join(each.name if isinstance(each, Protocol) else str(each) for each in values)
                raise ConfigError(
                    f"networks trained together differ in {name} ({shown}), expected equal values{hints.get(name, '')}"
                )
