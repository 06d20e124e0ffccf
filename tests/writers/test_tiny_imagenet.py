"""The Tiny ImageNet recipe on a small set with images/ levels, box lists, a flat val and repeated images."""

import dataclasses
import re
import shutil

import pytest

from fastdc.beton import BetonFile, load_manifest
from fastdc.recipes import expected
from tests.recipes.conftest import WNIDS, make_zip, picture, put
from tests.writers.conftest import load

tiny_imagenet = load("tiny_imagenet")
pytestmark = pytest.mark.timeout(60)

SMALL = dataclasses.replace(
    tiny_imagenet.TINY_IMAGENET,
    num_classes=3,
    splits=(expected.Split("train", 12, (4, 4), repeated=2), expected.Split("val", 6, (2, 2))),
)
VAL_CLASSES = [WNIDS[place] for place in (2, 0, 1, 1, 2, 0)]  # of val_0.JPEG to val_5.JPEG


def val_files():
    return {f"val_{number}.JPEG": picture(100 + number) for number in range(6)}


@pytest.fixture
def source(tmp_path):
    """Write the set as in the zip; one image is twice in its class, another in two classes."""
    files = {f"{wnid}/images/{wnid}_{number}.JPEG": picture(10 * label + number)
             for label, wnid in enumerate(WNIDS) for number in range(4)}  # fmt: skip
    files[f"{WNIDS[1]}/images/{WNIDS[1]}_3.JPEG"] = picture(10)
    files[f"{WNIDS[2]}/images/{WNIDS[2]}_0.JPEG"] = picture(0)
    files |= {f"{wnid}/{wnid}_boxes.txt": b"x_0.JPEG\t0\t0\t62\t62\n" for wnid in WNIDS}
    root = put(tmp_path / "tiny-imagenet-200", {f"train/{name}": data for name, data in files.items()})
    put(root, {f"val/images/{name}": data for name, data in val_files().items()})
    put(root, {f"test/images/test_{number}.JPEG": picture(number) for number in range(3)})
    rows = [f"{name}\t{wnid}\t0\t32\t44\t62\n" for wnid, name in zip(VAL_CLASSES, val_files(), strict=True)]
    put(root, {"val/val_annotations.txt": "".join(rows).encode(), "words.txt": b"n01440764\ttench\n"})
    (root / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in reversed(WNIDS)))
    return root


def payloads(path):
    with BetonFile(path) as file:
        return [bytes(file.payload(index)) for index in range(len(file))]


@pytest.mark.parametrize("packed", [False, True])
def test_folder_and_zip(recipe, source, tmp_path, packed):
    given = make_zip(tmp_path / "tiny-imagenet-200.zip", source, source.name) if packed else source
    out = tmp_path / "out"
    code, lines, errors = recipe(tiny_imagenet.main, "--source", given, "--out", out, data=SMALL)
    assert (code, errors) == (0, [])
    assert "12 images, 3 classes" in lines[0]
    assert "2 equal an earlier one byte for byte (kept)" in lines[0]
    train, val = (load_manifest(out / f"{split}.beton") for split in ("train", "val"))
    assert (train.classes, train.counts, train.skipped) == (WNIDS, (4, 4, 4), ())
    assert train.made["repeated"] == "kept"
    assert train.ids[0] == f"{WNIDS[0]}/images/{WNIDS[0]}_0.JPEG"
    assert payloads(out / "train.beton")[:4] == [picture(number) for number in range(4)]
    assert (val.classes, val.counts) == (WNIDS, (2, 2, 2))
    assert val.ids == tuple(sorted(f"{wnid}/{name}" for wnid, name in zip(VAL_CLASSES, val_files(), strict=True)))
    assert payloads(out / "val.beton") == [val_files()[name.partition("/")[2]] for name in val.ids]
    assert all(
        "is there, its structure is sound" in line for line in recipe(tiny_imagenet.main, "--out", out, data=SMALL)[1]
    )


def test_a_sorted_val_folder(recipe, source, tmp_path):
    recipe(tiny_imagenet.main, "--source", source, "--out", tmp_path / "flat", data=SMALL)
    for wnid, name in zip(VAL_CLASSES, val_files(), strict=True):
        (source / "val" / wnid / "images").mkdir(parents=True, exist_ok=True)
        (source / "val" / "images" / name).rename(source / "val" / wnid / "images" / name)
    (source / "val" / "images").rmdir()
    assert recipe(tiny_imagenet.main, "--source", source, "--out", tmp_path / "sorted", data=SMALL)[0] == 0
    first, second = (load_manifest(tmp_path / name / "val.beton") for name in ("flat", "sorted"))
    assert first.content_hash == second.content_hash


def test_other_numbers_of_repeated_pictures_are_a_warning(recipe, source, tmp_path):
    (source / "train" / WNIDS[2] / "images" / f"{WNIDS[2]}_0.JPEG").write_bytes(picture(777))
    code, _, errors = recipe(tiny_imagenet.main, "--source", source, "--out", tmp_path / "out", data=SMALL)
    assert code == 0
    assert errors == [
        f"warning: {tmp_path}/out/train.beton: 1 images equal an earlier one, Tiny ImageNet train has 2 such"
    ]


@pytest.mark.parametrize(
    ("remove", "words"),
    [
        (f"train/{WNIDS[1]}", f"2 classes, Tiny ImageNet has 3, the first missing one is {WNIDS[1]}"),
        (f"train/{WNIDS[1]}/images/{WNIDS[1]}_2.JPEG", f"class {WNIDS[1]} has 3 images, expected 4: 1 missing"),
        (f"train/{WNIDS[1]}/images", f"class '{WNIDS[1]}' has no images .1 other files"),
        ("val/images/val_3.JPEG", f"class {WNIDS[1]} has 1 images, expected 2: 1 missing"),
        ("val", "holds no folder val, expected tiny-imagenet-200"),
        ("val/val_annotations.txt", "val: class folders|'images' is not a class of Tiny ImageNet"),
    ],
)
def test_incomplete_sets_are_refused(recipe, source, tmp_path, remove, words):
    path = source / remove
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    code, lines, errors = recipe(tiny_imagenet.main, "--source", source, "--out", tmp_path / "out", data=SMALL)
    assert (code, lines, len(errors)) == (2, [], 1)
    assert re.search(words, errors[0]), errors[0]
    assert not (tmp_path / "out").exists()


def test_unlisted_images(recipe, source, tmp_path):
    put(source, {"val/images/val_6.JPEG": picture(6)})
    code, _, errors = recipe(tiny_imagenet.main, "--source", source, "--out", tmp_path / "out", data=SMALL)
    assert code == 2
    assert "val_annotations.txt: does not name the class of val_6.JPEG" in errors[0]
