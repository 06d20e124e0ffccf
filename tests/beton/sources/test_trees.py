"""Finding classes and images in folders and archives."""

import gzip
import io
import os
import subprocess
import tarfile
import zipfile
from contextlib import closing, suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fastdc.beton.sources import archives
from fastdc.beton.sources.class_folders import list_contents
from fastdc.common.errors import SourceError
from fastdc.common.tars import add_file


def find(source, split=None):
    with closing(archives.open_tree(source)) as tree:
        return list_contents(tree, source, split)


def build(root, *names):
    """Make empty files (or, with a trailing slash, folders) below `root`."""
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
    assert list(zip(contents.ids, contents.labels.tolist(), strict=True)) == [
        ("a/x.jpg", 0),
        ("a/deeper/y.webp", 0),
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
    assert list(find(tmp_path, "train").ids) == ["a/1.jpg", "b/1.jpg"]
    contents = find(tmp_path, "val")
    assert list(contents.paths()) == ["Validation/a/2.jpg", "Validation/b/2.jpg"]
    with pytest.raises(SourceError, match="has no split 'test'; it has Validation, train"):
        find(tmp_path, "test")


def test_the_error_names_the_only_split(tmp_path):
    source = build(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "readme.txt")
    with pytest.raises(SourceError, match=r": has one split, train; add --split train$"):
        find(source)
    with pytest.raises(SourceError, match=r": has no split 'val', only train; give the folder or archive that has it$"):
        find(source, "val")


def test_flat_validation_folder_gets_a_hint(tmp_path):
    build(tmp_path, "train/a/1.jpg", "val/1.jpg", "val/2.jpg")
    with pytest.raises(SourceError, match=r"val: 2 images lie directly in it.*sorted into class folders first"):
        find(tmp_path, "val")


def test_split_without_splits_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="omit --split"):
        find(build(tmp_path, "a/1.jpg"), "train")


@pytest.mark.parametrize("names", [("bus", "train", "tram"), ("test", "train"), ("train", "val"), ("test",)])
def test_classes_may_be_called_like_splits(tmp_path, names):
    build(tmp_path, *(f"{name}/1.jpg" for name in names))
    assert find(tmp_path).classes == names
    with pytest.raises(SourceError, match=r"no folder 'test' with class folders in it.*omit --split"):
        find(tmp_path, "test")


@pytest.mark.parametrize("stray", ["docs/figure.png", "docs/deep/er/figure.png", "cover.jpg", "extra/cat/1.jpg"])
def test_splits_are_found_beside_other_files(tmp_path, stray):
    build(tmp_path, "train/a/1.jpg", "val/a/1.jpg", "val/b/1.jpg", stray)
    with pytest.raises(SourceError, match="has the splits train, val; choose one with --split"):
        find(tmp_path)
    assert find(tmp_path, "train").classes == ("a",)
    assert find(tmp_path, "val").classes == ("a", "b")


def test_one_split_with_class_folders_makes_its_flat_neighbours_splits(tmp_path):
    build(tmp_path, "train/a/1.jpg", "test/1.jpg", "val/")
    with pytest.raises(SourceError, match="has the splits test, train, val"):
        find(tmp_path)
    with pytest.raises(SourceError, match=r"test: 1 images lie directly in it.*flat"):
        find(tmp_path, "test")


@pytest.mark.parametrize(
    ("folder", "requested"),
    [
        ("training", "train"),
        ("training", "training"),
        ("valid", "val"),
        ("valid", "valid"),
        ("validate", "validation"),
        ("Eval", "val"),
        ("TESTING", "test"),
    ],
)
def test_splits_have_aliases(tmp_path, folder, requested):
    build(tmp_path, "part/a/1.jpg", "part/b/1.jpg", f"{folder}/a/1.jpg", f"{folder}/b/2.jpg")
    with pytest.raises(SourceError, match=f"has one split, {folder}; add --split {folder}"):
        find(tmp_path)
    contents = find(tmp_path, requested)
    assert list(contents.paths()) == [f"{folder}/a/1.jpg", f"{folder}/b/2.jpg"]
    assert find(tmp_path, "part").classes == ("a", "b")


def test_a_split_that_may_be_two_folders_is_not_guessed(tmp_path):
    build(tmp_path, "train/a/1.jpg", "valid/a/2.jpg", "validation/a/3.jpg", "Train/a/4.jpg")
    with pytest.raises(SourceError, match="'val' may be valid or validation"):
        find(tmp_path, "val")
    with pytest.raises(SourceError, match="'TRAIN' may be"):
        find(tmp_path, "TRAIN")
    contents = find(tmp_path, "train")  # the very name is no guess
    assert next(contents.paths()) == "train/a/1.jpg"


def test_any_folder_of_class_folders_can_be_the_split(tmp_path):
    build(tmp_path, "outer/seen/a/1.jpg", "outer/seen/b/1.jpg", "outer/new/a/1.jpg", "outer/flat/1.jpg")
    assert find(tmp_path, "seen").classes == ("a", "b")
    for name in ("flat", "absent"):
        with pytest.raises(SourceError, match=f"outer: no folder '{name}' with class folders in it"):
            find(tmp_path, name)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ("old/a/1.jpg", "old/b/1.jpg", "new/a/1.jpg"),
            r"images only in folders of its folders, such as old/a/.*--split",
        ),
        (
            ("train/train/a/1.jpg", "test/test/a/1.jpg"),
            r"folder 'test' holds splits \(test\).*give .*/test as the source",
        ),
        (("data/Train/a/1.jpg", "data/val/a/1.jpg", "docs/x.png"), r"folder 'data' holds splits \(Train, val\)"),
    ],
)
def test_folders_of_class_folders_are_not_taken_for_classes(tmp_path, names, words):
    with pytest.raises(SourceError, match=words):
        find(build(tmp_path, *names))


def test_folders_inside_classes_are_allowed_if_they_cannot_be_classes(tmp_path):
    build(tmp_path / "tiny", "train/n1/images/1.jpg", "train/n2/images/2.jpg", "train/n2/boxes.txt", "val/images/1.jpg")
    assert find(tmp_path / "tiny", "train").classes == ("n1", "n2")
    build(tmp_path / "deep", "train/n1/x/y/z/1.jpg", "train/n2/x/y/z/2.jpg")
    assert find(tmp_path / "deep", "train").classes == ("n1", "n2")
    build(tmp_path / "some", "a/1.jpg", "b/x/1.jpg", "b/y/1.jpg")
    assert find(tmp_path / "some").classes == ("a", "b")


@pytest.mark.timeout(20)
def test_the_search_for_splits_ends_at_link_cycles(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    os.symlink("..", tmp_path / "train" / "a" / "up")
    os.symlink("../train", tmp_path / "train" / "train")
    with pytest.raises(
        SourceError, match=r"train: none of its 2 class folders has images \(3 other files, such as a/up"
    ):
        find(tmp_path)


def test_a_single_outer_folder_is_entered_unless_it_is_a_class(tmp_path):
    assert find(build(tmp_path / "one", "cat/1.jpg")).classes == ("cat",)
    assert find(build(tmp_path / "two", "outer/inner/cat/1.jpg", "outer/inner/dog/1.jpg")).classes == ("cat", "dog")
    assert find(build(tmp_path / "three", "only/train/cat/1.jpg"), "train").classes == ("cat",)
    assert find(build(tmp_path / "four", "test/train/cat/1.jpg", "test/val/cat/1.jpg"), "train").classes == ("cat",)


def test_many_classes_keep_their_order(tmp_path):
    names = [f"{number}/x.jpg" for number in range(1001)]
    assert find(build(tmp_path, *names)).classes == tuple(sorted(map(str, range(1001))))


@pytest.mark.timeout(20)
def test_link_cycles_are_followed_once(tmp_path):
    build(tmp_path / "data", "a/1.jpg", "b/1.jpg")
    os.symlink("..", tmp_path / "data" / "a" / "up")
    os.symlink(build(tmp_path / "elsewhere", "2.jpg"), tmp_path / "data" / "c")
    contents = find(tmp_path / "data")
    assert list(contents.ids) == ["a/1.jpg", "b/1.jpg", "c/2.jpg"]


def test_a_missing_or_unusable_source(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        find(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="neither folder nor file"):
        find(tmp_path / "pipe")
    (tmp_path / "x.tar").write_bytes(b"not an archive" * 1000)
    with pytest.raises(SourceError, match="cannot be read as an archive"):
        find(tmp_path / "x.tar")
    (tmp_path / "empty.tar").write_bytes(b"")
    with pytest.raises(SourceError, match=r"empty\.tar: cannot be read as an archive \(no end marker: empty header\)"):
        find(tmp_path / "empty.tar")


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_archives_hold_what_the_folder_holds(tmp_path, kind):
    build(tmp_path / "src", "train/b/1.jpg", "train/a/2.jpg", "train/a/10.jpg", "val/a/1.jpg", "val/b/1.jpg", "x.csv")
    path = tmp_path / "archive"
    make_zip(path, tmp_path / "src") if kind == "zip" else make_tar(path, tmp_path / "src", kind)
    with closing(archives.open_tree(path)) as tree:
        contents = list_contents(tree, path, "train")
        assert list(contents.ids) == list(find(tmp_path / "src", "train").ids)
        paths = list(contents.paths())
        data = {paths[number]: fetch() for number, fetch in tree.fetch_all(paths)}
    assert data == {path: path.removeprefix("data/").encode() for path in paths}


def read_archive(path):
    with closing(archives.open_tree(path)) as tree:
        contents = list_contents(tree, path, None)
        paths = list(contents.paths())
        return [fetch() for _, fetch in tree.fetch_all(paths)]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_truncated_archive_is_an_error(tmp_path, mode):
    path = make_tar(tmp_path / "x.tar", build(tmp_path / "src", *(f"a/{i}.jpg" for i in range(20))), mode)
    data = path.read_bytes()
    assert len(read_archive(path)) == 20
    end = 512 * (2 + 20 * 2) if mode == "w" else len(data)  # a plain tar pads its end with zeros
    refused = 0
    for length in [*range(0, end, end // 40), *(range(512 * 10, 512 * 12, 100) if mode == "w" else ())]:
        path.write_bytes(data[:length])
        try:
            assert len(read_archive(path)) == 20  # only a checksum follows the last file
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
def test_odd_members_of_a_tar_are_harmless(tmp_path, mode):
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
        paths = list(list_contents(tree, tmp_path / "x.tar", None).ids)
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
        "tmp/evil.jpg": b"data",  # a name inside the source, as it is when `tar x` takes the slash off
    }


def test_absolute_names_in_a_tar_lose_their_slash(tmp_path):
    """`tar -P` keeps the slash, also in the targets of hard links."""
    root = build(tmp_path / "data", "train/cat/1.jpg", "train/dog/1.jpg")
    os.link(root / "train/cat/1.jpg", root / "train/dog/2.jpg")
    subprocess.run(["tar", "-P", "-cf", tmp_path / "x.tar", root], check=True)
    with closing(archives.open_tree(tmp_path / "x.tar")) as tree:
        contents = list_contents(tree, tmp_path / "x.tar", "train")
        assert list(contents.ids) == ["cat/1.jpg", "dog/1.jpg", "dog/2.jpg"]
        assert {fetch() for _, fetch in tree.fetch_all(contents.paths())} == {b"train/cat/1.jpg", b"train/dog/1.jpg"}


def test_an_archive_packed_from_a_sibling_folder(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(build(tmp_path / "data", "cat/1.jpg"), "../data")
    with pytest.raises(
        SourceError, match=r"every file in it has '\.\.' in its name, such as \.\./data/cat/1\.jpg; pack"
    ):
        archives.open_tree(tmp_path / "x.tar")


def test_files_left_out_for_their_names_are_reported(tmp_path, capsys):
    """`tar -cf x.tar dog ../data/cat` loses a class."""
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(build(tmp_path / "data", "cat/1.jpg") / "cat", "../data/cat")
        archive.add(build(tmp_path / "here", "dog/1.jpg") / "dog", "dog")
    assert find(tmp_path / "x.tar").classes == ("dog",)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"warning: {tmp_path}/x.tar: files with '..' in their names are left out, such as ../data/cat/1.jpg"
    ]


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_an_archive_of_a_hidden_folder_is_not_reported_as_empty(tmp_path, kind):
    """An archive as `tar -P -cf x.tar ~/.cache/data` packs it."""
    build(tmp_path / "data", ".cache/data/cat/1.jpg", ".cache/data/dog/1.jpg", "readme.txt")
    path, data = tmp_path / f"x.{kind}", tmp_path / "data"
    _ = make_zip(path, data) if kind == "zip" else make_tar(path, data, "w:gz" if kind == "tar.gz" else "w")
    with pytest.raises(
        SourceError,
        match=r"every image in it is hidden or litter .*, such as .*\.cache/data/cat/1\.jpg; pack the folder",
    ):
        archives.open_tree(path)


@pytest.mark.parametrize(
    "litter",
    [
        "@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
        "#recycle/1.jpg",
        "#snapshot/a/1.jpg",
        "@Recycle/1.jpg",
        "@Recently-Snapshot/a/1.jpg",
        ".@__thumb/default1.jpg",
        "lost+found/1.jpg",
        "$RECYCLE.BIN/S-1-5/1.jpg",
        "System Volume Information/1.jpg",
        "__MACOSX/a/._1.jpg",
        ".AppleDouble/1.jpg",
        ".Trash-1000/files/1.jpg",
        "~snapshot/a/1.jpg",
        "._1.jpg",
    ],
)
@pytest.mark.parametrize("where", ["", "a/"])
def test_system_files_are_ignored(tmp_path, where, litter):
    root = build(tmp_path / "data", "a/1.jpg", "b/1.jpg", where + litter)
    for source in (root, make_tar(tmp_path / "x.tar", root), make_zip(tmp_path / "x.zip", root)):
        contents = find(source)
        assert (contents.classes, contents.ignored) == (("a", "b"), [])
        assert list(contents.ids) == ["a/1.jpg", "b/1.jpg"]


NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_unicode_spellings_of_a_folder_are_one_class(tmp_path):
    assert find(build(tmp_path / "mac", f"{NFD}/1.jpg", "dog/1.jpg")).classes == (NFC, "dog")
    assert find(build(tmp_path / "linux", f"{NFC}/1.jpg", "dog/1.jpg")).classes == (NFC, "dog")
    assert find(tmp_path / "mac").ids[0] == f"{NFD}/1.jpg"  # the file's own path


@pytest.mark.parametrize(
    ("names", "points"), [((NFC, NFD), r"U\+0301.*U\+00E9"), (("\u212b", "\u00c5"), r"U\+00C5.*U\+212B")]
)
def test_two_spellings_in_one_source_are_shown_by_code_points(tmp_path, names, points):
    with pytest.raises(SourceError, match=rf"{points}.* are one name in two Unicode spellings; merge them"):
        find(build(tmp_path, *(f"{name}/1.jpg" for name in names)))


def test_zip_slip_and_wrong_checksums(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../evil.jpg", b"x")
        archive.writestr("a/1.jpg", b"payload of the first image")
        archive.writestr("a/2.jpg", b"second")
    path.write_bytes(path.read_bytes().replace(b"payload of the first", b"payload of the fi\0st", 1))
    with closing(archives.open_tree(path)) as tree:
        paths = list(list_contents(tree, path, None).ids)
        assert paths == ["a/1.jpg", "a/2.jpg"]
        fetches = dict(tree.fetch_all(paths))
        with pytest.raises(SourceError, match="cannot be unzipped"):
            fetches[0]()
        assert fetches[1]() == b"second"


def packed(kind):
    """Return a small archive as bytes, by the mode of `tarfile` or the method of `zipfile`."""
    buffer, images = io.BytesIO(), {"caf\u00e9/1.jpg": b"hello" * 30, "dog/" + "x" * 120 + ".jpg": b"world" * 30}
    if isinstance(kind, int):
        with zipfile.ZipFile(buffer, "w", kind) as archive:
            for name, data in images.items():
                archive.writestr(name, data)
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode=kind) as archive:
        for name, data in images.items():
            add_file(archive, name, data)
    return buffer.getvalue()


KINDS = ["w", "w:gz", "w:bz2", "w:xz", zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    kept=st.floats(0, 1) | st.just(1),
)
@example(kind="w:gz", changes=[(0.0162, 4)], kept=0.052)  # a cut off field in gzip's header: TypeError of tarfile
def test_any_error_of_a_damaged_archive_is_a_source_error(tmp_path, kind, changes, kept):
    data = bytearray(packed(kind))
    for place, value in changes:
        data[int(place * len(data))] = value
    (tmp_path / "x").write_bytes(data[: int(kept * len(data))])
    try:
        with closing(archives.open_tree(tmp_path / "x")) as tree:
            for _, fetch in tree.fetch_all(list_contents(tree, tmp_path / "x", None).paths()):
                with suppress(SourceError):
                    fetch()
    except SourceError as error:
        message = str(error)
        assert "\n" not in message
