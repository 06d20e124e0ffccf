"""Every layout, read by other programs and by fastdc again: each row of the table in docs/guides/export.md."""

import io
import json
import re
import shlex
import tarfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml
from PIL import Image

import fastdc
from fastdc.beton import BetonFile, load_manifest, verify_beton, write_beton
from fastdc.beton.export.export_images import export_images, layouts
from fastdc.beton.export.folder_names import folder_names
from fastdc.beton.export.layouts import as_hf, as_webdataset
from fastdc.common.choices import LayoutName
from fastdc.common.errors import OutputError
from tests.beton.export.conftest import CLASSES, SIDE, samples, write_set

PAGE = Path(__file__).parents[3] / "docs" / "guides" / "export.md"
ROWS = re.findall(r"^\| `(\w+)` \|.*\| (.+) \|$", PAGE.read_text(), re.MULTILINE)


def out_of(tmp_path: Path, layout: str) -> Path:
    return tmp_path / f"out{layouts().get(layout).suffix or ''}"


def pixels_of(path: Path) -> list[np.ndarray]:
    with BetonFile(path) as file:
        return [file.decode(index) for index in range(len(file))]


def test_the_page_lists_every_layout() -> None:
    assert [layout for layout, _ in ROWS] == list(get_args(LayoutName))
    assert sorted(layouts().parts) == sorted(get_args(LayoutName))


@pytest.mark.parametrize(("layout", "back"), ROWS, ids=[layout for layout, _ in ROWS])
def test_a_set_comes_back_as_documented(odd_set: Path, tmp_path: Path, layout: str, back: str) -> None:
    out, again = out_of(tmp_path, layout), tmp_path / "again.beton"
    export_images(odd_set, out, layout)
    write_beton(out, again)
    old, new = load_manifest(odd_set), load_manifest(again)
    assert new.hints == old.hints == {"tile_grid": 2, "tile_scale": [0.25, 1.0]}
    assert (new.classes, new.ids, new.dataset, new.order) == (CLASSES, old.ids, "odd", old.order)
    assert verify_beton(again, deep=True) == []
    if back == "byte for byte":
        assert again.read_bytes() == odd_set.read_bytes()
        assert again.with_suffix(".json").read_bytes() == odd_set.with_suffix(".json").read_bytes()
    else:
        assert back == "pixel for pixel, as raw images"
        assert all(map(np.array_equal, pixels_of(odd_set), pixels_of(again)))
        assert new.made == {**old.made, "decoded_from": old.content_hash}


def test_equal_sets_give_equal_exports(odd_set: Path, tmp_path: Path) -> None:
    for layout in get_args(LayoutName):
        out = out_of(tmp_path, layout)
        written = []
        for _ in range(2):
            export_images(odd_set, out, layout, force=True)
            files = [out] if out.is_file() else sorted(path for path in out.rglob("*") if path.is_file())
            written.append([(path.relative_to(tmp_path), path.read_bytes()) for path in files])
        assert written[0] == written[1]


def test_imagefolder_reads_a_folder(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    classes = ("ant", "bee", "cow", "dog", "elk", "fox")
    manifest = write_set(tmp_path / "x.beton", classes)
    made = export_images(tmp_path / "x.beton", tmp_path / "out", "folder")
    assert made.notes == []
    assert made.files == 19
    read = ImageFolder(tmp_path / "out")
    with BetonFile(tmp_path / "x.beton") as file:
        order = np.argsort(file.labels, kind="stable")
        assert tuple(read.classes) == manifest.classes
        assert [label for _, label in read.samples] == file.labels[order].tolist()
        for (path, _), index in zip(read.samples, order.tolist(), strict=True):
            data = Path(path).read_bytes()
            if file.modes[index] == 0:
                assert data == bytes(file.payload(index))
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), file.decode(index))


def test_differences_from_imagefolder_are_noted(odd_set: Path, tmp_path: Path) -> None:
    made = export_images(odd_set, tmp_path / "out", "folder")
    assert made.notes == [
        "5 classes have folders of other names, which all file systems take: 'a/b' is 'a%2Fb'",
        "ImageFolder sorts class folders, so its label numbers differ from the beton's",
    ]


def test_a_class_without_images_keeps_its_folder_and_comes_back(tmp_path: Path) -> None:
    write_set(tmp_path / "x.beton", (*CLASSES, "none"))
    made = export_images(tmp_path / "x.beton", tmp_path / "out", "folder")
    assert made.notes[-1] == "1 class folders are empty, such as none: ImageFolder needs allow_empty=True"
    assert write_beton(tmp_path / "out", tmp_path / "y.beton").counts[-1] == 0
    with pytest.raises(OutputError, match="class 'none' has no images, which rethinkdc refuses; use --as folder"):
        export_images(tmp_path / "x.beton", tmp_path / "theirs", "rethinkdc")
    assert not (tmp_path / "theirs").exists()


def test_shards_of_the_hub(odd_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    monkeypatch.setattr(as_hf, "SHARD_BYTES", 5000)
    out = tmp_path / "out"
    export_images(odd_set, out, "hf", references=["@misc{mine,\n}"])
    shards = sorted((out / "data").iterdir())
    assert [path.name for path in shards] == [f"train-{n:05d}-of-{len(shards):05d}.parquet" for n in range(len(shards))]
    assert len(shards) > 2
    rows = [row for path in shards for row in parquet.read_table(path).to_pylist()]
    with BetonFile(odd_set) as file:
        assert [row["label"] for row in rows] == file.labels.tolist()
        assert rows[1]["image"] == {"bytes": bytes(file.payload(1)), "path": "0001.jpg"}
    assert rows[0]["image"]["path"] == "0000.png"
    info = json.loads(parquet.read_schema(shards[0]).metadata[b"huggingface"])["info"]["features"]
    assert info == {"image": {"_type": "Image"}, "label": {"names": list(CLASSES), "_type": "ClassLabel"}}
    again = write_beton(out, tmp_path / "again.beton", split="train")
    assert again.content_hash == load_manifest(odd_set).content_hash


def test_dataset_card(odd_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "pca3"
    export_images(odd_set, out, "hf", references=["@misc{mine,\n}"])
    _, header, body = (out / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(header)
    assert card["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}]
    label = card["dataset_info"]["features"][1]["dtype"]["class_label"]["names"]
    assert list(label.values()) == list(CLASSES)
    assert card["dataset_info"]["splits"][0]["num_examples"] == 18
    assert card["dataset_info"]["download_size"] == next((out / "data").iterdir()).stat().st_size
    assert card["size_categories"] == ["n<1K"]
    for line in (
        "# pca3",
        "18 images of odd, 6 classes, 3 images per class",
        "| method | pca |",
        "| images per class | 3 |",
        "| training hints | tile_grid=2, tile_scale=[0.25, 1.0] |",
        f"| content hash | {load_manifest(odd_set).content_hash} |",
        f"| exported with | fastdc {fastdc.__version__} |",
        "The images keep the licence of their source (odd).",
        "@misc{mine,\n}\n\n@software{fastdc,",
    ):
        assert line in body


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a", "look alike, such as 'a'"),
        (" a", "look alike, such as ' a'"),
        ("e\u0301", "look alike, such as 'e\u0301'"),
        (" ", "some class names are blank or span several lines, such as ' '"),
        ("x\ny", "some class names are blank or span several lines, such as 'x"),
    ],
)
def test_names_that_a_list_cannot_hold_need_class_folders(tmp_path: Path, name: str, message: str) -> None:
    write_set(tmp_path / "x.beton", ("a", "b", "c", "\u00e9", "d", name))
    for layout in ("hf", "webdataset", "npz"):
        with pytest.raises(OutputError, match=re.escape(message)):
            export_images(tmp_path / "x.beton", out_of(tmp_path, layout), layout)
    export_images(tmp_path / "x.beton", tmp_path / "out", "folder")
    assert write_beton(tmp_path / "out", tmp_path / "y.beton") == load_manifest(tmp_path / "x.beton")


def test_tars(odd_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_webdataset, "SHARD_BYTES", 5000)
    out = tmp_path / "v1.0"
    export_images(odd_set, out, "webdataset")
    shards = sorted(out.glob("*.tar"))
    assert [path.name for path in shards] == [f"v1_0-{number:06d}.tar" for number in range(len(shards))]
    members = []
    for path in shards:
        with tarfile.open(path) as archive:
            members += [(member.name, archive.extractfile(member).read()) for member in archive]
    with BetonFile(odd_set) as file:
        assert [int(data) for name, data in members if name.endswith(".cls")] == file.labels.tolist()
        assert members[2] == ("0001.jpg", bytes(file.payload(1)))
    assert (out / "classes.txt").read_text().splitlines() == list(CLASSES)


def test_arrays(odd_set: Path, tmp_path: Path) -> None:
    made = export_images(odd_set, tmp_path / "x.npz", "npz")
    assert made.notes == ["12 JPEGs are decoded to pixels: the set comes back as raw images"]
    with np.load(tmp_path / "x.npz") as arrays, BetonFile(odd_set) as file:
        assert arrays["images"].shape == (18, *SIDE, 3)
        assert all(map(np.array_equal, arrays["images"], pixels_of(odd_set)))
        assert arrays["labels"].dtype == np.int64
        assert arrays["labels"].tolist() == file.labels.tolist()
        assert arrays["classes"].tolist() == list(CLASSES)
        assert json.loads(arrays["fastdc.json"])["layout"] == "npz"


def test_arrays_of_raw_images_keep_the_manifest(tmp_path: Path) -> None:
    manifest = write_set(tmp_path / "x.beton", images=samples(raw_every=1))
    assert export_images(tmp_path / "x.beton", tmp_path / "x.npz", "npz").notes == []
    with np.load(tmp_path / "x.npz") as arrays:
        assert json.loads(arrays["fastdc.json"])["manifest"]["content_hash"] == manifest.content_hash


def test_arrays_need_one_size(folder: Path, tmp_path: Path, make_picture, to_file) -> None:  # type: ignore[no-untyped-def]
    (folder / "class_0" / "9.jpg").write_bytes(to_file(make_picture(30, 20, 1)))
    write_beton(folder, tmp_path / "x.beton")
    with pytest.raises(OutputError, match="images of 2 sizes, such as 30 x 20 and 40 x 56; an array holds one"):
        export_images(tmp_path / "x.beton", tmp_path / "x.npz", "npz")
    assert not list(tmp_path.glob("*.npz"))


def test_rethinkdc_finds_only_classes_and_the_command_names_them_all(tmp_path: Path) -> None:
    write_set(tmp_path / "x.beton", CLASSES, images=[*samples(), *samples(count=1)])
    out = tmp_path / "their set"
    notes = export_images(tmp_path / "x.beton", out, "rethinkdc").notes
    assert {path.name for path in (out / "train").iterdir()} == set(folder_names(CLASSES))
    command = shlex.split(next(line for line in notes if "rethinkdc" in line and "--hard" in line))
    assert command[:2] == ["WANDB_MODE=offline", "IMAGENET_VAL_DIR=VAL"]
    assert Path(command[3]).resolve() == out / "train"
    assert command[4:] == ["--hard", "--model", "resnet18", "--ipc", "4", "--output-dir", "their set_hard"]
    most = max(len(list(path.iterdir())) for path in (out / "train").iterdir())
    assert most == 4
    assert any("tile_grid=2" in line and "is lost there" in line for line in notes)


def test_rethinkdc_would_read_such_a_path_as_a_name_on_the_hub(odd_set: Path, tmp_path: Path) -> None:
    notes = export_images(odd_set, tmp_path / "he-yang", "rethinkdc").notes
    assert any("takes a path with 'he-y' in it for a set of the hub" in line for line in notes)


def test_rethinkdc_reads_it(odd_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ipc = pytest.importorskip("rethinkdc.imagenet_ipc")
    own = ipc.make_dataset

    def reads(directory, class_to_idx, allow_empty=False, **kinds):
        """Drop the argument that torchvision passes from 0.18 on and rethinkdc 0.3.2 does not accept."""
        return own(directory, class_to_idx, image_number=3, **kinds)

    monkeypatch.setattr(ipc.ImageFolderIPC, "make_dataset", staticmethod(reads))
    export_images(odd_set, tmp_path / "out", "rethinkdc")
    read = ipc.ImageFolderIPC(str(tmp_path / "out" / "train"), image_number=3)
    assert len(read) == 18
    assert sorted(read.classes) == sorted(folder_names(CLASSES))


def test_large_raw_pixels_stay_raw(tmp_path: Path) -> None:
    """`write-beton` stores other pixels above 4 MiB as JPEG."""
    from fastdc.beton import Sample

    pixels = np.zeros((1200, 1200, 3), np.uint8)
    manifest = write_set(tmp_path / "x.beton", ("a",), images=[Sample(pixels, 0, "a/0")])
    export_images(tmp_path / "x.beton", tmp_path / "out", "folder")
    assert write_beton(tmp_path / "out", tmp_path / "y.beton") == manifest


@pytest.mark.parametrize("layout", ["folder", "webdataset", "npz", "hf"])
def test_memory_does_not_grow_with_the_images(tmp_path: Path, layout: str) -> None:
    import tracemalloc

    from fastdc.beton import Sample

    jpeg = samples(raw_every=0, count=1)
    data = next(jpeg).image + bytes(200_000)
    images = (Sample(data if layout != "npz" else np.zeros((256, 256, 3), np.uint8), 0, "x") for _ in range(400))
    write_set(tmp_path / "x.beton", ("a",), images=images)
    tracemalloc.start()
    try:
        export_images(tmp_path / "x.beton", out_of(tmp_path, layout), layout)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6  # of 80 MB


@pytest.mark.parametrize("name", ["train-tars", "val_wds", "test"])
def test_tars_with_a_split_in_their_name_come_back(odd_set: Path, tmp_path: Path, name: str) -> None:
    export_images(odd_set, tmp_path / name, "webdataset")
    assert write_beton(tmp_path / name, tmp_path / "y.beton") == load_manifest(odd_set)


@pytest.mark.parametrize("split", ["train_small", "fold3", "Val", "test-2"])
def test_shards_of_any_split_come_back(tmp_path: Path, split: str) -> None:
    made = write_set(tmp_path / "x.beton", split=split)
    export_images(tmp_path / "x.beton", tmp_path / "out", "hf")
    assert write_beton(tmp_path / "out", tmp_path / "y.beton") == made
