"""What to say about a beton whose manifest is missing: once for each use, also where progress is silent."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastdc.progress import say

if TYPE_CHECKING:
    from fastdc.beton.manifest import Manifest

_said: set[Path] | None = None


@contextmanager
def one_use(known: Iterable[Path] = ()) -> Iterator[None]:
    """Say one line about each file in the block, however often the block reads it; blocks inside belong to it.

    Args:
        known: files of which another process has said so already.
    """
    global _said
    outer = _said
    _said = {*map(_place, known)} if outer is None else outer
    try:
        yield
    finally:
        _said = outer


def say_missing(beton: Path, manifest: Path) -> None:
    """Say that `beton` has no manifest, and what is assumed instead."""
    place = _place(beton)
    if _said is not None and place in _said:
        return
    say(
        f"warning: {beton}: its manifest {manifest.name} is missing, so its classes are called by number, and hints "
        "such as PCA's tile_grid are unknown: images train whole, as with --augment protocol; copy the manifest along"
    )
    if _said is not None:
        _said.add(place)


def _place(beton: Path) -> Path:
    return Path(beton).absolute()


def unknown_classes(*betons: "tuple[Path, Manifest]") -> str | None:
    """Return why classes of these betons cannot be compared by name; None where all have a manifest."""
    for path, manifest in betons:
        if manifest.inferred:
            return (
                f"{path}: its manifest {Path(path).with_suffix('.json').name} is missing, so its classes are only "
                f"known as 0..{len(manifest.classes) - 1}; copy the manifest along, or write the file again with fastdc"
            )
    return None
