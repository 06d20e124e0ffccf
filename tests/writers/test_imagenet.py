"""The ImageNet recipe on a small set with all oddities, in every layout."""

import dataclasses
import io
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fastdc.beton import BetonFile, load_manifest, verify_beton
from fastdc.recipes import expected
from tests.recipes.conftest import WNIDS, make_tar, make_zip, picture, put
from tests.writers.conftest import WRITERS, load

imagenet, labels = load("imagenet"), load("labels")
pytestmark = pytest.mark.timeout(60)

SMALL = dataclasses.replace(
    imagenet.IMAGENET,
    num_classes=3,
    splits=(
        expected.Split("train", 12, (3, 5), converted={"cmyk": 1, "png": 1}),
        expected.Split("val", 6, (2, 2), converted={"cmyk": 1}),
    ),
)
COUNTS = (5, 4, 3)
VAL_CLASSES = [WNIDS[place] for place in (2, 0, 1, 1, 2, 0)]  # of ILSVRC2012_val_00000001 to 6


def train_files():
    """Return n01440764/n01440764_0.JPEG, ...: one CMYK JPEG, and the PNG under its real name."""
    files = {f"{wnid}/{wnid}_{number}.JPEG": picture(10 * label + number)
             for label, wnid in enumerate(WNIDS) for number in range(COUNTS[label])}  # fmt: skip
    files[f"{WNIDS[0]}/{WNIDS[0]}_3.JPEG"] = picture(99, mode="CMYK")
    del files["n02105855/n02105855_2.JPEG"]
    return files | {"n02105855/n02105855_2933.JPEG": picture(2933, "PNG")}


def val_files():
    """Return ILSVRC2012_val_00000001.JPEG, ...; the fourth is a CMYK JPEG."""
    return {f"ILSVRC2012_val_{number:08d}.JPEG": picture(100 + number, mode="CMYK" if number == 4 else "RGB")
            for number in range(1, 7)}  # fmt: skip


def in_folders(files):
    return {f"{wnid}/{name}": data for wnid, (name, data) in zip(VAL_CLASSES, files.items(), strict=True)}


def under(folder, files):
    return {f"{folder}/{name}": data for name, data in files.items()}


@pytest.fixture
def source(tmp_path):
    """Write train/WNID/x.JPEG, val/WNID/x.JPEG."""
    return put(tmp_path / "imagenet", under("train", train_files()) | under("val", in_folders(val_files())))


def as_kaggle(root):
    """Write ILSVRC/Data/CLS-LOC/train, a flat val, and the two lists in the root."""
    put(root, under("ILSVRC/Data/CLS-LOC/train", train_files()) | under("ILSVRC/Data/CLS-LOC/val", val_files()))
    put(root, {"ILSVRC/Annotations/CLS-LOC/val/x.xml": b"", "ILSVRC/Data/CLS-LOC/test/x.JPEG": picture(7)})
    rows = [f"{name[:-5]},{wnid} 85 1 499 272 {wnid} 1 2 3 4 \n"
            for wnid, name in zip(VAL_CLASSES, val_files(), strict=True)]  # fmt: skip
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(reversed(rows)))
    (root / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} tench, Tinca tinca\n" for wnid in WNIDS))
    return root


def as_archives(root):
    """Write ILSVRC2012_img_train.tar, a tar of tars, and ILSVRC2012_img_val.tar, which is flat."""
    root.mkdir()
    inner = {}
    for wnid in reversed(WNIDS):
        own = {name.partition("/")[2]: data for name, data in train_files().items() if name.startswith(wnid)}
        inner[f"{wnid}.tar"] = make_tar(root / "inner.tar", own).read_bytes()
    (root / "inner.tar").unlink()
    make_tar(root / "ILSVRC2012_img_train.tar", inner)
    make_tar(root / "ILSVRC2012_img_val.tar", val_files())
    script = [f"mkdir -p {wnid}\n" for wnid in WNIDS]
    script += [f"mv {name} {wnid}/\n" for wnid, name in zip(VAL_CLASSES, val_files(), strict=True)]
    (root / "valprep.sh").write_text("#!/bin/bash\n" + "".join(script))
    return root


def payloads(path):
    with BetonFile(path) as file:
        return [bytes(file.payload(index)) for index in range(len(file))]


def test_both_splits_are_copied_and_odd_files_converted(recipe, source, tmp_path):
    out = tmp_path / "out"
    code, lines, errors = recipe(imagenet.main, "--source", source, "--out", out, data=SMALL)
    assert (code, errors) == (0, [])
    assert lines[0].startswith(f"{out}/train.beton: written, 12 images, 3 classes")
    assert "1 converted (cmyk), 1 converted (png)" in lines[0]
    manifest = load_manifest(out / "train.beton")
    assert (manifest.dataset, manifest.split, manifest.classes, manifest.counts) == ("imagenet", "train", WNIDS, COUNTS)
    assert manifest.converted == {"cmyk": 1, "png": 1}
    assert manifest.made["recipe"] == "writers/imagenet.py"
    assert load_manifest(out / "val.beton").counts == (2, 2, 2)
    with BetonFile(out / "train.beton") as file:
        for index, name in enumerate(manifest.ids):
            data = train_files()[name]
            expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            if name.endswith(("_3.JPEG", "_2933.JPEG")):
                np.testing.assert_array_equal(file.decode(index), expected)
            else:
                assert bytes(file.payload(index)) == data
    assert verify_beton(out / "val.beton", deep=True) == []


@pytest.mark.parametrize("layout", [as_kaggle, as_archives])
def test_other_layouts_give_the_same_samples(recipe, source, tmp_path, layout):
    other = layout(tmp_path / "other")
    for folder, out in ((source, "a"), (other, "b")):
        assert recipe(imagenet.main, "--source", folder, "--out", tmp_path / out, data=SMALL)[0] == 0
    for split in ("train", "val"):
        first, second = (load_manifest(tmp_path / out / f"{split}.beton") for out in "ab")
        assert first.ids == second.ids
        assert first.content_hash == second.content_hash
        assert payloads(tmp_path / "a" / f"{split}.beton") == payloads(tmp_path / "b" / f"{split}.beton")


def test_kaggles_zip_is_read_directly(recipe, tmp_path):
    archive = make_zip(tmp_path / "kaggle.zip", as_kaggle(tmp_path / "kaggle"), "challenge")
    code, lines, errors = recipe(imagenet.main, "--source", archive, "--out", tmp_path / "out", data=SMALL)
    assert (code, errors) == (0, [])
    assert len(lines) == 2


def test_one_archive_alone(recipe, tmp_path):
    folder = as_archives(tmp_path / "archives")
    for split in ("train", "val"):
        archive = folder / f"ILSVRC2012_img_{split}.tar"
        code, lines, errors = recipe(
            imagenet.main, "--source", archive, "--out", tmp_path / "out", "--split", split, data=SMALL
        )
        assert (code, errors, len(lines)) == (0, [], 1)


def flat(root, text, name="list.txt"):
    put(root, under("val", val_files()))
    (root / name).write_text(text)
    return root


PAIRS = list(zip(val_files(), VAL_CLASSES, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"{name} {wnid}\n" for name, wnid in reversed(PAIRS)),
        "".join(f"{wnid}/{name}\n" for name, wnid in PAIRS),
        "".join(f"{wnid}\n" for wnid in VAL_CLASSES),
    ],
)
def test_lists_of_the_classes_of_a_flat_val(recipe, tmp_path, text):
    source = flat(tmp_path / "set", text)
    arguments = ["--source", source, "--out", tmp_path / "out", "--split", "val", "--val-labels", source / "list.txt"]
    assert recipe(imagenet.main, *arguments, data=SMALL)[::2] == (0, [])
    assert load_manifest(tmp_path / "out" / "val.beton").ids == tuple(sorted(in_folders(val_files())))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ILSVRC2012_val_00000001.JPEG 65\n", "line 1 names 1 files and 0 WordNet ids"),
        (f"ILSVRC2012_val_00000001.JPEG {WNIDS[0]}\n", "does not name the class of ILSVRC2012_val_00000002.JPEG"),
        ("".join(f"ILSVRC2012_val_00000001 {wnid}\n" for wnid in WNIDS), "line 2 puts ILSVRC2012_val_00000001 into"),
        (f"{WNIDS[0]}\n", "1 WordNet ids for 6 images"),
        ("", "0 WordNet ids for 6 images"),
        ("".join(f"{name} {WNIDS[0]}\n" for name, _ in PAIRS), "1 classes, ImageNet-1K has 3"),
    ],
)
def test_lists_that_do_not_match(recipe, tmp_path, text, words):
    source = flat(tmp_path / "set", text)
    arguments = ["--source", source, "--out", tmp_path / "out", "--split", "val", "--val-labels", source / "list.txt"]
    code, _, errors = recipe(imagenet.main, *arguments, data=SMALL)
    assert (code, len(errors)) == (2, 1)
    assert words in errors[0]
    assert not (tmp_path / "out").exists()


FILES = [name for name, _ in PAIRS]


def test_files_of_any_name_are_looked_up_in_the_list():
    text = f"b-2.JPEG {WNIDS[1]}\nmkdir -p {WNIDS[0]} {WNIDS[1]}\nls *.JPEG\nimages/a1,{WNIDS[0]} 1 2 {WNIDS[0]} 3 4\n"
    assert labels.parse_labels(text, ["a1.JPEG", "b-2.JPEG"], "list") == {"a1": WNIDS[0], "b-2": WNIDS[1]}


@pytest.mark.parametrize(
    ("text", "files", "words"),
    [
        (
            "".join(f"photo{n} {WNIDS[n % 3]}\n" for n in range(6)),
            FILES,
            "line 1 names no file that is there, but n014",
        ),
        (f"{WNIDS[0]} {WNIDS[1]}\n", FILES[:2], "line 1 names no file that is there"),
        (f"mkdir -p {WNIDS[0]}\nmkdir -p {WNIDS[1]}\n", FILES[:2], "line 1 makes a folder, but no line names a file"),
        (f"{WNIDS[0]}\n{FILES[0]} {WNIDS[0]}\n", FILES[:1], "line 1 names no file, others do"),
        (f"{WNIDS[0]}\n" * 2, ["a.JPEG", "b.JPEG"], "image 1 is a.JPEG, expected ILSVRC2012_val_00000001"),
    ],
)
def test_lines_without_a_file_are_never_paired_by_order(text, files, words):
    with pytest.raises(labels.SourceError, match=words):
        labels.parse_labels(text, files, "list")


@pytest.mark.parametrize("stray", ["ILSVRC2012_val_00000007.JPEG", "ILSVRC2012_val_00000003b.JPEG"])
def test_a_missing_and_a_stray_file_do_not_shift_the_classes(stray):
    files = sorted([*FILES[:1], *FILES[2:], stray])
    with pytest.raises(
        labels.SourceError, match=r"image 2 is ILSVRC2012_val_00000003\.JPEG, expected ILSVRC2012_val_0+2;"
    ):
        labels.parse_labels("".join(f"{wnid}\n" for wnid in VAL_CLASSES), files, "list")


def test_an_output_that_is_a_file_is_one_line(recipe, source, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    code, _, errors = recipe(imagenet.main, "--source", source, "--out", tmp_path / "file" / "out", data=SMALL)
    assert (code, len(errors)) == (2, 1)
    assert "Not a directory" in errors[0]


def test_repeated_images_are_counted():
    hashes = ["00" * 16, "ab" * 16, "00" * 16, "ab" * 15 + "00", "00" * 16, "00" * 15 + "ab"]
    assert expected.count_repeated(hashes) == 2
    assert expected.count_repeated([]) == 0


def test_a_flat_val_without_a_list(recipe, tmp_path):
    source = put(tmp_path / "set", under("val", val_files()))
    code, _, errors = recipe(imagenet.main, "--source", source, "--out", tmp_path, "--split", "val", data=SMALL)
    assert code == 2
    assert "val is flat, and none of LOC_val_solution.csv, valprep.sh" in errors[0]


@pytest.mark.parametrize("packed", [False, True])
def test_the_devkit_gives_the_classes(recipe, tmp_path, packed):
    scipy_io = pytest.importorskip("scipy.io")
    source = flat(tmp_path / "set", "")
    numbers = {WNIDS[0]: 2, WNIDS[1]: 3, WNIDS[2]: 1}
    rows = [(numbers[wnid], wnid, "tench", 0) for wnid in WNIDS] + [(4, "n00001740", "entity", 3)]
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    meta, name = io.BytesIO(), "ILSVRC2012_devkit_t12"
    scipy_io.savemat(meta, {"synsets": np.array(rows, dtype=kind)})
    truth = "".join(f"{numbers[wnid]}\n" for wnid in VAL_CLASSES).encode()
    put(source, {f"{name}/{labels.DEVKIT_TRUTH}": truth, f"{name}/{labels.DEVKIT_META}": meta.getvalue()})
    if packed:
        files = {str(path.relative_to(source)): path.read_bytes() for path in (source / name / "data").iterdir()}
        make_tar(source / f"{name}.tar.gz", files, "w:gz")
        shutil.rmtree(source / name)
    arguments = ["--source", source, "--out", tmp_path / "out", "--split", "val"]
    assert recipe(imagenet.main, *arguments, data=SMALL)[::2] == (0, [])
    assert load_manifest(tmp_path / "out" / "val.beton").ids == tuple(sorted(in_folders(val_files())))


@pytest.mark.parametrize("data", [b"", b"MATLAB 5.0 MAT-file"])
def test_a_damaged_devkit(recipe, tmp_path, data):
    pytest.importorskip("scipy.io")
    source = flat(tmp_path / "set", "")
    put(source / "ILSVRC2012_devkit_t12", {labels.DEVKIT_TRUTH: b"1\n" * 6, labels.DEVKIT_META: data})
    code, _, errors = recipe(imagenet.main, "--source", source, "--out", tmp_path, "--split", "val", data=SMALL)
    assert (code, len(errors)) == (2, 1)
    assert "is no devkit of ILSVRC2012" in errors[0]


@pytest.mark.parametrize(
    ("remove", "add", "words"),
    [
        (f"train/{WNIDS[1]}/{WNIDS[1]}_0.JPEG", None, "train: 11 images, expected 12: 1 missing .each class has 3..5"),
        (None, f"train/{WNIDS[0]}/more.JPEG", f"train: class {WNIDS[0]} has 6 images, expected 3..5: 1 too many"),
        (
            f"train/{WNIDS[2]}/{WNIDS[2]}_0.JPEG",
            None,
            f"train: class {WNIDS[2]} has 2 images, expected 3..5: 1 missing",
        ),
        (f"train/{WNIDS[1]}", None, "train: 2 classes, ImageNet-1K has 3"),
        (None, "train/n09999999/x.JPEG", "train: 4 classes, ImageNet-1K has 3"),
        (
            None,
            "train/goldfish/x.JPEG",
            "train: 'goldfish' is not a class of ImageNet-1K; expected folders named by Word",
        ),
        (None, f"val/{WNIDS[0]}/more.JPEG", f"val: class {WNIDS[0]} has 3 images, expected 2: 1 too many"),
        (
            f"val/{WNIDS[0]}",
            "val/n09999999/a.JPEG val/n09999999/b.JPEG",
            f"one split only, the first is {WNIDS[0]} .trai",
        ),
        ("val", None, "holds neither a folder val nor ILSVRC2012_img_val.tar"),
        ("train", f"train/{WNIDS[0]}.tar", "holds 1 tars, such as .*, expected class folders; unpack them there"),
    ],
)
def test_incomplete_sets_are_refused_before_anything_is_written(recipe, source, tmp_path, remove, add, words):
    if remove:
        path = source / remove
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    put(source, {name: picture(500 + number) for number, name in enumerate((add or "").split())})
    out = tmp_path / "out"
    code, lines, errors = recipe(imagenet.main, "--source", source, "--out", out, data=SMALL)
    assert (code, lines, len(errors)) == (2, [], 1)
    assert re.search(words, errors[0]), errors[0]
    assert not out.exists()


def test_the_missing_class_is_named_from_kaggles_list(recipe, tmp_path):
    source = as_kaggle(tmp_path / "kaggle")
    shutil.rmtree(source / "ILSVRC/Data/CLS-LOC/train" / WNIDS[1])
    code, _, errors = recipe(imagenet.main, "--source", source, "--out", tmp_path / "out", data=SMALL)
    assert code == 2
    assert f"2 classes, ImageNet-1K has 3, the first missing one is {WNIDS[1]}" in errors[0]


def test_incomplete_sets_on_request(recipe, source, tmp_path):
    for split in ("train", "val"):
        shutil.rmtree(source / split / WNIDS[1])
    arguments = ["--source", source, "--out", tmp_path / "out"]
    code, lines, errors = recipe(imagenet.main, *arguments, "--allow-incomplete", data=SMALL)
    assert (code, len(lines)) == (0, 2)
    assert errors[0] == f"note: {source}: train: 2 classes, ImageNet-1K has 3"
    assert load_manifest(tmp_path / "out" / "train.beton").made["complete"] is False
    assert (
        "is there, its structure is sound" in recipe(imagenet.main, *arguments, "--allow-incomplete", data=SMALL)[1][0]
    )
    code, _, errors = recipe(imagenet.main, *arguments, data=SMALL)
    assert code == 2
    assert "other options (source_complete False, not True); add --force" in errors[0]


def test_a_selection_of_classes_keeps_its_checks(recipe, source, tmp_path):
    (tmp_path / "two.txt").write_text(f"{WNIDS[2]}\n{WNIDS[0]}\n")
    arguments = ["--source", source, "--out", tmp_path / "out", "--classes", tmp_path / "two.txt"]
    code, lines, errors = recipe(imagenet.main, *arguments, data=SMALL)
    assert (code, errors, len(lines)) == (0, [], 2)
    manifest = load_manifest(tmp_path / "out" / "train.beton")
    assert (manifest.classes, manifest.counts) == ((WNIDS[0], WNIDS[2]), (5, 3))
    with BetonFile(tmp_path / "out" / "train.beton") as file:
        assert file.labels.tolist() == [0] * 5 + [1] * 3
    assert all("is there, its structure is sound" in line for line in recipe(imagenet.main, *arguments, data=SMALL)[1])
    (tmp_path / "two.txt").write_text(f"{WNIDS[1]}\n{WNIDS[0]}\n")
    assert "(other classes)" in recipe(imagenet.main, *arguments, data=SMALL)[2][0]
    (source / "val" / WNIDS[1] / "ILSVRC2012_val_00000003.JPEG").unlink()
    code, _, errors = recipe(imagenet.main, *arguments, "--force", data=SMALL)
    assert f"val: class {WNIDS[1]} has 1 images, expected 2: 1 missing" in errors[0]
    (tmp_path / "two.txt").write_text("n01234567\n")
    assert "has no class 'n01234567'" in recipe(imagenet.main, *arguments, "--force", data=SMALL)[2][0]


def test_other_numbers_of_odd_files_are_a_warning(recipe, source, tmp_path):
    (source / "train/n02105855/n02105855_2933.JPEG").write_bytes(picture(3))
    out = tmp_path / "out"
    code, lines, errors = recipe(imagenet.main, "--source", source, "--out", out, data=SMALL)
    assert (code, len(lines)) == (0, 2)
    assert errors == [
        f"warning: {out}/train.beton: 0 images converted from png, ImageNet-1K train has 1",
    ]


def test_a_second_run_writes_only_missing_damaged_or_forced_files(recipe, source, tmp_path):
    out = tmp_path / "out"
    arguments = ["--source", source, "--out", out]
    recipe(imagenet.main, *arguments, data=SMALL)
    sound = {path.name: path.read_bytes() for path in out.iterdir()}
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    code, lines, _ = recipe(imagenet.main, "--out", out, data=SMALL)  # needs no source
    assert (code, [line.partition(": ")[2] for line in lines]) == (
        0,
        [
            f"is there, its structure is sound ({images} images); fastdc verify-beton --deep checks the images"
            for images in (12, 6)
        ],
    )
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    os.truncate(out / "val.beton", len(sound["val.beton"]) - 24)
    (out / "train.beton").unlink()
    assert [": written" in line for line in recipe(imagenet.main, *arguments, data=SMALL)[1]] == [True, True]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == sound
    newer = dataclasses.replace(SMALL, version=2)
    assert all(": written" in line for line in recipe(imagenet.main, *arguments, data=newer)[1])
    assert all(": written" in line for line in recipe(imagenet.main, *arguments, "--force", data=newer)[1])


def test_other_options_need_force(recipe, source, tmp_path):
    arguments = ["--source", source, "--out", tmp_path / "out"]
    recipe(imagenet.main, *arguments, data=SMALL)
    code, _, errors = recipe(imagenet.main, *arguments, "--resolution", 8, data=SMALL)
    assert (code, len(errors)) == (2, 1)
    assert "other options (encoding keep, not jpg; quality None, not 90; resolution None, not 8)" in errors[0]
    assert recipe(imagenet.main, *arguments, "--resolution", 8, "--force", data=SMALL)[0] == 0
    with BetonFile(tmp_path / "out" / "val.beton") as file:
        assert min(file.decode(0).shape[:2]) == 8
    assert "is there, its structure is sound" in recipe(imagenet.main, *arguments, "--resolution", 8, data=SMALL)[1][0]


@pytest.mark.parametrize(("name", "remedy"), [("train.beton", "--force"), ("train.json", "move it")])
def test_a_foreign_file_is_not_replaced(recipe, source, tmp_path, name, remedy):
    (tmp_path / name).write_bytes(b"precious")
    code, _, errors = recipe(imagenet.main, "--source", source, "--out", tmp_path, data=SMALL)
    assert (code, len(errors)) == (2, 1)
    assert remedy in errors[0]
    assert (tmp_path / name).read_bytes() == b"precious"
    assert not (tmp_path / "val.beton").exists()


def test_unreadable_images_stop_the_recipe_or_are_left_out(recipe, source, tmp_path):
    (source / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG").write_bytes(b"<html>")
    arguments = ["--source", source, "--out", tmp_path / "out"]
    code, _, errors = recipe(imagenet.main, *arguments, data=SMALL)
    assert (code, len(errors)) == (2, 1)
    assert f"{WNIDS[0]}_0.JPEG: cannot be decoded" in errors[0]
    code, lines, _ = recipe(imagenet.main, *arguments, "--on-error", "skip", data=SMALL)
    assert code == 0
    assert "11 images, 3 classes" in lines[0]
    assert "1 unreadable ones left out" in lines[0]
    made = [load_manifest(tmp_path / "out" / f"{split}.beton").made["complete"] for split in ("train", "val")]
    assert made == [False, True]
    code, lines, _ = recipe(imagenet.main, *arguments, "--on-error", "skip", data=SMALL)
    assert (code, ["is there" in line for line in lines]) == (0, [True, True])
    assert "with --on-error skip" in recipe(imagenet.main, *arguments, data=SMALL)[2][0]


def test_the_script_ends_with_2_and_one_line(source, tmp_path):
    command = [sys.executable, str(WRITERS / "imagenet.py"), "--source", str(source), "--out", str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert result.returncode == 2
    assert result.stderr == (
        f"error: {source}: train: 3 classes, ImageNet-1K has 1,000; get the missing files or take out the others, "
        "choose classes with --classes, or add --allow-incomplete\n"
    )
    assert not (tmp_path / "out").exists()
