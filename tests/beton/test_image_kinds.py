"""Files of another kind than their name claims: the error names the kind and a remedy."""

import io
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import features

from fastdc.beton.convert import write_beton
from fastdc.beton.images import decode_image
from fastdc.beton.sources.archives import open_tree
from fastdc.common.errors import SourceError


@pytest.mark.parametrize(
    ("kind", "feature", "words"),
    [
        ("AVIF", "avif", "it is an AVIF image, expected JPEG, PNG, .*; convert it to PNG or JPEG"),
        ("JPEG2000", "jpg_2000", "it is a JPEG 2000 image, expected"),
        ("ICO", None, "it is a Windows icon"),
        ("PDF", None, "it is a PDF"),
        ("EPS", None, "it is a PostScript .EPS. file"),
        ("DDS", None, "it is a texture"),
    ],
)
def test_other_kinds_of_image_are_named(make_picture, to_file, kind, feature, words):
    if feature and not features.check(feature):
        pytest.skip(f"this Pillow cannot write {kind}")
    with pytest.raises(SourceError, match=words):
        decode_image(to_file(make_picture(32, 32, seed=0), kind))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC image"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"\0\0\0\x20ftypisom\0\0\2\0", "a video"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"<!DOCTYPE html>\n<html>404</html>", "a web page or XML text.*get the file again"),
        (b'{"error": "rate limit"}', "JSON text.*get the file again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer.*git lfs pull"),
        (bytes(4096), "nothing but zero bytes.*broke off"),
    ],
)
def test_other_files_in_place_of_an_image_are_named(data, words):
    with pytest.raises(SourceError, match=f"it is {words}"):
        decode_image(data)


def test_the_file_and_the_remedy_are_in_one_line(folder, tmp_path, to_file, make_picture):
    (folder / "class_1" / "1.jpg").write_bytes(to_file(make_picture(32, 32, seed=0), "JPEG2000"))
    with pytest.raises(
        SourceError, match=r"class_1/1\.jpg: cannot be decoded: it is a JPEG 2000 image.*--on-error skip$"
    ):
        write_beton(folder, tmp_path / "x.beton")
    manifest = write_beton(folder, tmp_path / "x.beton", on_error="skip")
    assert [skipped.path for skipped in manifest.skipped] == ["class_1/1.jpg"]


def arrow():
    return b"ARROW1\0\0" + bytes(64)


def numpy_array():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 8, 8, 3), np.uint8))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("x.rar", b"Rar!\x1a\7\1\0" + bytes(64), "a RAR archive.*; unpack it and give the folder"),
        ("x.7z", b"7z\xbc\xaf\x27\x1c\0\4" + bytes(64), "a 7-Zip archive.*; unpack it"),
        ("x.tar.lz4", b"\x04\x22\x4d\x18" + bytes(64), "LZ4.*lz4 -d"),
        ("x.tar", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer.*git lfs pull"),
        ("x.zip", b"<!DOCTYPE html><html>quota exceeded</html>", "a web page.*get the file again"),
        ("x.h5", b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 file"),
        ("x.arrow", arrow(), "an Arrow file.*to_parquet"),
        ("x.npy", numpy_array(), "a NumPy array.*numpy.savez"),
        ("x.jpg", b"\xff\xd8\xff\xe0" + bytes(64), "cannot be read as an archive"),
    ],
)
def test_other_archives_are_named(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=words):
        open_tree(tmp_path / name)


def test_an_inaccessible_file_is_not_reported_as_damaged():
    with pytest.raises(SourceError, match=r"^/proc/self/mem: cannot be read \(Input/output error\)$"):
        open_tree(Path("/proc/self/mem"))


def test_the_error_about_a_zstandard_tar_has_the_command(tmp_path, folder):
    subprocess.run(["tar", "-cf", tmp_path / "x.tar", "-C", folder, "."], check=True)
    subprocess.run(["zstd", "-q", tmp_path / "x.tar"], check=True)
    with pytest.raises(SourceError, match=r"x\.tar\.zst: it is Zstandard, which this Python cannot read.*zstd -d"):
        open_tree(tmp_path / "x.tar.zst")


def test_a_split_zip_is_not_reported_as_truncated(tmp_path, folder):
    noise = np.random.default_rng(0).integers(0, 256, 200_000, np.uint8).tobytes()
    (folder / "class_0" / "noise.jpg").write_bytes(noise)
    subprocess.run(["zip", "-qr", "-s", "64k", tmp_path / "x.zip", "."], check=True, cwd=folder)
    with pytest.raises(SourceError, match=r"x\.zip: is one part of a split zip; join the parts .zip -s 0 x\.zip"):
        open_tree(tmp_path / "x.zip")


def test_a_member_with_unsupported_compression(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/1.jpg", b"data")
    data = bytearray((tmp_path / "x.zip").read_bytes())
    data[8:10] = data[data.index(b"PK\1\2") + 10 :][:2] = (9).to_bytes(2, "little")
    directory = data.index(b"PK\1\2")
    data[directory + 10 : directory + 12] = (9).to_bytes(2, "little")
    (tmp_path / "x.zip").write_bytes(data)
    tree = open_tree(tmp_path / "x.zip")
    with pytest.raises(SourceError, match=r"cannot be unzipped .*method is not supported.*unpack the archive"):
        next(tree.fetch_all(["a/1.jpg"]))[1]()
    tree.close()
