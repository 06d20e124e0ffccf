"""The order of samples is that of torchvision's ImageFolder, or the manifest records that it differs."""

import os
import subprocess
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from fastdc.beton import load_manifest, write_beton
from fastdc.beton.sample_order import IMAGEFOLDER_SUFFIXES, is_imagefolder_order
from fastdc.beton.sources.archives import open_tree
from fastdc.beton.sources.class_folders import Contents, list_contents
from fastdc.common.errors import SourceError

TREES = {
    "flat": ("b/2.png", "b/10.JPEG", "a/x.jpg", "a/X.jpg", "a/notes.txt", "a/.DS_Store"),
    "folders below a class": ("a/z.jpg", "a/a/1.jpg", "a/a/z/1.jpg", "a/a-b/1.jpg", "a/a.jpg", "b/1.jpg", "b/0/2.jpg"),
    "a class whose name begins another's": ("a/x/1.jpg", "a-b/1.jpg", "a-b/x/1.jpg", "b/1.jpg"),
    "only folders below a class": ("a/images/2.jpg", "a/images/10.jpg", "b/images/1.jpg"),
    "unicode": ("é/ü.jpg", "é/z.jpg", "é/\U0001f600.jpg", "é/ﬀ.jpg", "zebra/Å/1.jpg", "zebra/Z.jpg", "日本/1.jpg"),
    "not UTF-8": (os.fsdecode(b"a/\xff.jpg"), "a/\xfe.jpg", "a/z.jpg", os.fsdecode(b"b/\xe9/1.jpg"), "b/2.jpg"),
    "all its suffixes": tuple(f"a/x{suffix}" for suffix in (*IMG_EXTENSIONS, ".TIF", ".tar.jpg")),
}
OTHER_TREES = {
    "gif": ("a/1.jpg", "a/2.gif", "b/1.jpg"),
    "jfif": ("a/1.jfif", "a/2.jpg", "b/x/1.jpg", "b/2.jpg"),
    "hidden file": ("a/1.jpg", "a/._1.jpg", "b/1.jpg"),
    "hidden folder in a class": ("a/1.jpg", "a/.cache/1.jpg", "b/1.jpg"),
    "litter": ("a/1.jpg", "a/__MACOSX/x.jpg", "b/1.jpg"),
    "hidden class": ("a/1.jpg", "b/1.jpg", ".trash/1.jpg"),
}


def build(root: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def contents_of(source: Path) -> Contents:
    with closing(open_tree(source)) as tree:
        return list_contents(tree, source, None)


def imagefolder(root: Path) -> list[tuple[str, int]]:
    return [(os.path.relpath(path, root), label) for path, label in ImageFolder(os.fspath(root)).samples]


def packed(source: Path, out: Path) -> Path:
    with tarfile.open(out, "w:gz" if out.suffix == ".gz" else "w") as archive:
        archive.add(source, "data")
    return out


def zipped(source: Path, out: Path) -> Path:
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(source.rglob("*"), reverse=True):
            archive.write(name, f"data/{name.relative_to(source)}")
    return out


def test_the_suffixes_are_torchvisions() -> None:
    assert IMAGEFOLDER_SUFFIXES == IMG_EXTENSIONS


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz", "zip"])
@pytest.mark.parametrize("name", [*TREES])
def test_the_order_is_imagefolders(tmp_path: Path, name: str, kind: str) -> None:
    if name == "not UTF-8" and kind == "zip":
        pytest.skip("a zip's names are text")
    folder = build(tmp_path / "images", TREES[name])
    source = {"folder": lambda: folder, "zip": lambda: zipped(folder, tmp_path / "x.zip")}.get(
        kind, lambda: packed(folder, tmp_path / f"x.{kind}")
    )()
    found = contents_of(source)
    assert list(zip(found.ids, found.labels.tolist(), strict=True)) == imagefolder(folder)
    assert found.order == "imagefolder"
    assert is_imagefolder_order(list(found.ids))


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
@pytest.mark.parametrize("name", [*OTHER_TREES])
def test_images_that_imagefolder_ignores_make_another_order(tmp_path: Path, name: str, kind: str) -> None:
    folder = build(tmp_path / "images", OTHER_TREES[name])
    source = {"folder": lambda: folder, "tar": lambda: packed(folder, tmp_path / "x.tar")}.get(
        kind, lambda: zipped(folder, tmp_path / "x.zip")
    )()
    found = contents_of(source)
    assert list(found.ids) != [path for path, _ in imagefolder(folder)]
    assert found.order == "own"


def test_files_that_imagefolder_ignores_too_change_nothing(tmp_path: Path) -> None:
    folder = build(tmp_path / "images", ("a/1.jpg", "b/1.jpg", ".x.jpg", "a/.cache/notes.txt", "__MACOSX.txt"))
    found = contents_of(folder)
    assert (list(found.ids), found.order) == (["a/1.jpg", "b/1.jpg"], "imagefolder")


def test_links_to_files_and_classes_are_followed_but_not_inside_a_class(tmp_path: Path) -> None:
    folder = build(tmp_path / "images", ("b/1.jpg",))
    elsewhere = build(tmp_path / "elsewhere", ("y/2.jpg", "y/10.jpg", "z.jpg"))
    os.symlink(elsewhere / "y", folder / "a")
    os.symlink(elsewhere / "z.jpg", folder / "b" / "0.jpg")
    found = contents_of(folder)
    assert list(zip(found.ids, found.labels.tolist(), strict=True)) == imagefolder(folder)
    assert found.order == "imagefolder"
    os.symlink(elsewhere / "y", folder / "b" / "deeper")
    assert contents_of(folder).order == "own"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("link", "order"), [("../a", "own"), ("..", "own"), ("gone", "imagefolder")])
def test_links_to_folders_inside_a_class(tmp_path: Path, link: str, order: str) -> None:
    folder = build(tmp_path / "images", ("a/1.jpg", "b/1.jpg"))
    os.symlink(link, folder / "b" / "deeper")
    assert contents_of(folder).order == order
    assert contents_of(packed(folder, tmp_path / "x.tar")).order == order


def test_an_absolute_link_in_an_archive_is_relative_to_its_root(tmp_path: Path) -> None:
    folder = build(tmp_path / "images", ("a/1.jpg", "b/1.jpg"))
    os.symlink(folder / "a", folder / "b" / "deeper")
    subprocess.run(["tar", "-P", "-cf", tmp_path / "x.tar", folder], check=True)
    assert contents_of(tmp_path / "x.tar").order == contents_of(folder).order == "own"


@pytest.mark.parametrize("names", [("class_1/a-b/0.jpg", "class_1/a/0.jpg"), ()])
def test_the_manifest_records_the_order_and_the_content_hash_ignores_it(
    folder: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        (folder / name).parent.mkdir()
        (folder / name).write_bytes((folder / "class_1" / "0.jpg").read_bytes())
    made = write_beton(folder, tmp_path / "x.beton")
    assert (made.order, list(made.ids)) == ("imagefolder", [path for path, _ in imagefolder(folder)])
    assert load_manifest(tmp_path / "x.beton") == made
    (folder / "class_2" / ".hidden.jpg").write_bytes(b"")
    again = write_beton(folder, tmp_path / "y.beton")
    assert (again.order, again.content_hash) == ("own", made.content_hash)


@pytest.mark.parametrize(("damaged", "order"), [("class_1/2.jpg", "own"), ("class_1/notes.txt", "imagefolder")])
def test_a_skipped_image_changes_the_order(folder: Path, tmp_path: Path, damaged: str, order: str) -> None:
    (folder / damaged).write_bytes(b"nothing")
    made = write_beton(folder, tmp_path / "x.beton", on_error="skip")
    assert (made.order, len(made.skipped)) == (order, 1)


def test_classes_of_a_file_keep_their_order_and_may_be_empty(folder: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("class_0\nclass_00\nclass_1\nclass_2\n")
    made = write_beton(folder, tmp_path / "x.beton", classes=names, allow_missing_classes=True)
    assert (made.classes, made.counts) == (("class_0", "class_00", "class_1", "class_2"), (4, 0, 4, 4))
    assert (made.order, np.unique(np.asarray(made.ids)).size) == ("imagefolder", 12)
    names.write_text("class_2\nclass_1\nclass_0\n")
    other = write_beton(folder, tmp_path / "y.beton", classes=names)
    assert (other.order, other.ids[0]) == ("own", "class_2/0.jpg")


def test_a_class_without_images_needs_permission(folder: Path, tmp_path: Path) -> None:
    (folder / "class_9").mkdir()
    with pytest.raises(SourceError, match=r"class 'class_9' has no images .it is empty.*--allow-missing-classes"):
        write_beton(folder, tmp_path / "x.beton")
    made = write_beton(folder, tmp_path / "x.beton", allow_missing_classes=True)
    assert (made.classes[-1], made.counts) == ("class_9", (4, 4, 4, 0))
    (folder / "class_9").rmdir()
    with pytest.raises(SourceError, match=r"has no folder of class 'class_9'.*1 are missing.*--allow-missing-classes"):
        write_beton(folder, tmp_path / "y.beton", classes=tmp_path / "x.beton")
    again = write_beton(folder, tmp_path / "y.beton", classes=tmp_path / "x.beton", allow_missing_classes=True)
    assert again.content_hash == made.content_hash
    (folder / "wolf").mkdir()
    with pytest.raises(SourceError, match="folder 'wolf' is none of the 4 classes that --classes names"):
        write_beton(folder, tmp_path / "z.beton", classes=tmp_path / "x.beton", allow_missing_classes=True)


def test_classes_that_are_not_utf8_are_found_by_their_name_in_a_manifest(folder: Path, tmp_path: Path) -> None:
    (folder / "class_2").rename(folder / os.fsdecode(b"class_\xff"))
    first = write_beton(folder, tmp_path / "x.beton")
    again = write_beton(folder, tmp_path / "y.beton", classes=tmp_path / "x.beton")
    assert (again.classes[-1], again.content_hash, again.order) == ("class_\\udcff", first.content_hash, "imagefolder")


def test_a_source_of_empty_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images" / "a").mkdir(parents=True)
    with pytest.raises(SourceError, match=r"none of its 1 class folders has images, expected class/image\.jpg$"):
        write_beton(tmp_path / "images", tmp_path / "x.beton", allow_missing_classes=True)


def test_the_error_about_another_folder_omits_allow_missing_classes(tmp_path: Path) -> None:
    source = build(tmp_path / "cache", ("b/n-train.arrow", "b/dataset_info.json", "a/readme.md"))
    with pytest.raises(
        SourceError, match=r"none of its 2 class folders has images \(3 other files, .*readme\.md\)"
    ) as raised:
        write_beton(source, tmp_path / "x.beton")
    assert "--allow-missing-classes" not in str(raised.value)
