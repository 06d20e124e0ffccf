"""`write_beton`: from folders and archives of real images to a beton."""

import hashlib
import io
import os
import tarfile
import threading
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from fastdc.beton import BetonFile, decode_image, load_manifest, resize_short, verify_beton, write_beton
from fastdc.beton import convert as convert_module
from fastdc.beton.sources.open_source import open_source
from fastdc.common.errors import ConfigError, OutputError, SourceError
from tests.beton.conftest import resampled


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pixels_of(path):
    with BetonFile(path) as file:
        return [file.decode(index) for index in range(len(file))]


def odd_files(picture, to_file):
    """Return files that cannot be copied, by name: (bytes, conversions, expected pixels)."""
    image = Image.fromarray(picture)
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = np.linspace(0, 65_535, picture.shape[0] * picture.shape[1]).reshape(picture.shape[:2]).astype(np.uint16)
    turned = to_file(image, exif=exif)
    files = {
        "cmyk.jpg": (to_file(image.convert("CMYK")), ["cmyk"]),
        "gif.gif": (to_file(image, "GIF"), ["gif", "palette"]),
        "named.JPEG": (to_file(image, "PNG"), ["png"]),
        "palette.png": (to_file(image.convert("P"), "PNG"), ["palette", "png"]),
        "rgba.png": (to_file(image.convert("RGBA"), "PNG"), ["alpha", "png"]),
        "webp.webp": (to_file(image, "WEBP"), ["webp"]),
        "bits.bmp": (to_file(image.convert("1"), "BMP"), ["bmp", "one_bit"]),
        "grey16.png": (to_file(Image.fromarray(grey), "PNG"), ["gray16", "png"]),
        "turned.jpg": (turned, ["exif_rotated"]),
    }
    expected = {name: np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for name, (data, _) in files.items()}
    expected["grey16.png"] = np.rint(grey / 257).astype(np.uint8)[:, :, None].repeat(3, axis=2)
    expected["turned.jpg"] = np.rot90(expected["turned.jpg"], -1)
    return {name: (data, conversions, expected[name]) for name, (data, conversions) in files.items()}


def test_keep_copies_jpeg_bytes(folder, tmp_path):
    manifest = write_beton(folder, tmp_path / "x.beton")
    assert manifest.dataset == "images"
    assert manifest.classes == ("class_0", "class_1", "class_2")
    assert manifest.counts == (4, 4, 4)
    assert manifest.ids[:2] == ("class_0/0.jpg", "class_0/1.jpg")
    assert manifest.converted == {}
    assert manifest.skipped == ()
    assert verify_beton(tmp_path / "x.beton", deep=True) == []
    with BetonFile(tmp_path / "x.beton") as file:
        for index, name in enumerate(manifest.ids):
            assert bytes(file.payload(index)) == (folder / name).read_bytes()
            assert file.labels[index] == int(name[6])


def test_odd_files_are_converted_exactly_and_counted(tmp_path, make_picture, to_file):
    files = odd_files(make_picture(48, 64, seed=9), to_file)
    (tmp_path / "in" / "cat").mkdir(parents=True)
    for name, (data, _, _) in files.items():
        (tmp_path / "in" / "cat" / name).write_bytes(data)
    manifest = write_beton(tmp_path / "in", tmp_path / "x.beton")
    counted: dict[str, int] = {}
    for _, conversions, _ in files.values():
        for conversion in conversions:
            counted[conversion] = counted.get(conversion, 0) + 1
    assert manifest.converted == counted
    with BetonFile(tmp_path / "x.beton") as file:
        assert set(file.modes.tolist()) == {1}
        for index, name in enumerate(manifest.ids):
            np.testing.assert_array_equal(file.decode(index), files[name.removeprefix("cat/")][2], err_msg=name)


def test_a_large_odd_file_becomes_a_good_jpeg(tmp_path, make_picture, to_file):
    picture = make_picture(1100, 1300, seed=1)
    (tmp_path / "in" / "cat").mkdir(parents=True)
    (tmp_path / "in" / "cat" / "large.png").write_bytes(to_file(picture, "PNG"))
    (tmp_path / "in" / "cat" / "small.png").write_bytes(to_file(picture[:9], "PNG"))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "in" / "cat" / "turned.jpg").write_bytes(to_file(picture, exif=exif))
    manifest = write_beton(tmp_path / "in", tmp_path / "x.beton")
    assert manifest.converted == {"exif_rotated": 1, "lossy": 2, "png": 2}
    with BetonFile(tmp_path / "x.beton") as file:
        assert file.modes.tolist() == [0, 1, 0]
        assert np.abs(file.decode(0).astype(int) - picture).mean() < 1.5


@pytest.mark.parametrize("encoding", ["jpg", "raw", None])
def test_resolution_shrinks_the_shorter_side_and_never_enlarges(tmp_path, make_folder, encoding):
    root = make_folder(tmp_path / "in", classes=2, images=3, size=(50, 80))
    quality = None if encoding == "raw" else 95
    make_folder(tmp_path / "in" / "class_1" / "small", classes=1, images=1, size=(20, 30))
    manifest = write_beton(root, tmp_path / "x.beton", resolution=32, encoding=encoding, quality=quality)
    assert manifest.made["encoding"] == (encoding or "jpg")
    assert manifest.made["resolution"] == 32
    with BetonFile(tmp_path / "x.beton") as file:
        sizes = list(zip(file.heights.tolist(), file.widths.tolist(), strict=True))
        assert sizes == [(32, 51)] * 6 + [(20, 30)]
        for index, name in enumerate(manifest.ids):
            expected = resize_short(decode_image((root / name).read_bytes()), 32)
            difference = np.abs(file.decode(index).astype(int) - expected)
            assert difference.max() == 0 if encoding == "raw" else difference.mean() < 6


def test_both_resizers_write_the_same_file(tmp_path, make_folder, monkeypatch):
    root = make_folder(tmp_path / "in", classes=2, images=4, size=(50, 37))
    few = write_beton(root, tmp_path / "few.beton", resolution=24)
    monkeypatch.setattr(convert_module, "MANY_IMAGES", 1)
    many = write_beton(root, tmp_path / "many.beton", resolution=24)
    assert few == many
    assert digest(tmp_path / "few.beton") == digest(tmp_path / "many.beton")


@pytest.mark.parametrize("options", [{}, {"encoding": "jpg"}, {"encoding": "raw"}, {"resolution": 24}])
def test_same_bytes_for_any_number_of_workers(tmp_path, make_folder, to_file, make_picture, options):
    root = make_folder(tmp_path / "in", classes=3, images=45, size=(30, 34))
    (root / "class_1" / "odd.png").write_bytes(to_file(make_picture(31, 29, seed=3), "PNG"))
    for workers in (1, 2, 5):
        write_beton(root, tmp_path / f"{workers}.beton", workers=workers, **options)
    for suffix in ("beton", "json"):
        assert len({digest(tmp_path / f"{workers}.{suffix}") for workers in (1, 2, 5)}) == 1


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.xz", "zip"])
def test_an_archive_gives_the_data_of_its_folder(folder, tmp_path, kind):
    path = tmp_path / f"archive.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in folder.rglob("*.jpg"):
                archive.write(name, f"outer/{name.relative_to(folder)}")
    else:
        with tarfile.open(path, "w:" + kind[4:] if kind != "tar" else "w") as archive:
            for name in sorted(folder.rglob("*.jpg"), reverse=True):  # not the order of the samples
                archive.add(name, f"outer/{name.relative_to(folder)}")
    expected = write_beton(folder, tmp_path / "folder.beton")
    for workers in (1, 3):
        manifest = write_beton(path, tmp_path / f"{workers}.beton", workers=workers)
        assert (manifest.dataset, manifest.source) == ("archive", path.name)
        assert (manifest.ids, manifest.content_hash) == (expected.ids, expected.content_hash)
        assert verify_beton(tmp_path / f"{workers}.beton", deep=True) == []
    assert digest(tmp_path / "1.beton") == digest(tmp_path / "3.beton")
    assert {name.name for name in tmp_path.iterdir() if name.is_dir()} == {"images"}  # nothing was unpacked


def break_image(folder, name, data=None):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-100] if data is None else data)


@pytest.mark.parametrize("options", [{}, {"resolution": 16}, {"encoding": "raw"}])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "cannot be decoded"),
        (b"", "empty file"),
        (b"<html>404</html>", "cannot be decoded: it is a web page"),
        (b"no such file", "cannot be decoded: no known image"),
    ],
)
def test_an_unreadable_image_fails_with_its_path(folder, tmp_path, data, words, options):
    break_image(folder, "class_1/2.jpg", data)
    with pytest.raises(SourceError, match=rf"images/class_1/2\.jpg: {words}.*--on-error skip"):
        write_beton(folder, tmp_path / "x.beton", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    assert threading.active_count() == 1 or not any(
        thread.name.startswith("fastdc-write") for thread in threading.enumerate()
    )


@pytest.mark.timeout(30)
def test_skip_leaves_unreadable_images_out_and_reports_them(folder, tmp_path):
    break_image(folder, "class_1/2.jpg")
    break_image(folder, "class_0/0.jpg", b"")
    os.symlink("nowhere.jpg", folder / "class_2" / "dangling.jpg")
    os.mkfifo(folder / "class_2" / "pipe.jpg")
    (folder / "class_2" / "folder.jpg").mkdir()
    (folder / "class_2" / "notes.txt").write_text("x")
    manifest = write_beton(folder, tmp_path / "x.beton", on_error="skip")
    assert manifest.counts == (3, 3, 4)
    assert [(skipped.path, skipped.kind, skipped.reason.split(":")[0]) for skipped in manifest.skipped] == [
        ("class_0/0.jpg", "unreadable", "empty file, expected an image"),
        ("class_1/2.jpg", "unreadable", "cannot be decoded"),
        ("class_2/dangling.jpg", "unreadable", "cannot be read (No such file or directory)"),
        ("class_2/notes.txt", "not_image", "not an image file"),
        ("class_2/pipe.jpg", "unreadable", "not a regular file"),
    ]
    assert load_manifest(tmp_path / "x.beton") == manifest
    assert verify_beton(tmp_path / "x.beton", deep=True) == []
    assert "class_1/2.jpg" not in manifest.ids
    with BetonFile(tmp_path / "x.beton") as file:
        for index, name in enumerate(manifest.ids):
            assert bytes(file.payload(index)) == (folder / name).read_bytes()


@pytest.mark.parametrize("options", [{}, {"resolution": 24}, {"encoding": "jpg"}, {"encoding": "raw"}])
def test_a_441_jpeg_is_an_image_like_any_other(folder, tmp_path, jpeg_441, options):
    (folder / "class_1" / "2.jpg").write_bytes(jpeg_441)
    manifest = write_beton(folder, tmp_path / "x.beton", **options)
    assert manifest.skipped == ()
    assert verify_beton(tmp_path / "x.beton", deep=True) == []
    if options.get("encoding") == "raw":
        with BetonFile(tmp_path / "x.beton") as file:
            expected = np.asarray(Image.open(io.BytesIO(jpeg_441)).convert("RGB"))
            np.testing.assert_array_equal(file.decode(manifest.ids.index("class_1/2.jpg")), expected)


@pytest.mark.parametrize("options", [{"resolution": 24}, {"encoding": "jpg"}, {"encoding": "raw"}])
def test_a_jpeg_that_no_decoder_reads_is_named(folder, tmp_path, make_picture, options):
    (folder / "class_1" / "2.jpg").write_bytes(resampled(make_picture(32, 64, seed=7), 0x44))
    with pytest.raises(SourceError, match=r"class_1/2\.jpg: .*JPEG.*; repair or remove it, or use --on-error skip$"):
        write_beton(folder, tmp_path / "x.beton", **options)
    manifest = write_beton(folder, tmp_path / "x.beton", on_error="skip", **options)
    assert [skipped.path for skipped in manifest.skipped] == ["class_1/2.jpg"]


def test_skip_equals_a_folder_without_the_bad_images(folder, tmp_path):
    break_image(folder, "class_1/2.jpg")
    skipped = write_beton(folder, tmp_path / "skip.beton", on_error="skip")
    (folder / "class_1" / "2.jpg").unlink()
    clean = write_beton(folder, tmp_path / "clean.beton")
    assert digest(tmp_path / "skip.beton") == digest(tmp_path / "clean.beton")
    assert skipped.content_hash == clean.content_hash


def test_a_class_that_loses_all_its_images_is_an_error(folder, tmp_path):
    break_image(folder, "class_0/0.jpg", b"x")
    for number in range(4):
        break_image(folder, f"class_1/{number}.jpg", b"" if number == 0 else b"x")
    words = (
        r"images: class 'class_1': none of its 4 images.*the first, class_1/0\.jpg: empty file.*; repair them, or take "
        "the class out of the source"
    )
    with pytest.raises(SourceError, match=words):
        write_beton(folder, tmp_path / "x.beton", on_error="skip")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize("label", [5, -1])
def test_a_wrong_label_of_a_plug_in_names_its_image(folder, tmp_path, label):
    with open_source(folder) as opened:
        labels = opened.contents.labels.copy()
        labels[2] = label
        opened = opened._replace(contents=opened.contents._replace(labels=labels))
        name = opened.contents.ids[2]
        words = rf"images/{name}: label {label}, expected 0\.\.{len(opened.contents.classes) - 1}; correct or remove it"
        with pytest.raises(SourceError, match=words):
            write_beton(opened, tmp_path / "x.beton")
        skipped = write_beton(opened, tmp_path / "x.beton", on_error="skip").skipped
    assert [(one.path, one.kind) for one in skipped] == [(name, "unreadable")]


def test_quality_has_no_effect_on_copied_images(folder, tmp_path):
    for name, options in (("a", {}), ("b", {"quality": 10})):
        write_beton(folder, tmp_path / f"{name}.beton", **options)
    assert (tmp_path / "a.beton").read_bytes() == (tmp_path / "b.beton").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoding": "keep", "resolution": 32}, "keep"),
        ({"encoding": "png"}, "expected keep, jpg or raw"),
        ({"quality": 0}, "expected 1..100"),
        ({"quality": 101}, "expected 1..100"),
        ({"resolution": 0}, "expected 1..65535"),
        ({"workers": 0}, "at least 1"),
        ({"on_error": "ignore"}, "fail or skip"),
    ],
)
def test_impossible_settings(folder, tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        write_beton(folder, tmp_path / "x.beton", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_quality_is_90_unless_given(folder, tmp_path):
    manifests = {
        quality: write_beton(folder, tmp_path / f"{quality}.beton", encoding="jpg", quality=quality)
        for quality in (None, 90, 50)
    }
    assert manifests[None] == manifests[90]
    assert [manifests[quality].made["quality"] for quality in (None, 50)] == [90, 50]
    assert manifests[50].image_bytes < manifests[90].image_bytes


def test_a_source_is_not_replaced_by_its_own_beton(folder, tmp_path):
    source = tmp_path / "src.beton"  # an archive may have any name
    with tarfile.open(source, "w") as archive:
        archive.add(folder, "images")
    before = digest(source)
    with pytest.raises(OutputError, match="is an input of this command"):
        write_beton(source, source, force=True)
    assert digest(source) == before
    source.rename(tmp_path / "src.tar")
    for force in (False, True):  # src.json is the manifest of src.beton, and none of src.tar's
        write_beton(tmp_path / "src.tar", source, force=force)


def test_keep_copies_a_damaged_jpeg_and_verify_deep_names_it(folder, tmp_path):
    path = folder / "class_1" / "2.jpg"
    data = bytearray(path.read_bytes())
    middle = (data.index(b"\xff\xda") + len(data)) // 2
    data[middle:-2] = bytes(len(data) - 2 - middle)
    path.write_bytes(data)
    write_beton(folder, tmp_path / "x.beton")
    assert verify_beton(tmp_path / "x.beton") == []
    assert [problem.id for problem in verify_beton(tmp_path / "x.beton", deep=True)] == ["class_1/2.jpg"]
    with pytest.raises(SourceError, match=r"class_1/2\.jpg: damaged JPEG"):
        write_beton(folder, tmp_path / "y.beton", encoding="jpg")


def test_existing_output_is_refused_before_any_work(folder, tmp_path):
    (tmp_path / "x.beton").write_bytes(b"precious")
    with pytest.raises(OutputError, match="--force"):
        write_beton(folder, tmp_path / "x.beton")
    assert (tmp_path / "x.beton").read_bytes() == b"precious"


def test_names_in_any_script_or_encoding(tmp_path, make_folder):
    root = make_folder(tmp_path / "in", classes=1, images=2)
    (root / "class_0" / "0.jpg").rename(root / "class_0" / "日本 🙂.jpg")
    os.rename(os.fsencode(root / "class_0" / "1.jpg"), os.fsencode(root / "class_0") + b"/\xff\xfe.jpg")
    manifest = write_beton(root, tmp_path / "x.beton")
    assert set(manifest.ids) == {"class_0/日本 🙂.jpg", r"class_0/\udcff\udcfe.jpg"}
    assert verify_beton(tmp_path / "x.beton", deep=True) == []


def test_the_manifest_depends_on_no_time_and_no_place(folder, tmp_path, monkeypatch):
    write_beton(folder, tmp_path / "a.beton")
    time.sleep(0.01)
    os.utime(folder / "class_0" / "0.jpg")
    monkeypatch.chdir(folder.parent)
    write_beton(type(folder)("images"), type(folder)("b.beton"))
    assert digest(tmp_path / "a.json") == digest(tmp_path / "b.json")


def test_progress_goes_to_stderr(folder, tmp_path, capsys):
    write_beton(folder, tmp_path / "x.beton", show_progress=True)
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(not os.path.exists("/work/shared/data/imagenette2-160.tar"), reason="Imagenette is not at hand")
def test_imagenette_val_from_the_archive(tmp_path):
    from pathlib import Path

    archive = Path("/work/shared/data/imagenette2-160.tar")
    manifest = write_beton(archive, tmp_path / "val.beton", split="val")
    assert (manifest.dataset, len(manifest.classes), sum(manifest.counts)) == ("imagenette2-160", 10, 3925)
    assert manifest.converted == {}
    assert verify_beton(tmp_path / "val.beton") == []
    with tarfile.open(archive) as tar:
        first = tar.extractfile(f"imagenette2-160/val/{manifest.ids[0]}").read()
    with BetonFile(tmp_path / "val.beton") as file:
        assert bytes(file.payload(0)) == first
