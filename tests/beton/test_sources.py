"""Finding classes and images in folders and archives."""

import gzip
import io
import os
import tarfile
import zipfile
from contextlib import closing

import pytest

from fastdc.beton import archives
from fastdc.beton.sources import list_contents
from fastdc.errors import SourceError


def find(source, split=None):
    with closing(archives.open_tree(source)) as tree:
        return list_contents(tree, source, split)


def build(root, *names):
    """Empty files (or, with a trailing slash, folders) below `root`."""
    for name in names:
        path = root / name
        path.mkdir(parents=True) if name.endswith("/") else path.parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(name.encode())
    return root


def make_tar(path, folder, mode="w", top="data"):
    with tarfile.open(path, mode) as archive:
        archive.add(folder, top)
    return path


def make_zip(path, folder, top="data/"):
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(folder.rglob("*"), reverse=True):
            archive.write(name, top + str(name.relative_to(folder)))
    return path


def test_classes_and_images_are_sorted_and_litter_is_ignored(tmp_path):
    build(tmp_path, "b/2.png", "b/10.JPEG", "a/x.jpg", "a/.hidden.jpg", "a/.DS_Store", "b/Thumbs.db", ".git/x.jpg")
    build(tmp_path, "a/notes.txt", "a/deeper/y.webp", "__MACOSX/a/x.jpg", "README")
    contents = find(tmp_path)
    assert contents.classes == ("a", "b")
    assert [(item.id, item.label) for item in contents.items] == [
        ("a/deeper/y.webp", 0),
        ("a/x.jpg", 0),
        ("b/10.JPEG", 1),
        ("b/2.png", 1),
    ]
    assert contents.ignored == ["a/notes.txt"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "holds no folders"),
        (("x.jpg",), "1 images lie directly in it, such as x.jpg.*flat"),
        (("a/1.jpg", "x.jpg"), "1 images lie directly in it"),
        (("a/1.jpg", "b/"), "class 'b' has no images .it is empty"),
        (("a/1.jpg", "b/x.txt"), "class 'b' has no images .1 other files, such as x.txt"),
        (("Cat/1.jpg", "cat/1.jpg"), "'Cat' and 'cat' differ only in case"),
        (("train/a/1.jpg", "val/a/1.jpg"), "has the splits train, val; choose one with --split"),
    ],
)
def test_layouts_that_cannot_be_used(tmp_path, names, words):
    with pytest.raises(SourceError, match=words):
        find(build(tmp_path, *names))


def test_splits(tmp_path):
    build(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "Validation/a/2.jpg", "Validation/b/2.jpg", "extra/readme.txt")
    assert [item.id for item in find(tmp_path, "train").items] == ["a/1.jpg", "b/1.jpg"]
    contents = find(tmp_path, "val")
    assert [contents.path(item) for item in contents.items] == ["Validation/a/2.jpg", "Validation/b/2.jpg"]
    with pytest.raises(SourceError, match="has no split 'test'; it has Validation, train"):
        find(tmp_path, "test")


def test_flat_validation_folder_gets_a_hint(tmp_path):
    build(tmp_path, "train/a/1.jpg", "val/1.jpg", "val/2.jpg")
    with pytest.raises(SourceError, match=r"val: 2 images lie directly in it.*sorted into class folders first"):
        find(tmp_path, "val")


def test_split_without_splits_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="leave --split away"):
        find(build(tmp_path, "a/1.jpg"), "train")


def test_a_class_called_train_is_a_class(tmp_path):
    build(tmp_path, "bus/1.jpg", "train/1.jpg", "tram/1.jpg")
    assert find(tmp_path).classes == ("bus", "train", "tram")


def test_single_outer_folders_are_entered_but_a_single_class_is_not(tmp_path):
    assert find(build(tmp_path / "one", "cat/1.jpg")).classes == ("cat",)
    assert find(build(tmp_path / "two", "outer/inner/cat/1.jpg", "outer/inner/dog/1.jpg")).classes == ("cat", "dog")
    assert find(build(tmp_path / "three", "only/train/cat/1.jpg"), "train").classes == ("cat",)


def test_many_classes_keep_their_order(tmp_path):
    names = [f"{number}/x.jpg" for number in range(1001)]
    assert find(build(tmp_path, *names)).classes == tuple(sorted(map(str, range(1001))))


@pytest.mark.timeout(20)
def test_links_do_not_lead_in_circles(tmp_path):
    build(tmp_path / "data", "a/1.jpg", "b/1.jpg")
    os.symlink("..", tmp_path / "data" / "a" / "up")
    os.symlink(build(tmp_path / "elsewhere", "2.jpg"), tmp_path / "data" / "c")
    contents = find(tmp_path / "data")
    assert [item.id for item in contents.items] == ["a/1.jpg", "b/1.jpg", "c/2.jpg"]


def test_missing_source_and_things_that_are_no_source(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        find(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="neither folder nor file"):
        find(tmp_path / "pipe")
    (tmp_path / "x.tar").write_bytes(b"not an archive" * 1000)
    with pytest.raises(SourceError, match="cannot be read as an archive"):
        find(tmp_path / "x.tar")
    (tmp_path / "empty.tar").write_bytes(b"")
    with pytest.raises(SourceError):
        find(tmp_path / "empty.tar")


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_archives_hold_what_the_folder_holds(tmp_path, kind):
    build(tmp_path / "src", "train/b/1.jpg", "train/a/2.jpg", "train/a/10.jpg", "val/a/1.jpg", "val/b/1.jpg", "x.csv")
    path = tmp_path / "archive"
    make_zip(path, tmp_path / "src") if kind == "zip" else make_tar(path, tmp_path / "src", kind)
    with closing(archives.open_tree(path)) as tree:
        contents = list_contents(tree, path, "train")
        assert [item.id for item in contents.items] == [item.id for item in find(tmp_path / "src", "train").items]
        paths = [contents.path(item) for item in contents.items]
        data = {paths[number]: fetch() for number, fetch in tree.fetch_all(paths)}
    assert data == {path: path.removeprefix("data/").encode() for path in paths}


def read_archive(path):
    with closing(archives.open_tree(path)) as tree:
        contents = list_contents(tree, path, None)
        paths = [contents.path(item) for item in contents.items]
        return [fetch() for _, fetch in tree.fetch_all(paths)]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_truncated_archive_is_an_error_and_never_a_smaller_one(tmp_path, mode):
    path = make_tar(tmp_path / "x.tar", build(tmp_path / "src", *(f"a/{i}.jpg" for i in range(20))), mode)
    data = path.read_bytes()
    assert len(read_archive(path)) == 20
    end = 512 * (2 + 20 * 2) if mode == "w" else len(data)  # a plain tar pads its end with zeros
    refused = 0
    for length in [*range(0, end, end // 40), *(range(512 * 10, 512 * 12, 100) if mode == "w" else ())]:
        path.write_bytes(data[:length])
        try:
            assert len(read_archive(path)) == 20  # all there is behind the last file is a checksum
        except SourceError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_damaged_header_is_an_error(tmp_path, mode):
    plain = make_tar(tmp_path / "x.tar", build(tmp_path / "src", *(f"a/{i}.jpg" for i in range(20))))
    data = bytearray(plain.read_bytes())
    data[512 * 10 + 3] ^= 1
    plain.write_bytes(data if mode == "w" else gzip.compress(bytes(data)))
    with pytest.raises(SourceError, match="cannot be read"):
        read_archive(plain)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.timeout(20)
def test_odd_members_of_a_tar_do_no_harm(tmp_path, mode):
    with tarfile.open(tmp_path / "x.tar", mode) as archive:

        def add(name, data=b"data", **fields):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in fields.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(data))

        add("../../evil.jpg")
        add("/tmp/evil.jpg")
        add("a/../../evil.jpg")
        add("./a/1.jpg", b"first")
        add("./a/1.jpg", b"second")  # tar's rule: the last of one name counts
        add("a/hard.jpg", b"", type=tarfile.LNKTYPE, linkname="./a/1.jpg")
        add("a/link.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add("a/pipe.jpg", b"", type=tarfile.FIFOTYPE)
        add("a/" + "long" * 60 + ".jpg", b"long")
    with closing(archives.open_tree(tmp_path / "x.tar")) as tree:
        paths = [item.id for item in list_contents(tree, tmp_path / "x.tar", None).items]
        found = {}
        for number, fetch in tree.fetch_all(paths):
            try:
                found[paths[number]] = fetch()
            except SourceError as error:
                found[paths[number]] = str(error)
    assert found == {
        "a/1.jpg": b"second",
        "a/hard.jpg": b"second",
        "a/link.jpg": "a link or device inside an archive, expected a file",
        "a/pipe.jpg": "a link or device inside an archive, expected a file",
        "a/" + "long" * 60 + ".jpg": b"long",
    }


def test_zip_slip_and_wrong_checksums(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../evil.jpg", b"x")
        archive.writestr("a/1.jpg", b"payload of the first image")
        archive.writestr("a/2.jpg", b"second")
    path.write_bytes(path.read_bytes().replace(b"payload of the first", b"payload of the fi\0st", 1))
    with closing(archives.open_tree(path)) as tree:
        paths = [item.id for item in list_contents(tree, path, None).items]
        assert paths == ["a/1.jpg", "a/2.jpg"]
        fetches = dict(tree.fetch_all(paths))
        with pytest.raises(SourceError, match="cannot be unzipped"):
            fetches[0]()
        assert fetches[1]() == b"second"
