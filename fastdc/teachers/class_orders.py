"""Named class orders that other programs use for a network's outputs.

Imports torch only to look up ImageNet's English class names.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, get_args

from fastdc.common.choices import OrderName as OrderName  # `X as X` re-exports a name
from fastdc.common.errors import ConfigError
from fastdc.common.text import natural

ORDERS: tuple[OrderName, ...] = get_args(OrderName)
"""All order names. Where two of them give a data set the same order, the first one names it."""

Columns = tuple[int, ...]
"""Output number of each class of a data set, in the data set's class order."""

WNID = re.compile(r"(?<![0-9A-Za-z])n[0-9]{8}(?![0-9])")
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
EXPECTED = {"numeric": "a number", "wordnet": "a WordNet id (n01440764) or one of ImageNet's English names"}


def order_columns(order: OrderName, classes: Sequence[str]) -> Columns | None:
    """Return the output of each class if a network's outputs are in a named order.

    `text` sorts names as strings, as torchvision's ImageFolder does: class1, class10, class2. `natural` reads digits in
    a name as numbers: class1, class2, class10. `numeric` reads whole names as numbers, such as 0, 10 and -1.5.
    `wordnet` sorts by WordNet id, found in each name or through ImageNet's English names.

    Returns:
        One output number per class, or None if these names have no such order.
    """
    keys = _KEYS[order](classes)
    if keys is None:
        return None
    # The name breaks ties of equal keys, such as those of 01 and 1.
    columns = [0] * len(classes)
    for output, place in enumerate(sorted(range(len(classes)), key=lambda place: (keys[place], classes[place]))):
        columns[place] = output
    return tuple(columns)


def require_columns(order: OrderName, classes: Sequence[str]) -> Columns:
    """Return `order_columns`, which must exist.

    Raises:
        ConfigError: the class names have no such order.
    """
    found = order_columns(order, classes)
    if found is None:
        raise ConfigError(
            f"--teacher-order {order}: not every class name is {EXPECTED[order]}, the first is '{classes[0]}'; "
            f"take another order ({', '.join(ORDERS)})"
        )
    return found


def distinct_orders(classes: Sequence[str]) -> dict[OrderName, Columns]:
    """Return the orders that these class names have, without duplicates, each under its first name."""
    found: dict[OrderName, Columns] = {}
    for order in ORDERS:
        columns = order_columns(order, classes)
        if columns is not None and columns not in found.values():
            found[order] = columns
    return found


def _numbers(classes: Sequence[str]) -> list[Any] | None:
    return [float(name) for name in classes] if all(NUMBER.fullmatch(name) for name in classes) else None


def _wordnet(classes: Sequence[str]) -> list[Any] | None:
    found = [WNID.search(name) for name in classes]
    ids = [match[0] for match in found if match is not None]
    if len(ids) == len(classes):
        return ids
    return None if ids else _places_in_imagenet(classes)  # ids in some names only give no order


def _places_in_imagenet(classes: Sequence[str]) -> list[Any] | None:
    """Return the places of English names among ImageNet's classes; None if one is unknown or ambiguous."""
    from torchvision.models import ResNet18_Weights  # imports torch, so only where names need it

    places: dict[str, list[int]] = {}
    for place, name in enumerate(ResNet18_Weights.IMAGENET1K_V1.meta["categories"]):
        places.setdefault(_plain(name), []).append(place)
    found = [places.get(_plain(name), []) for name in classes]
    return [each[0] for each in found] if all(len(each) == 1 for each in found) else None


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


_KEYS: dict[OrderName, Callable[[Sequence[str]], list[Any] | None]] = {
    "text": list,
    "numeric": _numbers,
    "natural": lambda classes: [natural(name) for name in classes],
    "wordnet": _wordnet,
}
