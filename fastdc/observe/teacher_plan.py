"""A teacher before it is loaded, and what can be refused of it then. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastdc.errors import ConfigError, MethodError, TeacherError
from fastdc.nn.facts import Facts, Kind
from fastdc.nn.names import lacks_batch_norm, no_batch_norm, takes_side
from fastdc.nn.orders import Columns, OrderName
from fastdc.observe.config import ObserverConfig

if TYPE_CHECKING:
    from fastdc.nn.teacher import Teacher

PRETRAINED_SIDE = 224


@dataclass(frozen=True)
class TeacherPlan:
    """A teacher before it is loaded: everything of it that can be known without torch.

    Attributes:
        spec: its name as given.
        name: as tables show it.
        arch: network by name.
        identity: content key of all that its outputs depend on.
        observer: the observer whose weights it takes when its whole schedule is done; None for one that comes trained.
        extra: whether that is another one than the observer of the methods.
        kind: where it comes from.
        train_hash: content hash of the training set. classes: of the data set, in its order.
        file: its weights, where they lie in a file that came trained.
        facts: what that file says of itself.
        columns: outputs that are the data set's classes; None for all of them, or where only the file's length shows.
        order: the order of its outputs as given, where its file does not name its classes; None for the data set's.
        image_size: side it was trained at in pixels; None where only its weights show it.
        note: what a reader of its results must know.
    """

    spec: str
    name: str
    arch: str
    identity: str
    observer: ObserverConfig | None
    kind: Kind
    train_hash: str
    classes: tuple[str, ...]
    file: Path | None = None
    facts: Facts | None = None
    columns: Columns | None = None
    order: OrderName | None = None
    image_size: int | None = PRETRAINED_SIDE
    extra: bool = False
    note: str = ""

    @property
    def named(self) -> bool:
        """Whether it names its classes, by which its outputs are matched."""
        return self.facts is not None or self.kind not in ("file", "observer")

    @property
    def is_observer(self) -> bool:
        """Whether it is the very observer that methods read."""
        return self.observer is not None and not self.extra


def check_side(plan: "TeacherPlan | Teacher", image_size: int) -> None:
    """Refuse a teacher whose network takes no images of `image_size` pixels; a plan may not know yet.

    Raises:
        TeacherError: names both sides.
    """
    if plan.image_size is not None and not takes_side(plan.arch, plan.image_size, image_size):
        raise TeacherError(
            f"teacher {plan.name}: was trained at {plan.image_size} px, and a {plan.arch} takes no other size; the "
            f"stored images have {image_size} px. Observe at that size (--image-size) or take another network"
        )


def check_batch_norm(plan: TeacherPlan) -> None:
    """Refuse, before it is trained or loaded, a network that is known to have no BatchNorm.

    Raises:
        MethodError: for methods that match its running statistics.
    """
    if lacks_batch_norm(plan.arch):
        raise MethodError(no_batch_norm(plan.name, plan.arch))


def check_order_used(order: OrderName | None, plans: Sequence[TeacherPlan]) -> None:
    """Refuse a class order that none of the teachers needs.

    Raises:
        ConfigError: names it.
    """
    if order is not None and not any(plan.order for plan in plans):
        raise ConfigError(
            f"--teacher-order {order}: no teacher here needs it, only ARCH@FILE, whose file does not name its classes; "
            "leave it out"
        )
