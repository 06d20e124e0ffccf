"""Arrays as a source: `.npz`, and files of `torch.save` as distillation codes release them."""

import io
import os
import pickle
import re
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from fastdc.beton import BetonFile, verify_beton, write_beton
from tests.beton.conftest import refused, smooth

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
PIXELS = np.stack([smooth(12, 16, seed) for seed in range(6)])
LABELS = np.array([2, 0, 1, 1, 0, 2])


def standardised(pixels=PIXELS):
    """Return `pixels` as training code holds them: float32 [N, 3, H, W], standardised per channel."""
    values = (pixels / 255 - np.array(MEAN)) / np.array(STD)
    return values.transpose(0, 3, 1, 2).astype(np.float32)


def stored(path):
    with BetonFile(path) as beton:
        height, width = PIXELS.shape[1:3]
        return [np.frombuffer(beton.payload(index), np.uint8).reshape(height, width, 3) for index in range(len(beton))]


def write(tmp_path, source, **options):
    """Write `source` as a beton; return its manifest and pixels."""
    out = tmp_path / "out.beton"
    manifest = write_beton(source, out, force=True, **options)
    assert not verify_beton(out, deep=True)
    return manifest, stored(out)


def savez(path, **arrays):
    np.savez(path, **arrays)
    return path


def save(path, content, **options):
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("data", "targets"), ("X_train", "y_train")])
def test_npz_of_bytes_is_stored_as_it_is(tmp_path, names):
    source = savez(tmp_path / "set.npz", **dict(zip(names, (PIXELS, LABELS), strict=True)))
    manifest, pixels = write(tmp_path, source, split="train" if "_" in names[0] else None)
    assert np.array_equal(pixels, PIXELS)
    assert (manifest.classes, manifest.counts, manifest.dataset) == (("0", "1", "2"), (2, 2, 2), "set")
    assert manifest.ids[3] == f"{names[0]}:3"
    assert manifest.made["class_names"] == "numbers"
    assert (manifest.converted, manifest.made["encoding"]) == ({}, "keep")


def test_one_file_with_splits_as_in_medmnist(tmp_path):
    arrays = {
        "train_images": PIXELS,
        "train_labels": LABELS[:, None],
        "val_images": PIXELS[:3],
        "val_labels": LABELS[:3],
    }
    source = savez(tmp_path / "med.npz", **arrays)
    assert len(write(tmp_path, source, split="validation")[1]) == 3
    refused(tmp_path, source, "has the splits train, val; choose one with --split")
    refused(tmp_path, source, "has no split 'test'; it has train, val", split="test")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_layouts_and_scales_give_the_same_pixels(tmp_path, compressed, grey):
    pixels = np.repeat(PIXELS[..., :1], 3, axis=3) if grey else PIXELS
    chosen = pixels[..., :1] if grey else pixels
    first = chosen.transpose(0, 3, 1, 2)
    forms = [chosen, first, chosen / 255, (first / 255).astype(np.float32), *([chosen[..., 0]] if grey else [])]
    for number, images in enumerate(forms):
        path = tmp_path / f"{number}.npz"
        (np.savez_compressed if compressed else np.savez)(path, images=np.ascontiguousarray(images), labels=LABELS)
        assert np.array_equal(write(tmp_path, path)[1], pixels)


def test_a_standardisation_is_undone_to_the_same_bytes(tmp_path, capsys):
    source = savez(tmp_path / "set.npz", images=standardised(), labels=LABELS)
    manifest, pixels = write(tmp_path, source, mean=MEAN, std=STD)
    assert np.array_equal(pixels, PIXELS)
    assert (manifest.made["mean"], manifest.made["std"], manifest.made["clipped"]) == ([*MEAN], [*STD], 0)
    assert "outside" not in capsys.readouterr().err


def test_values_that_leave_the_range_are_clipped_and_counted(tmp_path, capsys):
    images = standardised()
    images[0, 0, :2, :3] = 9
    images[1, 2, 0, 0] = -9
    manifest, pixels = write(tmp_path, savez(tmp_path / "set.npz", images=images, labels=LABELS), mean=MEAN, std=STD)
    assert manifest.made["clipped"] == 7
    assert (pixels[0][:2, :3, 0] == 255).all()
    assert pixels[1][0, 0, 2] == 0
    assert "7 of 3,456 values (0.20%) are outside 0..255 after --mean and --std; clipped" in capsys.readouterr().err


def test_the_standardisation_of_another_set_is_a_warning(tmp_path, capsys):
    source = savez(tmp_path / "set.npz", images=standardised(), labels=LABELS)
    manifest, _ = write(tmp_path, source, mean=[0.5], std=[0.26])
    assert manifest.made["clipped"] > 0.03 * PIXELS.size
    words = (
        r"^warning: .* after --mean and --std; clipped; these are most likely not the mean and deviation of the file"
    )
    assert re.search(words, capsys.readouterr().err)


def test_levels_as_floats_are_read_as_the_message_advises(tmp_path):
    source = savez(tmp_path / "set.npz", images=PIXELS.astype(np.float32), labels=LABELS)
    assert np.array_equal(write(tmp_path, source, mean=[0], std=[0.0039215686])[1], PIXELS)


def test_one_mean_serves_all_channels(tmp_path):
    source = savez(tmp_path / "set.npz", images=((PIXELS / 255 - 0.5) / 0.5).astype(np.float32), labels=LABELS)
    assert np.array_equal(write(tmp_path, source, mean=[0.5], std=[0.5])[1], PIXELS)


def test_class_names_of_the_file_and_of_the_option(tmp_path, capsys):
    source = savez(tmp_path / "set.npz", images=PIXELS, labels=LABELS, classes=np.array(["ant", "bee", "cow"]))
    assert write(tmp_path, source)[0].classes == ("ant", "bee", "cow")
    names = tmp_path / "names.txt"
    names.write_text("cow\nant\nbee\n")
    manifest, _ = write(tmp_path, source, classes=names)
    assert (manifest.classes, manifest.counts) == (("cow", "ant", "bee"), (2, 2, 2))
    with BetonFile(tmp_path / "out.beton") as beton:
        assert beton.labels.tolist() == [0, 1, 2, 2, 1, 0]
    names.write_text("a\nb\nc\n")
    assert write(tmp_path, source, classes=names)[0].made["class_names"] == "given, by position"
    assert "'ant' becomes 'a', and so on" in capsys.readouterr().err
    names.write_text("ant\nb\nc\n")
    refused(tmp_path, source, "--classes repeats only some of the source's names, such as 'ant'", classes=names)


def test_exact_one_hot_rows_are_classes_and_soft_ones_are_refused(tmp_path):
    hard = np.eye(3, dtype=np.float32)[LABELS]
    assert write(tmp_path, savez(tmp_path / "hard.npz", x=PIXELS, y=hard))[0].counts == (2, 2, 2)
    hard[2, 0] = 1e-3
    refused(tmp_path, savez(tmp_path / "soft.npz", x=PIXELS, y=hard), "has soft labels of 3 classes, which a beton")


def test_labels_outside_the_given_classes_can_be_left_out(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("ant\nbee\n")
    source = savez(tmp_path / "set.npz", images=PIXELS, labels=LABELS)
    refused(tmp_path, source, r"set.npz/images:0: label 2, expected 0\.\.1; correct or remove it", classes=names)
    manifest, pixels = write(tmp_path, source, classes=names, on_error="skip")
    assert np.array_equal(pixels, PIXELS[LABELS < 2])
    assert [skipped.path for skipped in manifest.skipped] == ["images:0", "images:5"]


def test_nan_values_can_be_left_out(tmp_path):
    images = PIXELS / 255
    images[4, 0, 0, 0] = np.nan
    source = savez(tmp_path / "set.npz", images=images, labels=LABELS)
    refused(tmp_path, source, "images:4: has values that are NaN or infinite")
    assert np.array_equal(write(tmp_path, source, on_error="skip")[1], np.delete(PIXELS, 4, axis=0))


@pytest.mark.parametrize(
    ("images", "labels", "options", "words"),
    [
        (PIXELS * 1.0, LABELS, {}, r"images: row 0 has values of .* to .*, expected 0 to 1; .*give --mean and --std"),
        (PIXELS * 1.0, LABELS, {}, "levels of 0 to 255 take --mean 0 --std 0.0039215686 "),
        (standardised(), LABELS, {}, "expected 0 to 1; if the images are standardised, give --mean and --std"),
        (standardised(), LABELS, {"mean": MEAN}, "--mean needs --std beside it"),
        (standardised(), LABELS, {"mean": MEAN, "std": (0.2, 0.2)}, "--std has 2 values, but the images have 3"),
        (standardised(), LABELS, {"mean": (125.3,), "std": (63.0,)}, "--mean 125.3, expected values for pixels"),
        (standardised(), LABELS, {"mean": (0.5,), "std": (0.0,)}, "--std 0.0, expected values"),
        (PIXELS, LABELS, {"mean": MEAN, "std": STD}, "is uint8, which --mean and --std do not change"),
        (PIXELS.astype(np.int64), LABELS, {}, "has the type int64, expected uint8, or floats"),
        (PIXELS.reshape(6, -1), LABELS, {}, r"has the shape \[6, 576\], expected .*; reshape it"),
        (PIXELS[..., [0, 1, 2, 2]], LABELS, {}, "without an axis of 1 or 3 channels"),
        (PIXELS[:, :3], LABELS, {}, "channels may come first or last"),
        (PIXELS[:0], LABELS[:0], {}, r"has the shape \[0, 12, 16, 3\], so there are no images"),
        (PIXELS, LABELS[:5], {}, "5 labels of 6 images, expected one label per image"),
        (PIXELS, LABELS / 2, {}, r"is float64 \[6\], expected integers"),
        (PIXELS, LABELS - 5, {}, "no row with a usable label; the first"),
        (PIXELS, LABELS + 5000, {}, "label 5002 in 6 rows, expected less than 1,000; name the classes"),
        (PIXELS, LABELS.astype(object), {}, "holds pickled objects, which could run code"),
        (np.asfortranarray(PIXELS), LABELS, {}, "is in Fortran's order; save numpy.ascontiguousarray"),
        (PIXELS, LABELS, {"split": "train"}, "name no splits, but 'train' was requested; omit --split"),
    ],
)  # fmt: skip
def test_unusable_arrays(tmp_path, images, labels, options, words):
    refused(tmp_path, savez(tmp_path / "set.npz", images=images, labels=labels), words, **options)


def test_missing_and_duplicate_arrays_are_named(tmp_path):
    refused(tmp_path, savez(tmp_path / "a.npz", images=PIXELS), "has no array of labels, such as labels .* has images")
    refused(tmp_path, savez(tmp_path / "b.npz", weights=PIXELS), "has no array of images, .*; it has weights")
    refused(tmp_path, savez(tmp_path / "c.npz", x=PIXELS, images=PIXELS, y=LABELS), "images and x mean the same")


def test_options_of_arrays_are_refused_for_folders(tmp_path, folder):
    refused(tmp_path, folder, "--mean has no effect on a source of kind folder", mean=MEAN)


def npz_with(path, header, data=b"", kind=zipfile.ZIP_STORED):
    """Write an archive with this header and data for its array of images."""
    text = header.encode() + b"\n"
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data)
        buffer = io.BytesIO()
        np.save(buffer, LABELS)
        archive.writestr("labels.npy", buffer.getvalue())
    return path


def test_a_header_that_claims_ten_gigabytes_is_refused_unread(tmp_path):
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (10000, 1000, 334, 3), }"
    source = npz_with(tmp_path / "big.npz", header, b"\0" * 99)
    tracemalloc.start()
    refused(tmp_path, source, r"header states .*10,020,000,000 bytes, but 99 follow")
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "header", ["{'descr': '|O', 'fortran_order': False, 'shape': (6,), }", "{'shape': (6,), }", "__import__('os')", "("]
)
def test_wrong_headers(tmp_path, header):
    words = "holds pickled objects" if "|O" in header else "images: has no readable header"
    refused(tmp_path, npz_with(tmp_path / "odd.npz", header), words)


def test_memory_stays_flat_for_a_compressed_archive(tmp_path):
    rows = 300  # 59 MB
    source = tmp_path / "wide.npz"
    np.savez_compressed(source, images=np.zeros((rows, 256, 256, 3), np.uint8), labels=np.arange(rows) % 3)
    tracemalloc.start()
    write_beton(source, tmp_path / "out.beton", workers=1, resolution=8)
    assert tracemalloc.get_traced_memory()[1] < 40 << 20
    tracemalloc.stop()


def test_cut_files_are_named(tmp_path):
    for source in (
        savez(tmp_path / "set.npz", images=PIXELS, labels=LABELS),
        save(tmp_path / "set.pt", {"images": torch.tensor(PIXELS), "labels": torch.tensor(LABELS)}),
        save(tmp_path / "old.pt", (torch.tensor(PIXELS), torch.tensor(LABELS)), _use_new_zipfile_serialization=False),
    ):
        os.truncate(source, source.stat().st_size // 2)
        refused(tmp_path, source, "is not a whole .*; get it again|states .* bytes of tensors, but has")


def test_a_damaged_row_of_an_archive(tmp_path):
    path = tmp_path / "set.npz"
    np.savez_compressed(path, images=np.random.default_rng(0).integers(0, 256, (6, 99, 99, 3), np.uint8), labels=LABELS)
    content = bytearray(path.read_bytes())
    content[90_000:90_040] = bytes(40)
    path.write_bytes(content)
    refused(tmp_path, path, "images: damaged at row .*; get the file again")


# Files of torch.save


def forms():
    images, labels = torch.tensor(standardised()), torch.tensor(LABELS)
    accuracies = {"ConvNet": [np.float64(0.5), np.float64(0.25)]}
    return {
        "dict": {"images": images, "labels": labels, "epoch": 3},
        "tuple": (images, labels),
        "parameters": {"x": torch.nn.Parameter(images), "y": labels},
        "arrays": {"images": standardised(), "labels": LABELS, "accuracy": np.float32(0.5)},
        "big-endian": (standardised().astype(">f4"), LABELS.astype(">i2")),
        "columns": {"x": np.asfortranarray(standardised()), "y": LABELS.astype(np.uint16)},
        "listed": {"images": images, "labels": LABELS.tolist()},
        "listed tuple": (images, tuple(LABELS.tolist())),
        "array and list": {"data": [[standardised(), LABELS.tolist()]]},
        "one-hot": [images, torch.eye(3)[labels]],
        "dc": {"data": [[images, labels]], "accs_all_exps": accuracies},
        "experiments": {"data": [[images, labels], [images.flip(0), labels.flip(0)]], "accs_all_exps": accuracies},
    }


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", list(forms()))
def test_files_of_torch(tmp_path, name, zipped):
    source = save(tmp_path / "res.pt", forms()[name], _use_new_zipfile_serialization=zipped)
    manifest, pixels = write(tmp_path, source, mean=MEAN, std=STD)
    assert np.array_equal(pixels, PIXELS)
    assert manifest.counts == (2, 2, 2)
    assert (manifest.dataset, manifest.split) == ("res", None)


def test_a_standardisation_that_clips_most_values_is_refused(tmp_path):
    source = savez(tmp_path / "set.npz", images=standardised() * 9, labels=LABELS)
    words = "values .* are outside 0..255 after --mean and --std; these are most likely not the mean and deviation"
    refused(tmp_path, source, words, mean=MEAN, std=STD)


@pytest.mark.parametrize("name", ["kept.npy", "kept.pickle"])
def test_a_list_in_place_of_images_names_the_command_for_it(tmp_path, name):
    np.save(tmp_path / "kept.npy", LABELS)
    (tmp_path / "kept.pickle").write_bytes(pickle.dumps({"coreset": LABELS}))
    refused(tmp_path, tmp_path / name, "another layout of fastdc list sources; .* fastdc compress from-list")


def test_an_experiment_is_chosen_by_its_number(tmp_path, capsys):
    source = save(tmp_path / "res.pt", forms()["experiments"])
    manifest, pixels = write(tmp_path, source, mean=MEAN, std=STD, split="1")
    assert np.array_equal(pixels, PIXELS[::-1])
    assert (manifest.made["experiment"], manifest.split) == (1, None)
    assert capsys.readouterr().err == ""
    write(tmp_path, source, mean=MEAN, std=STD)
    assert "holds 2 sets, one for each experiment; reading the first" in capsys.readouterr().err
    refused(tmp_path, source, "has no set '2'; it holds one for each experiment: --split 0 to 1", split="2")


def test_labels_beside_images_may_be_a_list_or_an_array(tmp_path):
    save(tmp_path / "images_best.pt", standardised())
    for labels in (LABELS, LABELS.tolist()):
        save(tmp_path / "labels_best.pt", labels)
        assert np.array_equal(write(tmp_path, tmp_path / "images_best.pt", mean=MEAN, std=STD)[1], PIXELS)


def test_images_best_and_labels_best_as_mtt_saves_them(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name, step in (("0", PIXELS[::-1]), ("best", PIXELS)):
        save(folder / f"images_{name}.pt", torch.tensor(standardised(step)))
        save(folder / f"labels_{name}.pt", torch.tensor(LABELS))
    for source, expected in ((folder, PIXELS), (folder / "images_0.pt", PIXELS[::-1])):
        manifest, pixels = write(tmp_path, source, mean=MEAN, std=STD)
        assert np.array_equal(pixels, expected)
        assert manifest.ids[0] == ("images_best:0" if source == folder else "images_0:0")
    (folder / "images_best.pt").rename(folder / "images_500.pt")
    (folder / "labels_best.pt").rename(folder / "labels_500.pt")
    refused(tmp_path, folder, "has 2 pairs of images and labels .images_0.pt, images_500.pt.; give one")
    (folder / "labels_0.pt").unlink()
    refused(tmp_path, folder / "images_0.pt", r"holds one tensor, \[6, 3, 12, 16\], without labels; put them beside it")


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_not_run(tmp_path, monkeypatch, zipped):
    monkeypatch.chdir(tmp_path)
    source = save(tmp_path / "evil.pt", [Evil(), Evil()], _use_new_zipfile_serialization=zipped)
    refused(tmp_path, source, r"evil.pt: holds (posix|nt).system, which is code or an object beside tensors")
    assert not (tmp_path / "pwned").exists()


def test_expanded_tensors(tmp_path):
    one = torch.zeros(1, dtype=torch.uint8)
    source = save(tmp_path / "wide.pt", {"x": one.expand(10**6, 3, 64, 64), "y": torch.tensor(LABELS)})
    refused(tmp_path, source, "takes 12,288,000,000 bytes, but the file has .*; save tensor.contiguous")


def test_an_old_file_that_claims_ten_gigabytes_is_refused_unread(tmp_path):
    source = save(
        tmp_path / "old.pt", (torch.zeros(70_000), torch.tensor(LABELS)), _use_new_zipfile_serialization=False
    )
    content = source.read_bytes()
    stated = b"J" + struct.pack("<i", 70_000)
    assert content.count(stated) == 2  # the storage's length, and the shape
    source.write_bytes(content.replace(stated, b"J" + struct.pack("<i", 2_000_000_000), 1))
    refused(tmp_path, source, "states 2,000,000,000 bytes of tensors, but has .* in all")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"conv.weight": torch.zeros(2), "conv.bias": torch.zeros(2)},
            "no array of images, .*; it has conv.bias, conv",
        ),
        ({"images": torch.zeros(2, 3, 4, 5).to_sparse(), "labels": torch.zeros(2).long()}, "is sparse or quantised"),
        (
            [1, 2, 3],
            "holds a list of int, int, int, expected images and labels: a dictionary of two tensors",
        ),
        ({"images": torch.tensor(1.0), "labels": torch.zeros(1).long()}, r"images: has the shape \[\], expected"),
        (torch.arange(9), r"holds one tensor, \[9\], without labels; .* fastdc compress from-list or from-scores"),
        (np.arange(9), r"holds one tensor, \[9\], without labels"),
        ({"subset": {"indices": np.arange(3)}, "exp": 0}, "it has no arrays; a list of kept images .* from-list"),
        ((torch.zeros(2, 3, 4, 5), ["cat", "dog"]), "holds a tuple of Tensor, list, expected images and labels"),
        ((torch.zeros(2, 3, 4, 5), [0, 1, 1]), "labels: 3 labels of 2 images"),
        ((torch.zeros(2, 3, 4, 5), [0, 10**30]), r"labels: is object \[2\], expected integers"),
        ({"images": np.array([{}], object), "labels": [0]}, "holds an array of objects|holds values of type O8"),
        ({"images": standardised(), "labels": LABELS, "names": np.array(["ant"])}, "holds values of type U3"),
    ],
)
def test_unusable_torch_files(tmp_path, content, words):
    refused(tmp_path, save(tmp_path / "set.pt", content), words)


def test_class_names_in_two_spellings_are_one(tmp_path):
    source = savez(tmp_path / "set.npz", images=PIXELS, labels=LABELS % 2, classes=np.array(["cafe\u0301", "dog"]))
    (tmp_path / "names.txt").write_text("dog\ncaf\u00e9\n")
    manifest, _ = write(tmp_path, source, classes=tmp_path / "names.txt")
    assert (manifest.classes, manifest.made["class_names"]) == (("dog", "caf\u00e9"), "given")
    assert manifest.counts == (2, 4)


def test_a_header_that_claims_four_gigabytes_is_refused_unread(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\2\0\xff\xff\xff\xff")
        archive.writestr("labels.npy", b"")
    refused(tmp_path, tmp_path / "set.npz", "version 2.0 of .npy, expected 1.0")


def test_an_old_file_without_tensor_values_is_damaged(tmp_path):
    source = save(tmp_path / "old.pt", {"images": torch.tensor(PIXELS)}, _use_new_zipfile_serialization=False)
    content = source.read_bytes()
    key = re.findall(rb"\d{10,20}", content)[0]
    source.write_bytes(content.replace(key, key[:-1] + b"x", 1))
    refused(tmp_path, source, "is not a whole file of torch.save .*not found.*; get it again")
    source.write_bytes(content[:-1])
    refused(tmp_path, source, "is not a whole file of torch.save .*; get it again")
