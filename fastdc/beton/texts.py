"""Store many short strings (ids and hashes of a million samples) in little memory, and normalise names' spelling."""

import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import eq
from pathlib import Path
from typing import Any, Self, overload

from pydantic_core import core_schema

_ENCODING = ("utf-8", "surrogatepass")  # any str survives the round trip, even a file name that is not UTF-8


class Texts(Sequence[str]):
    """Immutable sequence of strings, kept as bytes in one buffer. It equals any list or tuple of equal strings.

    A tuple of a million ids of 30 letters takes 90 MB, this takes 38 MB. Slices are tuples. Like a list, it is not
    hashable. pydantic reads and writes it as a list of strings.

    Args:
        data: the strings one after another, in UTF-8.
        ends: end of each string in `data`, in bytes.
    """

    __slots__ = ("_data", "_ends")

    def __init__(self, data: bytes | bytearray, ends: Sequence[int]) -> None:
        self._data = data
        self._ends = ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Build from any iterable of strings. If it is a generator, the strings are never all in memory as objects."""
        data, ends = bytearray(), array("Q")
        for text in texts:
            data += text.encode(*_ENCODING)
            ends.append(len(data))
        return cls(data, ends)

    def is_utf8(self) -> bool:
        """Return whether every string can be stored as UTF-8; file names need not be."""
        try:
            return self._data.isascii() or bool(self._data.decode("utf-8"))
        except UnicodeDecodeError:
            return False

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self[number] for number in range(*index.indices(len(self))))
        number = range(len(self))[index]  # raises IndexError, and handles negative indices
        start = self._ends[number - 1] if number else 0
        return self._data[start : self._ends[number]].decode(*_ENCODING)

    def __iter__(self) -> Iterator[str]:
        data, start = self._data, 0
        for end in self._ends:
            yield data[start:end].decode(*_ENCODING)
            start = end

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Texts):
            same = len(self) == len(other) and self._data == other._data
            # The ends may be an array, a list or a range, which never compare equal to one another.
            return same and all(map(eq, self._ends, other._ends))
        if isinstance(other, list | tuple):
            return len(self) == len(other) and all(map(eq, self, other))
        return NotImplemented

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, islice(self, 3)))
        return f"Texts({shown}{f', ... {len(self)} in all' if len(self) > 3 else ''})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> core_schema.CoreSchema:
        strings = core_schema.list_schema(core_schema.str_schema())
        parsed = core_schema.no_info_after_validator_function(cls.of, strings)
        ready = core_schema.is_instance_schema(cls)
        return core_schema.json_or_python_schema(
            json_schema=parsed,
            python_schema=core_schema.union_schema([ready, parsed], mode="left_to_right"),
            serialization=core_schema.plain_serializer_function_ser_schema(list),
        )


def hex_texts(digests: memoryview, size: int) -> Texts:
    """Convert digests of `size` bytes each, one after another, to hex strings."""
    data, block = bytearray(), size << 14
    for start in range(0, len(digests), block):
        data += digests[start : start + block].hex().encode()
    return Texts(data, range(2 * size, len(data) + 1, 2 * size))  # equal lengths: a range needs no memory for the ends


def one_spelling(name: str) -> str:
    """Return the name in Unicode's composed form (NFC), so that two spellings that look alike become one name.

    macOS and its archives often write "é" as "e" and an accent (NFD); most other systems write one letter.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def show_spelling(name: str) -> str:
    """Return the name in quotes, followed by the code points of its non-ASCII letters."""
    points = " ".join(f"U+{ord(letter):04X}" for letter in name if not letter.isascii())
    return f"{name!r} ({points})" if points else repr(name)


def place_in(source: Path, *names: str) -> str:
    """Return the place of an image in a source, for messages; the id of a row begins with the name of its file."""
    if names[-1].startswith(f"{source.name}:"):
        return str(source.with_name(names[-1]))
    return "/".join(part for part in (str(source), *names) if part)
