"""Registry of methods by name: every file in a family's folder, such as pruning/, and plug-ins of other packages."""

from fastdc.common import registry
from fastdc.common.errors import MethodError
from fastdc.methods.bases.method import Method

ENTRY_POINT_GROUP = "fastdc.methods"
FOLDERS = ("reference", "pruning", "distillation", "combination")
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


class Registry(registry.Registry[Method]):
    """Registry of methods."""

    def __init__(self) -> None:
        super().__init__("method", Method, lambda method: method.info.name, MethodError)

    @property
    def methods(self) -> dict[str, Method]:
        """Return the methods by name."""
        return self.parts

    def get(self, name: str) -> Method:
        """Return the method called `name`.

        Raises:
            MethodError: no method has this name (the message suggests the closest one), or the method is left out or
                broken (the message gives the reason).
        """
        if name in LEFT_OUT and name not in {**self.parts, **self.broken}:
            raise MethodError(f"method '{name}' is left out: {LEFT_OUT[name]}")
        return super().get(name)


def load_registry() -> Registry:
    """Return a registry of all built-in methods, then every plug-in of the entry-point group `fastdc.methods`."""
    methods = Registry()
    for folder in FOLDERS:
        methods.load_folder(f"fastdc.methods.{folder}")
    methods.load_plugins(ENTRY_POINT_GROUP)
    return methods
