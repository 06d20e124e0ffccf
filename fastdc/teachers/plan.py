"""Plans of teachers, and the checks that need no loaded network. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastdc.common.errors import ConfigError, MethodError, TeacherError
from fastdc.nn.arch_names import lacks_batch_norm, no_batch_norm, takes_side
from fastdc.nn.weights_facts import Facts, Kind
from fastdc.observe.observer_config import ObserverConfig
from fastdc.teachers.class_orders import Columns, OrderName

if TYPE_CHECKING:
    from fastdc.teachers.network import Teacher

PRETRAINED_SIDE = 224


@dataclass(frozen=True)
class TeacherPlan:
    """Description of a teacher that is not loaded yet.

    Attributes:
        spec: name as given by the user.
        name: name for tables.
        arch: architecture name.
        identity: content key of everything its outputs depend on.
        observer: observer whose weights at the end of the schedule it takes; None for a pretrained network.
        kind: source of the network.
        train_hash: content hash of the training set.
        classes: the data set's class names, in order.
        file: weights file of a pretrained network, if it has one.
        facts: that file's metadata.
        columns: output of each class of the data set; None for all outputs in order, or where the number of outputs,
            which is read from the weights, decides.
        order: given class order of the outputs, where the file does not name its classes; None for the data set's.
        image_size: side of its training images in pixels; None where only the weights show it.
        extra: whether `observer` differs from the observer of the methods.
        note: caveat to show beside its results.
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
        """Return whether the network names its classes, so that its outputs are matched by name."""
        return self.facts is not None or self.kind not in ("file", "observer")

    @property
    def is_observer(self) -> bool:
        """Return whether this is the observer that methods read."""
        return self.observer is not None and not self.extra


def check_side(plan: "TeacherPlan | Teacher", image_size: int) -> None:
    """Refuse a teacher whose network does not accept images of `image_size` pixels.

    A plan without a side passes; the loaded teacher is checked again.

    Raises:
        TeacherError: the network accepts only the side it was trained at.
    """
    if plan.image_size is not None and not takes_side(plan.arch, plan.image_size, image_size):
        raise TeacherError(
            f"teacher {plan.name}: was trained at {plan.image_size} px, and a {plan.arch} takes no other size; the "
            f"stored images have {image_size} px. Observe at that size (--image-size) or take another network"
        )


def check_batch_norm(plan: TeacherPlan) -> None:
    """Refuse a network that is known to have no BatchNorm before it is trained or loaded.

    Used for methods that match BatchNorm's running statistics.

    Raises:
        MethodError: the architecture has no BatchNorm.
    """
    if lacks_batch_norm(plan.arch):
        raise MethodError(no_batch_norm(plan.name, plan.arch))


def check_order_used(order: OrderName | None, plans: Sequence[TeacherPlan]) -> None:
    """Refuse a class order that no teacher needs.

    Raises:
        ConfigError: an order is given, and no teacher uses it.
    """
    if order is not None and not any(plan.order for plan in plans):
        raise ConfigError(
            f"--teacher-order {order}: no teacher here needs it; it applies to ARCH@FILE, and to ImageNet networks "
            "where the data set's 1000 classes have no WordNet ids; omit it"
        )
