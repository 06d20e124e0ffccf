"""Registry of methods by name: the files of the family folders and the plug-ins of other packages."""

import importlib
import inspect
import pkgutil
import re
from importlib.metadata import entry_points
from types import ModuleType

from fastdc.common.errors import MethodError
from fastdc.common.settings import closest
from fastdc.methods import combination, distillation, pruning, reference
from fastdc.methods.bases.method import Method

ENTRY_POINT_GROUP = "fastdc.methods"
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]*")
FOLDERS = (reference, pruning, distillation, combination)
"""Packages of built-in methods, one for each family; every module in them defines METHOD."""
LEFT_OUT = {
    "glister": (
        "it scores images on a held-out set, which the observer does not keep, and each pick takes a new gradient of "
        "the whole class: 57 ms for one of ImageNet-1K's, 1.6 hours at ipc=100 where gradmatch takes 3 minutes "
        "(2 cores); use gradmatch"
    ),
}
"""Methods that users may expect but that are left out, with the reason.

GLISTER's 57 ms are the median of 7 runs of numpy in float32: the softmax of 1,281 x 1,000 logits after a rank-1 update,
their mean gradient over 513 features, and its product with the gradient of every sample. GradMatch's time is from
`benchmarks/geometry.py`, second line.
"""


class Registry:
    """Registry of methods by name; a plug-in that fails to load is recorded with the reason and stops no other."""

    def __init__(self) -> None:
        self.methods: dict[str, Method] = {}
        self.broken: dict[str, str] = {}

    def register(self, method: Method) -> None:
        """Add one method.

        Raises:
            MethodError: the name is malformed (not lower-case letters, digits, - and _) or taken; then the message
                names both origins.
        """
        name = method.info.name
        if not NAME_PATTERN.fullmatch(name):
            raise MethodError(f"method '{name}' ({origin(method)}): a name has only a-z, 0-9, - and _")
        if name in self.methods:
            raise MethodError(
                f"method '{name}' is registered twice: {origin(self.methods[name])} and {origin(method)}; rename one"
            )
        self.methods[name] = method

    def get(self, name: str) -> Method:
        """Return the method called `name`.

        Raises:
            MethodError: no method has this name (the message suggests the closest one), or the method is left out or
                broken (the message gives the reason).
        """
        if name not in self.methods and name in self.broken:
            raise MethodError(f"method '{name}' cannot be used: {self.broken[name]}")
        if name not in self.methods and name in LEFT_OUT:
            raise MethodError(f"method '{name}' is left out: {LEFT_OUT[name]}")
        if name not in self.methods:
            raise MethodError(f"unknown method '{name}'; {closest(name, self.methods)}")
        return self.methods[name]


def origin(method: Method) -> str:
    """Return the place where a method is defined, as file:line."""
    cls = type(method)
    return f"{inspect.getsourcefile(cls)}:{inspect.getsourcelines(cls)[1]}"


def load_registry() -> Registry:
    """Return a registry of all built-in methods, then every plug-in of the entry-point group `fastdc.methods`."""
    registry = Registry()
    for folder in FOLDERS:
        for module in pkgutil.iter_modules(folder.__path__):
            # A failing built-in is a bug and raises; only a plug-in may fail and be recorded.
            registry.register(_method_of(importlib.import_module(f"{folder.__name__}.{module.name}")))
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            loaded = point.load()
            registry.register(_method_of(loaded) if isinstance(loaded, ModuleType) else _checked(loaded))
        except Exception as error:  # third-party code may raise anything, and other methods must still load
            registry.broken[point.name] = f"{point.value}: {type(error).__name__}: {error}"
    return registry


def _method_of(module: ModuleType) -> Method:
    method = getattr(module, "METHOD", None)
    if method is None:
        raise MethodError(f"{module.__file__}: defines no METHOD; end the file with METHOD = YourMethod()")
    return _checked(method)


def _checked(method: object) -> Method:
    if not isinstance(method, Method):
        raise MethodError(f"found {method!r}, expected an instance of a subclass of fastdc.methods.Method")
    return method
