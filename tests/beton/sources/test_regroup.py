"""Tars of tars, and files with a list of classes: read in place as class folders."""

import io
import tarfile

import pytest

from fastdc.beton import BetonFile, write_beton
from fastdc.beton.sources.archives import open_tree
from fastdc.beton.sources.class_folders import list_classes
from fastdc.beton.sources.regroup import RegroupedTree
from fastdc.beton.sources.source import Opened
from fastdc.beton.sources.trees import FolderTree
from fastdc.common.errors import SourceError
from fastdc.common.tars import add_file


def tar_bytes(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            add_file(archive, name, data)
    return buffer.getvalue()


def payloads(path):
    with BetonFile(path) as file:
        return [bytes(file.payload(index)) for index in range(len(file))]


@pytest.fixture
def nested(folder, tmp_path):
    """Pack every class folder of `folder` into a tar, and these into one."""
    inner = {
        f"{name.name}.tar": tar_bytes({f"./{path.name}": path.read_bytes() for path in name.iterdir()})
        for name in folder.iterdir()
    }
    (tmp_path / "nested.tar").write_bytes(tar_bytes(inner))
    return tmp_path / "nested.tar"


def test_a_tar_of_tars_is_a_folder_of_folders(nested, folder, tmp_path):
    from_tar = write_beton(nested, tmp_path / "a.beton")
    from_folder = write_beton(folder, tmp_path / "b.beton")
    assert from_tar.ids == from_folder.ids
    assert from_tar.content_hash == from_folder.content_hash
    assert payloads(tmp_path / "a.beton") == payloads(tmp_path / "b.beton")


def test_damaged_inner_tars_are_named(folder, tmp_path):
    image = (folder / "class_0" / "0.jpg").read_bytes()
    whole = tar_bytes({"0.jpg": image})
    unmarked = whole[: 512 * (1 - -len(image) // 512)]  # complete but for the zero blocks that mark the end
    inner = [{"a.tar": whole, "b.tar": data} for data in (b"no tar", b"", whole[:700], unmarked)]
    for members in (*inner, {"b.tar": unmarked, "c.tar": whole}):
        (tmp_path / "x.tar").write_bytes(tar_bytes(members))
        with pytest.raises(SourceError, match=r"b.tar in it is an incomplete tar"):
            open_tree(tmp_path / "x.tar")


def test_files_are_read_in_the_class_folders_of_a_list(folder, tmp_path):
    tree = FolderTree(folder)
    places = {"x/1.jpg": "class_2/3.jpg", "x/2.jpg": "class_0/0.jpg", "w/1.jpg": "class_1/2.jpg"}
    regrouped = RegroupedTree(tree, folder, places)
    contents = list_classes(regrouped, folder, "")
    assert contents.classes == ("w", "x")
    manifest = write_beton(Opened(folder, regrouped, contents, "mine", "val", {"by": "list"}), tmp_path / "x.beton")
    assert manifest.ids == ("w/1.jpg", "x/1.jpg", "x/2.jpg")
    assert (manifest.dataset, manifest.split, manifest.made["by"]) == ("mine", "val", "list")
    assert payloads(tmp_path / "x.beton") == [(folder / places[id]).read_bytes() for id in manifest.ids]
