"""Warn about a beton whose manifest is missing: once per use, even if progress is off."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fastdc.common.log import log_message

_blocks = 0  # open `one_use` blocks; a count, because blocks of two threads may overlap
_warned: set[Path] = set()  # files that the open blocks have warned about


@contextmanager
def one_use(known: Iterable[Path] = ()) -> Iterator[None]:
    """Limit warnings in the block to one per file, however often it is read.

    A block inside another belongs to the outer one.

    Args:
        known: files that another process has already warned about.
    """
    global _blocks
    if not _blocks:
        _warned.clear()
        _warned.update(map(_place, known))
    _blocks += 1
    try:
        yield
    finally:
        _blocks -= 1


def manifest_remedy(beton: Path) -> str:
    """Return what to do about a missing manifest, for messages."""
    return (
        "copy it along with the beton; if stock FFCV wrote that, name its classes: "
        f"fastdc write-beton {beton} OUT.beton --classes FILE (one name per line, or a beton with a manifest)"
    )


def warn_missing(beton: Path, manifest: Path) -> None:
    """Warn that `beton` has no manifest, and state what is assumed instead."""
    place = _place(beton)
    if _blocks and place in _warned:
        return
    log_message(
        f"warning: {beton}: its manifest {manifest.name} is missing, so its classes are called by number, and hints "
        f"such as PCA's tile_grid are unknown: images train whole, as with --augment protocol; {manifest_remedy(beton)}"
    )
    _warned.add(place)


def _place(beton: Path) -> Path:
    return Path(beton).absolute()
