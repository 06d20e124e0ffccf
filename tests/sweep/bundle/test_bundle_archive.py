"""Damaged and hostile archives are refused in one line, before anything is unpacked."""

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fastdc.cli import main as cli
from fastdc.common.errors import BundleError, StoreError
from fastdc.sweep.bundle.bundle_archive import read_archive, write_archive
from fastdc.sweep.bundle.read_bundle import load_bundle

Change = Callable[[dict[str, bytes]], None]


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_files_come_back(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)) * 5000)
    members = {"b": b"text", "a/ä.beton": tmp_path / "file", "empty": b""}
    write_archive(tmp_path / name, members)
    found = {member.name: (member.size, b"".join(member.pieces)) for member in read_archive(tmp_path / name)}
    assert list(found) == ["b", "a/ä.beton", "empty"]
    assert {name: data for name, (_, data) in found.items()} == {
        **members,
        "a/ä.beton": (tmp_path / "file").read_bytes(),
    }
    assert all(size == len(data) for size, data in found.values())


def write_zip(path: Path, entries: list[tuple[str, bytes, int]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(info, data)


def write_tar(path: Path, infos: list[tarfile.TarInfo]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for info in infos:
            archive.addfile(info, io.BytesIO(bytes(info.size)))


def tar_info(name: str, **values: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in values.items():
        setattr(info, field, value)
    return info


PLAIN = stat.S_IFREG | 0o644


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("/etc/passwd", b"", PLAIN)], "'/etc/passwd', a path that leads out"),
        ([("a/../../b", b"", PLAIN)], r"'a/\.\./\.\./b', a path that leads out"),
        ([("C:b", b"", PLAIN)], "'C:b', a path that leads out"),
        ([("a", b"/etc/passwd", stat.S_IFLNK | 0o777)], "'a', a link or folder"),
        ([("a/", b"", 0)], "'a/', a link or folder"),
        ([("a", b"", PLAIN), ("a", b"", PLAIN)], "'a' twice"),
        ([("a", bytes(99 << 20), PLAIN)], "unpack to more than 200 times its size"),
    ],
)
def test_hostile_zips(tmp_path: Path, entries: list[tuple[str, bytes, int]], message: str) -> None:
    write_zip(tmp_path / "a.zip", entries)
    with pytest.raises(BundleError, match=message):
        list(read_archive(tmp_path / "a.zip"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize(
    ("infos", "message"),
    [
        ([tar_info("/etc/passwd")], "a path that leads out"),
        ([tar_info("../b")], "a path that leads out"),
        ([tar_info("a", type=tarfile.SYMTYPE, linkname="/etc/passwd")], "'a', a link or folder"),
        ([tar_info("a", type=tarfile.LNKTYPE, linkname="b")], "'a', a link or folder"),
        ([tar_info("a", type=tarfile.FIFOTYPE)], "'a', a link or folder"),
        ([tar_info("a", type=tarfile.DIRTYPE)], "'a', a link or folder"),
        ([tar_info("a"), tar_info("a")], "'a' twice"),
    ],
)
def test_hostile_tars(tmp_path: Path, infos: list[tarfile.TarInfo], message: str) -> None:
    write_tar(tmp_path / "a.tar.gz", infos)
    with pytest.raises(BundleError, match=message):
        list(read_archive(tmp_path / "a.tar.gz"))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_huge_header_is_not_read(tmp_path: Path, kind: bytes) -> None:
    """A header of 10 GB would be read whole; the file has only its first bytes."""
    head = tar_info("x", type=kind, size=10 << 30).tobuf(tarfile.GNU_FORMAT)
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(head + bytes(4 << 20))
    with pytest.raises(BundleError, match=r"cannot be read as a bundle \(a header of 10737418240 bytes\)"):
        list(read_archive(tmp_path / "a.tar.gz"))


def test_a_file_of_ten_gigabytes_is_refused_by_its_header(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:
        file.write(tar_info("bundle.json", size=10 << 30).tobuf() + bytes(1 << 20))
    with pytest.raises(BundleError, match="unpack to more than 200 times its size"):
        load_bundle(tmp_path / "a.tar.gz")


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_truncated_bundles(packed: Path, tmp_path: Path, name: str) -> None:
    write_archive(tmp_path / name, {each.name: b"".join(each.pieces) for each in read_archive(packed)})
    whole = (tmp_path / name).read_bytes()
    for share in (0.0, 0.3, 0.6, 0.95):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(BundleError, match=r"a\.(zip|tar\.gz): "):
            load_bundle(tmp_path / name)


def test_a_damaged_part_that_another_program_packed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("bundle.json", b"{}" * 500)
    whole = bytearray((tmp_path / "a.zip").read_bytes())
    whole[50:60] = b"\xff" * 10
    (tmp_path / "a.zip").write_bytes(whole)
    with pytest.raises(BundleError, match="cannot be read as a bundle"):
        load_bundle(tmp_path / "a.zip")


def drop(name: str) -> Change:
    def change(members: dict[str, bytes]) -> None:
        del members[name]
        members["bundle.json"] += b" "  # keeps the index, which lists the file

    return change


def edit(name: str, old: bytes, new: bytes, index: bool = False) -> Change:
    def change(members: dict[str, bytes]) -> None:
        assert old in members[name]
        members[name] = members[name].replace(old, new, 1)
        members["bundle.json"] += b" " * index

    return change


def add(members: dict[str, bytes]) -> None:
    members["more"] = b"x"
    members["bundle.json"] += b" "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("rows.jsonl"), r"lacks rows.jsonl \(1 of \d+ files\); get it again"),
        (drop("manifests/val.json"), "lacks manifests/val.json"),
        (edit("rows.jsonl", b'"top1": ', b'"top1":1', index=True), "rows.jsonl: SHA-256 .* was changed after"),
        (edit("rows.jsonl", b'"top1": ', b'"top1": 12', index=True), "rows.jsonl: .* bytes, expected"),
        (add, "holds 'more', which bundle.json does not list"),
        (edit("bundle.json", b'"format": 1', b'"format": 2'), "has format 2, this fastdc reads up to 1; update"),
        (edit("bundle.json", b'"format": 1', b'"form": 1'), r"bundle.json: is not the index of a bundle \(KeyError\)"),
        (edit("bundle.json", b'"file": "sweeps/1.yaml"', b'"file": "rows.jsonl"'), "bundle.json: sweeps.0.file="),
        (edit("rows.jsonl", b'"axes"', b'"exas"'), "rows.jsonl:1: a row without axes"),
        (edit("rows.jsonl", b'"arch"', b'"crah"'), r"is not a row \(KeyError: 'arch'\); get the bundle again"),
        (edit("rows.jsonl", b'"curve"', b'\xff"curve"'), "rows.jsonl: not UTF-8"),
        (edit("rows.jsonl", b'"curve": [', b'"curve": [1, '), r"is not a row \(TypeError: a int for a mapping\)"),
        (edit("rows.jsonl", b'"epoch"', b'"hcope"'), r"is not a row \(KeyError: 'epoch'\)"),
        (edit("rows.jsonl", b'"libraries": {', b'"libraries": 1, "x": {'), "is not a row"),
        (
            edit("rows.jsonl", b'"key": "', b'"key": {}, "yek": "'),
            r"is not a row \(TypeError: unhashable type: 'dict'\)",
        ),
    ],
)
def test_changed_bundles(changed: Callable[[Change], Path], change: Change, message: str) -> None:
    with pytest.raises((BundleError, StoreError), match=message):
        load_bundle(changed(change))


def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_zip(tmp_path / "photos.zip", [("cat.jpg", b"x", PLAIN)])
    (tmp_path / "text.tar.gz").write_text("hello")
    (tmp_path / "deep.zip").touch()
    write_archive(tmp_path / "deep.zip", {"bundle.json": b"[" * 100_000})
    for name, message in (
        ("photos.zip", "is not a bundle: its first file is 'cat.jpg', expected bundle.json"),
        ("text.tar.gz", "cannot be read as a bundle (Not a gzipped file (b'he')); get it again"),
        ("deep.zip", "bundle.json: is not the index of a bundle (RecursionError)"),
        ("none.zip", "does not exist, expected a bundle that fastdc bundle wrote"),
        (".", "is a folder, expected a bundle"),
    ):
        assert cli.run(["reproduce", str(tmp_path / name)]) == 2
        errors = capsys.readouterr().err
        assert message in errors
        assert errors.count("\n") == 1
