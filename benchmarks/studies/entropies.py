"""Read entropy.csv: a trained network's entropy on each method's images, whole and cropped."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fastdc.common.errors import ConfigError

FILE = "entropy.csv"


class Entropy(NamedTuple):
    """Line of entropy.csv: mean entropy of a network's predictions on one method's images under one crop.

    Attributes:
        network: name of the network. method: as rows spell it. ipc: images per class of its sets.
        crops: "image" for crops of the whole stored image, "hints" for those that the method's own hints prescribe.
        area: share of the area that a crop keeps; 1 is all of it.
        entropy, spread: mean and standard deviation over images of -sum p log p, in nats; each image's is the mean over
            its crops.
        images, sets: number of images, and of the stored sets that they come from.
    """

    network: str
    method: str
    ipc: int
    crops: str
    area: float
    entropy: float
    spread: float
    images: int
    sets: int


def read_entropies(study: Path) -> list[Entropy]:
    """Return the lines of DIR/entropy.csv; none if the file does not exist.

    Raises:
        ConfigError: a line is malformed; names it.
    """
    path = study / FILE
    if not path.exists():
        return []
    with path.open(newline="") as handle:
        return [_entropy(path, number, line) for number, line in enumerate(csv.DictReader(handle), 2)]


def _entropy(path: Path, number: int, line: dict[str, str]) -> Entropy:
    kinds = Entropy.__annotations__
    try:
        return Entropy(**{name: kind(line[name]) for name, kind in kinds.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}:{number}: expected {', '.join(kinds)}; make it again: study.py entropy") from error


def entropy_table(entropies: Sequence[Entropy]) -> str:
    """Return a Markdown table with a line for each method and kind of crop, and a column for each share of the area."""
    areas = sorted({each.area for each in entropies}, reverse=True)
    cells: dict[tuple[str, str, int, str, int], dict[float, str]] = {}
    for each in entropies:
        line = (each.network, each.method, each.ipc, each.crops, each.images)
        cells.setdefault(line, {})[each.area] = f"{each.entropy:.3f}"
    header = ["network", "method", "IPC", "crops of", "images", *(f"{100 * area:g} %" for area in areas)]
    body = [[*map(str, line), *(found.get(area, "-") for area in areas)] for line, found in cells.items()]
    rows = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *body)]
    return "\n".join(["**Mean entropy in nats, by the share of the area that a crop keeps**", "", *rows])
