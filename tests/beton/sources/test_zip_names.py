"""Names in zips of old and foreign tools."""

import os
import struct
import subprocess
import zipfile
import zlib
from contextlib import closing

import pytest

from fastdc.beton.sources.archives import open_tree
from fastdc.beton.sources.class_folders import list_contents
from fastdc.common.errors import SourceError


def classes_of(path):
    with closing(open_tree(path)) as tree:
        contents = list_contents(tree, path, None)
        assert all(fetch() for _, fetch in tree.fetch_all(contents.paths()))
        return contents.classes


class RawInfo(zipfile.ZipInfo):
    """Member with a name of the given bytes, with or without the flag for UTF-8."""

    raw, flags = b"", 0

    def _encodeFilenameFlags(self):  # noqa: N802  zipfile calls this for both places of a name
        return self.raw, self.flags


def write_zip(path, names, system=3, flags=0, extra=None):
    """Write a zip with names of the given bytes, which `zipfile` itself refuses."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(names):
            info = RawInfo(str(number))
            info.raw, info.flags, info.create_system = name, flags, system
            info.extra = extra(name) if extra else b""
            archive.writestr(info, b"" if name.endswith(b"\\") else b"data")
    return path


def test_zip_on_linux_writes_utf8_without_the_flag(tmp_path):
    for name in ("café/1.jpg", "日本/1.jpg", "plain/1.jpg"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"data")
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    subprocess.run(["zip", "-qr", "x.zip", "café", "日本", "plain"], check=True, cwd=tmp_path, env=environment)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert "caf├⌐/1.jpg" in archive.namelist()  # what it is without detection
    assert classes_of(tmp_path / "x.zip") == ("café", "plain", "日本")


def test_macos_writes_decomposed_utf8_without_the_flag(tmp_path):
    path = write_zip(tmp_path / "x.zip", ["cafe\u0301/one.jpg".encode(), b"dog/image-two.jpg"])
    assert classes_of(path) == ("caf\u00e9", "dog")


@pytest.mark.parametrize(
    ("name", "encoding", "found"),
    [("猫/写真一.jpg", "cp932", "94 8E CA"), ("Müller/one.jpg", "cp850", "81"), ("кот/фото.jpg", "cp866", "AA AE E2")],
)
def test_other_encodings_are_never_guessed(tmp_path, name, encoding, found):
    path = write_zip(tmp_path / "x.zip", [b"dog/image-one.jpg", name.encode(encoding)])
    with pytest.raises(
        SourceError, match=f"bytes {found}.* is not UTF-8.*unzip -O cp932.*pack it again with names in UTF-8"
    ):
        open_tree(path)


def test_names_of_other_files_may_be_odd(tmp_path):
    names = [b"dog/image-one.jpg", "Erklärung.txt".encode("cp850"), "__MACOSX/ä.jpg".encode("cp850")]
    assert classes_of(write_zip(tmp_path / "x.zip", names)) == ("dog",)


def test_the_extra_utf8_name_is_used_unless_it_is_stale(tmp_path):
    def unicode_path(raw, crc=None):
        body = struct.pack("<BI", 1, zlib.crc32(raw) if crc is None else crc) + raw.decode("cp932").encode()
        return struct.pack("<HH", 0x7075, len(body)) + body

    names = ["猫/写真一.jpg".encode("cp932"), b"dog/image-two.jpg"]
    assert classes_of(write_zip(tmp_path / "x.zip", names, extra=unicode_path)) == ("dog", "猫")
    with pytest.raises(SourceError, match="not UTF-8"):
        open_tree(write_zip(tmp_path / "x.zip", names, extra=lambda raw: unicode_path(raw, crc=7)))


@pytest.mark.parametrize(
    "names",
    [
        (b"cat\\one.jpg", b"dog\\two.jpg"),
        (b"photos\\cat\\one.jpg", b"photos\\dog\\two.jpg", b"photos\\dog\\"),
        (b"C:\\photos\\cat\\one.jpg", b"C:\\photos\\dog\\two.jpg"),
        (b"photos\\cat\\one.jpg", b"photos/dog/another.jpg"),
    ],
)
def test_backslashes_of_windows_tools_separate_folders(tmp_path, names):
    assert classes_of(write_zip(tmp_path / "x.zip", names, system=0)) == ("cat", "dog")


def test_backslashes_beside_slashes_are_ordinary_letters(tmp_path):
    path = write_zip(tmp_path / "x.zip", [b"a\\b/image-one.jpg", b"cat/image-two.jpg"])
    assert classes_of(path) == ("a\\b", "cat")
    assert classes_of(write_zip(tmp_path / "x.zip", [b"cat\\image-one.jpg", b"dog\\image-two.jpg"])) == ("cat", "dog")


def test_a_name_with_the_utf8_flag_and_other_bytes(tmp_path):
    path = write_zip(tmp_path / "x.zip", [b"caf\xe9/image.jpg", b"dog/image-two.jpg"], flags=0x800)
    with pytest.raises(SourceError, match="cannot be read as an archive"):
        open_tree(path)
