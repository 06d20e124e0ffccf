"""Read files of `torch.save` without running code that a pickle may hold, and without trusting the sizes it states."""

import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastdc.beton.image_kinds import NO_IMAGES
from fastdc.beton.sources.archive_tree import DAMAGE
from fastdc.beton.sources.pickled_arrays import ARRAYS, ForbiddenError, PickledArray
from fastdc.common.errors import SourceError
from fastdc.common.text import one_line

if TYPE_CHECKING:
    import torch

_DAMAGE = (*DAMAGE, RuntimeError, AttributeError, AssertionError, pickle.UnpicklingError)
_UNSUPPORTED = re.compile(r"(?:GLOBAL\s+|Unsupported (?:class|global)\W+)(?!GLOBAL)([\w.]+)")
_PREAMBLE = 3  # pickles before the object's own, in files of torch before 1.6: magic number, version, system


class TorchArray(NamedTuple):
    """One tensor of a file, or one array of NumPy.

    Attributes:
        where: the file's path and the tensor's name, for messages.
    """

    tensor: "torch.Tensor | NDArray[Any]"
    where: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the tensor's shape."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of its values in NumPy, which knows no bfloat16: float32 for those."""
        # An empty tensor of the same type, because a reshape may copy the whole one.
        return self.tensor.dtype if isinstance(self.tensor, np.ndarray) else _to_numpy(self.tensor.new_empty(0)).dtype

    def rows(self) -> Iterator[NDArray[Any]]:
        """Yield `tensor[0]`, `tensor[1]`, ...; those of a mapped file are read only now."""
        return (_to_numpy(self.tensor[row]) for row in range(len(self.tensor)))  # iter() would make all rows at once

    def whole(self) -> NDArray[Any]:
        """Return the tensor as an array."""
        return _to_numpy(self.tensor)


def _to_numpy(tensor: "torch.Tensor | NDArray[Any]") -> NDArray[Any]:
    if isinstance(tensor, np.ndarray):
        return tensor
    values: NDArray[Any] = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy(force=True)
    return values


def load_torch(path: Path) -> Any:
    """Return what `torch.save` wrote: tensors, arrays, and lists, dictionaries, numbers and strings around them.

    Tensors stay in the file until they are read, except in the format of torch before 1.6. Arrays of NumPy are
    `PickledArray`; see `values_of`.

    Raises:
        SourceError: the file is damaged, holds code or objects, or states more bytes than it has.
    """
    import torch
    from torch.serialization import safe_globals

    try:
        zipped = _check_sizes(path)
        stand_ins: list[Any] = [(function, name) for name, function in ARRAYS.items()]
        with safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except SourceError:
        raise
    except (ForbiddenError, *_DAMAGE) as error:
        code = str(error) if isinstance(error, ForbiddenError) else code_in(error)
        if code is not None:
            raise SourceError(
                f"{path}: holds {code}, which is code or an object beside tensors and is not loaded; "
                f"save images and labels alone: torch.save({{'images': images, 'labels': labels}}, FILE); {NO_IMAGES}"
            ) from error
        problem = "it is cut off or damaged" if isinstance(error, ValueError) else one_line(error)[:120]
        raise SourceError(f"{path}: is not a whole file of torch.save ({problem}); get it again") from error


def code_in(error: BaseException) -> str | None:
    """Return the code or class whose loading torch refused, if that is the reason of an error."""
    found = _UNSUPPORTED.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
    return found[1] if found else None


def is_array(value: Any) -> bool:
    """Return whether a value of a file is a tensor or an array of NumPy."""
    import torch

    return isinstance(value, torch.Tensor | np.ndarray) or (
        isinstance(value, PickledArray) and value.values is not None
    )


def is_labels(value: Any) -> bool:
    """Return whether a value of a file may be labels: a tensor, an array, or a list of whole numbers."""
    return is_array(value) or (isinstance(value, list | tuple) and {type(item) for item in value} == {int})


def values_of(value: Any, path: Path, name: str) -> TorchArray:
    """Return a value for which `is_labels` is true, with all its numbers inside its file.

    Raises:
        SourceError: it is sparse or quantised, or states more bytes than the file has.
    """
    where = f"{path}: {name}"
    if isinstance(value, PickledArray | np.ndarray | list | tuple):
        return TorchArray(np.asarray(value.values if isinstance(value, PickledArray) else value), where)
    tensor: torch.Tensor = value
    if str(tensor.layout) != "torch.strided" or tensor.is_quantized:
        raise SourceError(f"{where}: is sparse or quantised, expected an ordinary tensor")
    size = tensor.numel() * tensor.element_size()
    if size > path.stat().st_size:
        raise SourceError(
            f"{where}: its shape {list(tensor.shape)} takes {size:,} bytes, but the file has {path.stat().st_size:,}; "
            "save tensor.contiguous()"
        )
    return TorchArray(tensor, where)


def _check_sizes(path: Path) -> bool:
    """Check the sizes that a file states before anything is allocated; return whether it is in the zip format.

    Raises:
        SourceError: they exceed the file's own.
    """
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            stated = sum(info.file_size for info in archive.infolist())
        zipped = True
    else:
        with path.open("rb") as handle:
            stated, zipped = _largest_number(handle), False
    if stated > size:
        raise SourceError(
            f"{path}: states {stated:,} bytes of tensors, but has {size:,} bytes in all; get it again, or save images "
            "and labels alone with torch.save"
        )
    return zipped


def _largest_number(handle: IO[bytes]) -> int:
    """Return the largest number in a file of torch before 1.6, whose pickle states the length of each tensor."""
    for _ in range(_PREAMBLE):
        for _ in pickletools.genops(handle):
            pass
    return max((value for _, value, _ in pickletools.genops(handle) if isinstance(value, int)), default=0)
