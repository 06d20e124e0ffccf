"""Registry of the parts of one kind by name: those of fastdc, and the plug-ins of other packages.

A part is defined in a module: `METHOD = MyMethod()`. An entry point names the module, or the part in it.
"""

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Generic, TypeVar

from fastdc.common.errors import FastDCError
from fastdc.common.settings import closest

Part = TypeVar("Part")
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]*")


class Registry(Generic[Part]):
    """Registry of parts by name. A plug-in that fails to load is recorded with the reason and stops no other.

    Args:
        kind: word for one part ("method"). In capitals it is the attribute of a module that holds the part, and with an
            S added the one that holds several.
        part: class of the parts.
        name_of: function that returns the name of a part.
        error: class of the errors.

    Attributes:
        parts: the parts by name.
        places: where each part is defined.
        broken: why a plug-in failed to load, by the name of its entry point.
    """

    def __init__(self, kind: str, part: type[Any], name_of: Callable[[Part], str], error: type[FastDCError]) -> None:
        self.kind, self.name_of, self.error = kind, name_of, error
        self._part = part
        self.parts: dict[str, Part] = {}
        self.places: dict[str, str] = {}
        self.broken: dict[str, str] = {}

    def register(self, part: Part, place: str | None = None) -> None:
        """Add one part.

        Args:
            place: where it is defined; None takes the place of its class.

        Raises:
            FastDCError: the name is malformed (not lower-case letters, digits, - and _) or taken; then the message
                names both places.
        """
        self.add(self.name_of(part), part, place_of(part) if place is None else place)

    def add(self, name: str, part: Part, place: str) -> None:
        """Add one part under a name; see `register`."""
        if not NAME_PATTERN.fullmatch(name):
            raise self.error(f"{self.kind} '{name}' ({place}): a name has only a-z, 0-9, - and _")
        if name in self.parts:
            raise self.error(f"{self.kind} '{name}' is registered twice: {self.places[name]} and {place}; rename one")
        self.parts[name], self.places[name] = part, place

    def get(self, name: str) -> Part:
        """Return the part called `name`.

        Raises:
            FastDCError: no part has this name (the message suggests the closest one), or it is a broken plug-in (the
                message gives the reason).
        """
        if name in self.parts:
            return self.parts[name]
        if name in self.broken:
            raise self.error(f"{self.kind} '{name}' cannot be used: {self.broken[name]}")
        raise self.error(f"unknown {self.kind} '{name}'; {closest(name, self.parts)}")

    def load_folder(self, package: str) -> None:
        """Register the parts of every module of a package. One that fails is a bug of fastdc, and raises."""
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            self._register_loaded(importlib.import_module(f"{package}.{module.name}"))

    def load_plugins(self, group: str) -> None:
        """Register the plug-ins of an entry-point group; record those that fail to load."""
        for point in entry_points(group=group):
            try:
                self.load_plugin(point)
            except Exception as error:  # third-party code may raise anything, and other plug-ins must still load
                self.broken[point.name] = f"{point.value}: {type(error).__name__}: {error}"

    def load_plugin(self, point: EntryPoint) -> None:
        """Register the parts of one entry point."""
        self._register_loaded(point.load(), sys.modules[point.module])

    def _register_loaded(self, loaded: object, module: ModuleType | None = None) -> None:
        """Register what an import returned: a module, or one part of `module`."""
        home = loaded if isinstance(loaded, ModuleType) else module
        for part in self._parts_in(loaded) if isinstance(loaded, ModuleType) else [loaded]:
            if not isinstance(part, self._part):
                expected = f"{self._part.__module__}.{self._part.__qualname__}"
                raise self.error(f"found {part!r}, expected an instance of {expected} or of a subclass")
            own = home is None or type(part).__module__ == home.__name__
            self.register(part, place_of(part) if own else str(getattr(home, "__file__", None)))

    def _parts_in(self, module: ModuleType) -> Iterator[object]:
        one, several = self.kind.upper(), f"{self.kind.upper()}S"
        if not hasattr(module, one) and not hasattr(module, several):
            raise self.error(f"{module.__file__}: defines no {one}; end the file with {one} = ...")
        yield from getattr(module, several, ())
        if hasattr(module, one):
            yield getattr(module, one)


def place_of(part: object) -> str:
    """Return where the class of a part is defined, as file:line."""
    cls = type(part)
    return f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"
