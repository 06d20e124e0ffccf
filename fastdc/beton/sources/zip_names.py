"""Recover the names of a zip's members, which old tools stored in various encodings.

Source: PKWARE APPNOTE 6.3.10, sections 4.4.4 (bit 11: UTF-8), 4.4.2 (made by), 4.6.9 (Unicode path, field 0x7075).
"""

import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from fastdc.beton.sources.trees import is_hidden, is_image
from fastdc.common.errors import SourceError

_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075
_DRIVE = re.compile(r"\A[A-Za-z]:(?=/)")
_DOS_SYSTEMS = (0, 10, 11, 14)  # FAT, NTFS by two numbers, VFAT


def member_names(source: Path, infos: Sequence[zipfile.ZipInfo]) -> list[str]:
    """Return the names of all members, with "/" between folders and at the end of a folder's name.

    A name without the UTF-8 flag is decoded as UTF-8 if possible; text in other encodings is rarely valid UTF-8.
    Backslashes from Windows tools become slashes, and drive letters are removed.

    Raises:
        SourceError: an image's name is in an encoding that the archive does not state.
    """
    names = []
    for info in infos:
        name = _decode(info)
        if name is None:
            _refuse_unknown(source, info)
        names.append(name or info.filename)
    # A Unix name may contain a real backslash. If no name has a slash, backslashes must be the separators.
    slashed = any("/" in name for name in names)
    return [
        _DRIVE.sub("", name.replace("\\", "/")) if info.create_system in _DOS_SYSTEMS or not slashed else name
        for name, info in zip(names, infos, strict=True)
    ]


def _decode(info: zipfile.ZipInfo) -> str | None:
    """Return the name as text; None if it is in an encoding other than UTF-8."""
    if info.flag_bits & _UTF8_FLAG or info.filename.isascii():
        return info.filename
    # `zipfile` decodes names without the flag as code page 437, which maps all 256 bytes, so this gets them back.
    raw = info.orig_filename.partition("\0")[0].encode("cp437")  # `zipfile` cuts names at a zero byte, too
    try:
        return _unicode_path(info.extra, raw) or raw.decode()
    except UnicodeDecodeError:
        return None


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """Return the UTF-8 name that Info-ZIP stores beside one in another encoding; None if it is missing or stale."""
    place = 0
    while place + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, place)
        field = extra[place + 4 : place + 4 + size]
        if kind == _UNICODE_PATH and len(field) > 5 and field[0] == 1:
            # The field holds a CRC of the name it belongs to. A mismatch means that the member was renamed later.
            same = int.from_bytes(field[1:5], "little") == zlib.crc32(raw)
            return field[5:].decode() if same else None
        place += 4 + size
    return None


def _refuse_unknown(source: Path, info: zipfile.ZipInfo) -> None:
    """Refuse an image's name if its encoding would have to be guessed."""
    if not is_image(info.filename) or any(map(is_hidden, info.filename.replace("\\", "/").split("/"))):
        return
    odd = "".join(letter for letter in info.filename if not letter.isascii())[:8]
    found = " ".join(f"{byte:02X}" for byte in odd.encode("cp437"))
    raise SourceError(
        f"{source}: the name {info.filename!r} in it (as code page 437 reads it; bytes {found}, ...) is not UTF-8, and "
        "the archive gives no encoding; unpack it with that of the system that packed it (unzip -O cp932 for Japanese, "
        "cp936 for Chinese, cp850 for Western Windows) and give the folder, or pack it again with names in UTF-8"
    )
