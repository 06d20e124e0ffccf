"""Stand-ins for what pickles of NumPy name, which rebuild arrays of numbers and run no code."""

import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUMBER_KINDS = "biuf"


class ForbiddenError(Exception):
    """A pickle names a function or class that is not admitted, or values that are no numbers."""


class PickledType:
    """Stand-in for `numpy.dtype`; admits numbers only, so that no array can hold pointers."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])

    def numpy(self) -> np.dtype[Any]:
        """Return the type of numbers."""
        kind = str(self.code)[:1]
        if not isinstance(self.code, str) or kind not in NUMBER_KINDS or not self.code[1:].isdecimal():
            raise ForbiddenError(f"values of type {str(self.code)[:80]}")
        return np.dtype(self.code).newbyteorder(">" if self.order == ">" else "<")


class PickledArray:
    """Stand-in for `numpy.ndarray`; `values` is the array once its state is known."""

    values: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, data = state
        self.values = _array(data, kind, shape, "F" if fortran else "C")


def _array(data: Any, kind: Any, shape: Any, order: str) -> NDArray[Any]:
    if not isinstance(kind, PickledType) or not isinstance(data, bytes | bytearray):
        raise ForbiddenError("an array of objects")
    return np.frombuffer(data, kind.numpy()).reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(*_: Any) -> PickledArray:
    return PickledArray()


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
    return _array(bytes(data) if isinstance(data, pickle.PickleBuffer) else data, kind, shape, str(order))


def _scalar(kind: Any, data: Any) -> Any:
    return _array(data, kind, (1,), "C")[0].item()


ARRAYS: dict[str, Any] = {
    "numpy.ndarray": PickledArray,
    "numpy.dtype": PickledType,
    **{
        f"numpy.{core}.{name}": function
        for core in ("core", "_core")
        for name, function in (
            ("multiarray._reconstruct", _reconstruct),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
}
"""Stand-ins for what NumPy's pickles name, of all its versions."""
