"""Read pickles and torch saves of arrays and plain containers, without running code that they name.

A pickle names functions, which unpickling would call. Only those that rebuild arrays, tensors and plain containers are
known here, and functions of this file stand in for them. A pickle that names any other is refused.
"""

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from numpy.typing import NDArray

from fastdc.beton.sources.pickled_arrays import ARRAYS, ForbiddenError, PickledArray
from fastdc.beton.sources.torch_files import code_in
from fastdc.common.errors import ConfigError
from fastdc.subsets.tables import MAX_LIST_BYTES

OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of files that torch before 1.6 saved; later ones are zip archives."""
ADVICE = "save plain arrays instead, for example with numpy.save"


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Return the bytes that pickles of protocol 2 and below write as text."""
    if encoding != "latin1" or not isinstance(text, str):
        raise ForbiddenError(f"the encoding {str(encoding)[:80]}")
    return text.encode("latin1")


def _storage(data: Any) -> Any:
    """Return the storage of a tensor; torch saves it inside a pickle in its own format."""
    import torch

    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> NDArray[Any]:
    """Return a vector in a storage; torch itself would enlarge a storage that is too small."""
    import torch

    if not isinstance(storage, torch.storage.TypedStorage) or len(size) != 1 or stride not in ((1,), [1]):
        raise ForbiddenError(f"a tensor {list(size)} that is not a plain vector")
    values = torch.tensor([], dtype=storage.dtype).set_(storage._untyped_storage).numpy()
    if offset < 0 or size[0] < 0 or offset + size[0] > len(values):
        raise ForbiddenError(f"a tensor of {size[0]} numbers in a storage of {len(values)}")
    return values[offset : offset + size[0]]


ADMITTED: dict[str, Any] = ARRAYS | {
    "_codecs.encode": _encode,
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.storage._load_from_bytes": _storage,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in ADMITTED:
            raise ForbiddenError(f"{module}.{name}")
        return _Call(ADMITTED[f"{module}.{name}"])

    def persistent_load(self, pid: Any) -> NoReturn:
        raise ForbiddenError("data outside the file")


class _Call:
    """Function without attributes, so that a pickle cannot change it."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise ForbiddenError("a changed function")


def read_pickle(path: Path, expected: str) -> Any:
    """Return the arrays and plain containers in a pickle, or in a file of `torch.save`.

    Raises:
        ConfigError: the file cannot be read, is damaged, or names code.
    """
    with _refused(path, expected):
        if path.stat().st_size > MAX_LIST_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_LIST_BYTES} bytes, expected {expected}")
        data = path.read_bytes()
        if zipfile.is_zipfile(path) or data.startswith(OLD_TORCH):
            return _plain(_load_torch(path), len(data), {})
        _check_memo(data)
        return _plain(_Unpickler(io.BytesIO(data)).load(), len(data), {})


def _load_torch(path: Path) -> Any:
    import torch

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise ForbiddenError("compressed parts, which torch.save does not write")
    # torch's type of the argument admits no pairs of a stand-in and the name that it stands for, its code does.
    with torch.serialization.safe_globals([(function, name) for name, function in ARRAYS.items()]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _check_memo(data: bytes) -> None:
    """Refuse a pickle that announces more values than it holds, before memory is set aside for them."""
    for number, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > number:
            raise ForbiddenError(f"a memo of {argument} values")


def _plain(value: Any, size: int, done: dict[int, dict[Any, Any]]) -> Any:
    """Return a value with arrays in place of stand-ins and tensors, also inside mappings.

    Args:
        size: length of the file, which no array may exceed.
        done: the results of mappings by `id`, because a small file may hold one mapping in billions of places.
    """
    if isinstance(value, PickledArray):
        return value.values
    if isinstance(value, Mapping):
        if id(value) not in done:
            done[id(value)] = {key: _plain(item, size, done) for key, item in value.items()}
        return done[id(value)]
    if type(value).__module__.partition(".")[0] != "torch":
        return value
    if value.numel() * value.element_size() > size or value.untyped_storage().nbytes() > size:
        raise ForbiddenError(f"a tensor {list(value.shape)} in a file of {size} bytes")
    return value.detach().numpy()


@contextmanager
def _refused(path: Path, expected: str) -> Iterator[None]:
    """Turn every error of a pickle into one line."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        found = str(error) if isinstance(error, ForbiddenError) else code_in(error)
        if found is not None:
            raise ConfigError(
                f"{path}: names {found}, which fastdc does not load, expected {expected}; {ADVICE}"
            ) from error
        reason = "no complete pickle: cut off, damaged, or another kind of file"
        if isinstance(error, RecursionError):
            reason = f"its values are nested too deeply: {error}"
        reason = getattr(error, "strerror", None) or reason
        raise ConfigError(f"{path}: cannot be read ({reason}), expected {expected}") from error
