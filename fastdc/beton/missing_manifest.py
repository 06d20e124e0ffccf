"""Warn about a beton whose manifest is missing: once per use, even if progress is off."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fastdc.common.log import log_message

_warned: set[Path] | None = None  # None outside every `one_use` block, where each call warns


@contextmanager
def one_use(known: Iterable[Path] = ()) -> Iterator[None]:
    """Limit warnings in the block to one per file, however often it is read.

    A block inside another belongs to the outer one.

    Args:
        known: files that another process has already warned about.
    """
    global _warned
    outer = _warned
    _warned = {*map(_place, known)} if outer is None else outer
    try:
        yield
    finally:
        _warned = outer


def warn_missing(beton: Path, manifest: Path) -> None:
    """Warn that `beton` has no manifest, and state what is assumed instead."""
    place = _place(beton)
    if _warned is not None and place in _warned:
        return
    log_message(
        f"warning: {beton}: its manifest {manifest.name} is missing, so its classes are called by number, and hints "
        "such as PCA's tile_grid are unknown: images train whole, as with --augment protocol; copy the manifest along"
    )
    if _warned is not None:
        _warned.add(place)


def _place(beton: Path) -> Path:
    return Path(beton).absolute()
