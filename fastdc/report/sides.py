"""Find the runs that a text of `compare` or `rank` names: `pca`, `sre2l` (its only variant), `pca@augment=protocol`."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fastdc.common.errors import ConfigError
from fastdc.common.log import log_message
from fastdc.common.settings import closest
from fastdc.common.text import natural, plain
from fastdc.report.comparable import Group
from fastdc.report.rows import AXES, Row

CONTRASTS = tuple(axis for axis in AXES if axis not in ("dataset", "method", "holdout"))
"""Settings that the two sides of a comparison may give different values."""
_AT_SETTING = re.compile(rf"@(?=(?:{'|'.join(CONTRASTS).replace('_', '[_-]')})=)")


class Side(NamedTuple):
    """Side of a comparison.

    Attributes:
        method: as a table shows it. setting: settings that its runs must have, as (name, text).
    """

    method: str
    setting: tuple[tuple[str, str], ...] = ()

    @property
    def axes(self) -> tuple[str, ...]:
        """Return the names of the given settings."""
        return tuple(axis for axis, _ in self.setting)

    def __str__(self) -> str:
        """Return the side as it is written: `pca@augment=protocol`."""
        return "@".join([self.method, *(f"{axis}={value}" for axis, value in self.setting)])

    def holds(self, row: Row) -> bool:
        """Return whether a row is of this side."""
        return row.method == self.method and all(str(getattr(row, axis)) == value for axis, value in self.setting)


def free_axes(first: Side, second: Side) -> tuple[str, ...]:
    """Return the settings that may differ: those that both sides name, or one of two sides of the same method."""
    if first.method == second.method:
        return first.axes + second.axes
    return tuple(axis for axis in first.axes if axis in second.axes)


def find_sides(groups: Sequence[Group], texts: Iterable[str]) -> list[Side]:
    """Return the sides of these texts: a method, or METHOD@SETTING=VALUE, repeated for several settings.

    Raises:
        ConfigError: as in `find_names`, or the method has no runs with these settings.
    """
    parts = [_AT_SETTING.split(text) for text in texts]
    names = find_names(groups, [name for name, *_ in parts])
    sides = [Side(name, tuple(map(_pair, rest))) for name, (_, *rest) in zip(names, parts, strict=True)]
    for side in sides:
        if not any(side.holds(row) for row, _ in groups):
            rows = [row for row, _ in groups if row.method == side.method]
            found = [f"{axis} {', '.join(sorted({str(getattr(row, axis)) for row in rows}))}" for axis in side.axes]
            raise ConfigError(plain(f"'{side}': no such runs; '{side.method}' has {'; '.join(found)}"))
    return sides


def _pair(text: str) -> tuple[str, str]:
    axis, _, value = text.partition("=")
    return axis.replace("-", "_"), value


def find_names(groups: Iterable[Group], names: Iterable[str]) -> list[str]:
    """Return the methods of these names.

    A name is one of the table, where `mine (external)` is the set `mine`. A method without its settings is its variant
    if there is only one, which is logged.

    Raises:
        ConfigError: a name is not among the runs; the message suggests the closest one.
    """
    shown = {row.shown: row.method for row, _ in groups}
    known = set(shown.values())
    return [name if name in known else shown.get(name) or _only_variant(name, known) for name in names]


def _only_variant(name: str, known: Iterable[str]) -> str:
    """Return the only variant of a method; one of joined results, `sre2l@second`, keeps their name."""
    method, at, source = name.partition("@")
    variants = [each for each in known if re.fullmatch(rf"{re.escape(method)}\[.*\]{re.escape(at + source)}", each)]
    if len(variants) != 1:
        raise ConfigError(f"method '{plain(name)}': not among these runs; {_suggestion(name, known)}")
    log_message(f"note: '{plain(name)}' is '{plain(variants[0])}' here, its only variant")
    return variants[0]


def _suggestion(name: str, known: Iterable[str]) -> str:
    """Return help for an unknown name: the variants of the method, else the closest name."""
    variants = [f"'{plain(each)}'" for each in sorted(known, key=natural) if each.startswith((f"{name}[", f"{name}#"))]
    return f"did you mean {' or '.join(variants)}?" if variants else closest(name, known)
