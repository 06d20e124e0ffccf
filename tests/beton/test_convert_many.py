"""Conversion of many mixed files: the same beton for any number of threads, in little memory."""

import hashlib
import os
import subprocess
import sys
from itertools import product

import pytest
from PIL import Image

from fastdc.beton import BetonFile, load_manifest, verify_beton, write_beton
from fastdc.beton.sources.open_source import open_source
from fastdc.beton.sources.reading_ahead import choose_reading
from fastdc.common.errors import SourceError

pytestmark = pytest.mark.timeout(60)
PAGE = 8 << 20


def digests(path):
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in (path, path.with_suffix(".json"))]


def mix(folder, make_picture, to_file):
    """Fill a folder with JPEGs and other images: every kind at the start, the end and inside a chunk of 64."""
    image = Image.fromarray(make_picture(30, 40, seed=3))
    turned = Image.Exif()
    turned[0x0112] = 6
    plain = to_file(image)
    kinds = [
        *(plain, to_file(image, progressive=True), to_file(image.convert("L")), plain + b"junk" * 9),
        *(to_file(image, "PNG"), to_file(image.convert("CMYK")), to_file(image, exif=turned), to_file(image, "GIF")),
        *(plain[:-30], b"", b"no image", plain + bytes(3_000_000), plain + bytes(3_000_000)),
    ]
    for label, number in product(range(2), range(150)):
        (folder / f"c{label}").mkdir(parents=True, exist_ok=True)
        data = kinds[(number // 3 + label) % len(kinds)] if number % 3 == 0 else plain
        (folder / f"c{label}" / f"{number:03d}.jpg").write_bytes(data)
    os.mkfifo(folder / "c0" / "pipe.jpg")
    os.symlink("nowhere", folder / "c1" / "000b.jpg")
    os.symlink("/dev/zero", folder / "c1" / "000c.jpg")
    os.rename(folder / "c1" / "149.jpg", os.fsencode(folder / "c1") + b"/\xff.jpg")
    return folder


def test_the_same_file_for_any_number_of_workers_and_way_to_read(tmp_path, make_picture, to_file, monkeypatch):
    source = mix(tmp_path / "in", make_picture, to_file)
    expected = write_beton(source, tmp_path / "slow.beton", workers=1, on_error="skip")
    assert len(expected.skipped) > 20
    assert expected.converted["cmyk"] > 1
    assert expected.image_bytes > 2 * PAGE  # so that pages and tasks end among the files
    monkeypatch.setattr("fastdc.beton.sources.reading_ahead._FROM_IMAGES_IF_LOADED", 200)
    import numba  # noqa: F401  # now compiled code reads the files

    assert choose_reading(len(expected.ids)) is not None
    for workers in (1, 2, 4):
        made = write_beton(source, tmp_path / "fast.beton", workers=workers, on_error="skip", force=True)
        assert made == expected
        assert digests(tmp_path / "fast.beton") == digests(tmp_path / "slow.beton")
    assert verify_beton(tmp_path / "fast.beton") == []


def test_a_file_larger_than_a_page(tmp_path, folder):
    """It enlarges the pages and moves what was written before."""
    large = folder / "class_1" / "1.jpg"
    large.write_bytes(large.read_bytes() + bytes(PAGE))
    write_beton(folder, tmp_path / "x.beton")
    with BetonFile(tmp_path / "x.beton") as file:
        assert file.structure.page_size == 2 * PAGE
        assert bytes(file.payload(5)) == large.read_bytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_unreadable_file_is_named(tmp_path, folder, workers):
    path = folder / "class_1" / "2.jpg"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SourceError, match=r"images/class_1/2\.jpg: cannot be decoded.*--on-error skip"):
        write_beton(folder, tmp_path / "x.beton", workers=workers)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_files_that_change_after_they_were_listed(tmp_path, folder):
    """Deleted or emptied files, FIFOs and folders are left out with a reason; the rest is stored."""
    expected = (folder / "class_2" / "2.jpg").read_bytes()
    with open_source(folder) as opened:
        for name in ("class_0/0.jpg", "class_1/1.jpg", "class_2/3.jpg"):
            (folder / name).unlink()
        os.mkfifo(folder / "class_1" / "1.jpg")
        (folder / "class_2" / "3.jpg").mkdir()
        os.truncate(folder / "class_1" / "2.jpg", 0)
        (folder / "class_2" / "1.jpg").write_bytes(expected)
        manifest = write_beton(opened, tmp_path / "x.beton", on_error="skip")
    assert [(skipped.path, skipped.reason) for skipped in manifest.skipped] == [
        ("class_0/0.jpg", "cannot be read (No such file or directory)"),
        ("class_1/1.jpg", "not a regular file"),
        ("class_1/2.jpg", "empty file, expected an image"),
        ("class_2/3.jpg", "not a regular file"),
    ]
    assert load_manifest(tmp_path / "x.beton") == manifest
    with BetonFile(tmp_path / "x.beton") as file:
        assert bytes(file.payload(manifest.ids.index("class_2/1.jpg"))) == expected


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_no_descriptor_stays_open(tmp_path, make_picture, to_file):
    source = mix(tmp_path / "in", make_picture, to_file)
    before = len(os.listdir("/proc/self/fd"))
    write_beton(source, tmp_path / "x.beton", on_error="skip")
    with pytest.raises(SourceError):
        write_beton(source, tmp_path / "y.beton")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_small_set_does_not_load_numba(tmp_path, folder):
    script = (
        "import sys; from fastdc.beton import write_beton; write_beton(*sys.argv[1:]); print('numba' in sys.modules)"
    )
    command = [sys.executable, "-c", script, str(folder), str(tmp_path / "x.beton")]
    assert subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout == "False\n"


def test_memory_does_not_grow_with_the_number_of_images(tmp_path, start_python, make_folder):
    """90 MB of JPEG files, then three times as many: the write queue is bounded."""
    make_folder(tmp_path / "in", classes=1, images=1)
    first = tmp_path / "in" / "class_0" / "0.jpg"
    first.write_bytes(first.read_bytes() + bytes(300_000))
    for number in range(1, 300):
        os.link(first, first.with_name(f"{number}.jpg"))
    script = """
import resource, sys
from pathlib import Path
from fastdc.beton import write_beton
source, out = map(Path, sys.argv[1:])
def peak():
    write_beton(source, out, workers=2, force=True)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
for number in range(300, 900):
    (source / "class_0" / f"{number}.jpg").hardlink_to(source / "class_0" / "0.jpg")
print(peak() - before)
"""
    output, errors = start_python(script, tmp_path / "in", tmp_path / "x.beton").communicate(timeout=40)
    assert errors == ""
    assert int(output) < 80  # MiB; the additional files have 180, what may wait has at most 80


def test_memory_does_not_grow_with_the_size_of_the_images(tmp_path, start_python, make_folder):
    """Many large files and a slow consumer: only a few MiB per thread are read ahead."""
    make_folder(tmp_path / "in", classes=1, images=1)
    first = tmp_path / "in" / "class_0" / "0.jpg"
    first.write_bytes(first.read_bytes() + bytes(4_000_000))
    for number in range(1, 200):
        os.link(first, first.with_name(f"{number:03d}.jpg"))
    script = """
import resource, sys, time
from pathlib import Path
from fastdc.beton.convert_image import make_recipe
from fastdc.beton.convert_threads import convert_all
from fastdc.beton.sources.open_source import open_source
from fastdc.beton.sources.reading_ahead import choose_reading
with open_source(Path(sys.argv[1])) as opened:
    recipe = make_recipe(None, None, None)
    before, images = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    for chunk in convert_all(opened.files, opened.contents, recipe, 4):
        if images == 0:
            time.sleep(1)
        images += len(chunk)
    print(images, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    output, errors = start_python(script, tmp_path / "in").communicate(timeout=30)
    assert errors == ""
    images, grown = map(int, output.split())
    assert images == 200
    assert grown < 250  # MiB; the files have 763, six tasks wait with at most 12 each


def test_ctrl_c_leaves_nothing(tmp_path, start_python, make_folder):
    make_folder(tmp_path / "in", classes=2, images=200)
    script = """
import os, signal, sys, threading
from pathlib import Path
from fastdc.beton import write_beton
write_beton(Path(sys.argv[1]), Path(sys.argv[2]), workers=2)
Path(sys.argv[2]).unlink()
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
while True:
    write_beton(Path(sys.argv[1]), Path(sys.argv[2]), workers=2, force=True)
"""
    process = start_python(script, tmp_path / "in", tmp_path / "x.beton")
    process.wait(20)
    assert "KeyboardInterrupt" in process.stderr.read()
    assert {path.name for path in tmp_path.iterdir()} <= {"in", "x.beton", "x.json"}
