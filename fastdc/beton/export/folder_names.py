"""Name the folders of classes, so that every file system and every reader of image folders keeps them apart."""

import re
from collections import Counter
from collections.abc import Sequence

from fastdc.beton.sources.trees import is_hidden
from fastdc.beton.texts import one_spelling

MAX_NAME_BYTES = 200
_UNSAFE = re.compile(r'[\x00-\x1f\x7f"*/:<>?\\|%\ud800-\udfff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)


def folder_names(classes: Sequence[str]) -> tuple[str, ...]:
    """Return a folder name for each class: its own name wherever that is safe.

    Characters that some system refuses become %XX, as in URLs: "a/b" is a%2Fb. So do the first character of hidden and
    reserved names (".git", "con") and a final dot or blank. Names that are then empty, longer than 200 bytes, or equal
    to another when case is ignored get the class number: "Cat" and "cat" are Cat%_0 and cat%_1.
    """
    names = [_quote(name) for name in classes]
    folded = [one_spelling(one_spelling(name).casefold()) for name in names]
    count = Counter(folded)
    return tuple(
        name if name and count[fold] == 1 and len(name.encode()) <= MAX_NAME_BYTES else f"{_cut(name)}%_{label}"
        for label, (name, fold) in enumerate(zip(names, folded, strict=True))
    )


def _quote(name: str) -> str:
    name = _UNSAFE.sub(lambda found: _escape(found[0]), name)
    if name and (is_hidden(name) or _RESERVED.fullmatch(name)):
        name = _escape(name[0]) + name[1:]
    return name[:-1] + _escape(name[-1]) if name.endswith((".", " ")) else name


def _escape(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def _cut(name: str) -> str:
    return name.encode()[: MAX_NAME_BYTES - 12].decode(errors="ignore")
