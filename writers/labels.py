"""Read the lists that label flat folders of images, and sort the files into classes by them, in place.

A list that gives a WordNet id with each file is read whatever surrounds the two: Kaggle's LOC_val_solution.csv, the
shell script valprep.sh that makes class folders, Tiny ImageNet's val_annotations.txt, or plain "file wnid" lines. A
list with one WordNet id per line is read for files numbered 1, 2, ... (ILSVRC2012_val_00000001.JPEG). Lists of class
numbers are refused. Two orders of them are in use (the devkit's and that of sorted WordNet ids), and the file does not
state which.
"""

import io
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from fastdc.beton.sources.archives import open_tree
from fastdc.beton.sources.regroup import RegroupedTree
from fastdc.beton.sources.trees import Tree, is_image
from fastdc.common.errors import SourceError
from fastdc.recipes.tree_paths import read_member

_WNID = re.compile(r"\bn\d{8}\b")
_FILE = re.compile(r"(?:ILSVRC2012_)?val_\d+")
_BETWEEN = re.compile(r"[\s,;/\"'*]+")
_MKDIR = re.compile(r"\s*mkdir\b")
_EXPECTED = "expected one file and one id on a line, such as `ILSVRC2012_val_00000001.JPEG n01751748`"
_MAX_BYTES = 1 << 27
DEVKIT_TRUTH = "data/ILSVRC2012_validation_ground_truth.txt"
DEVKIT_META = "data/meta.mat"


def regroup(tree: Tree, source: Path, folder: str, classes_of: dict[str, str], labels: Path) -> RegroupedTree:
    """Arrange the images directly in `folder` into class folders, as a list assigns them.

    Args:
        tree: tree that holds the images.
        source: path of the tree.
        folder: path in `tree`.
        classes_of: class of every file, by its name without suffix.
        labels: origin of `classes_of`, for messages.

    Raises:
        SourceError: a file is not in the list.
    """
    places: dict[str, str] = {}
    for name in flat_images(tree, folder):
        stem = os.path.splitext(name)[0]
        if stem not in classes_of:
            raise SourceError(f"{labels}: does not name the class of {name}, which lies in {source}/{folder}")
        places[f"{classes_of[stem]}/{name}"] = f"{folder}/{name}" if folder else name
    return RegroupedTree(tree, source, places)


def flat_images(tree: Tree, folder: str) -> list[str]:
    """Return the names of the images directly in `folder`, sorted."""
    return sorted(filter(is_image, tree.list_folder(folder).files))


def parse_labels(text: str, files: Sequence[str], path: Path | str) -> dict[str, str]:
    """Parse the WordNet id of every file, by its name without suffix.

    Args:
        text: one of the lists in this module's docstring.
        files: names of the files, sorted.
        path: origin of `text`, for messages.

    Raises:
        SourceError: a line names a file but not exactly one id; a line has an id whose file cannot be inferred; a file
            has two ids; or a list of ids alone does not match the files (see `match_in_order`).
    """
    stems = {os.path.splitext(name)[0] for name in files}
    classes: dict[str, str] = {}
    alone: list[tuple[int, str]] = []  # line number and id of each line without a file
    folders: list[int] = []  # numbers of the lines of valprep.sh that make class folders
    for number, line in enumerate(text.splitlines(), 1):
        names, ids = _find_names(line, stems), list(dict.fromkeys(_WNID.findall(line)))
        if not names:
            if _MKDIR.match(line):
                folders.append(number)
            elif ids and line.strip() != ids[0]:
                raise SourceError(f"{path}: line {number} names no file that is there, but {ids[0]}; {_EXPECTED}")
            else:
                alone += [(number, wnid) for wnid in ids]
            continue
        if len(names) != 1 or len(ids) != 1:
            raise SourceError(
                f"{path}: line {number} names {len(names)} files and {len(ids)} WordNet ids, {_EXPECTED}; lists of "
                "class numbers cannot be read, for two orders of them are in use"
            )
        name, wnid = names[0], ids[0]
        if classes.setdefault(name, wnid) != wnid:
            raise SourceError(f"{path}: line {number} puts {name} into {wnid}, an earlier one into {classes[name]}")
    stray = [number for number, _ in alone] if classes else folders
    if stray:
        found = "names no file, others do" if classes else "makes a folder, but no line names a file that is there"
        raise SourceError(f"{path}: line {stray[0]} {found}; {_EXPECTED}")
    return classes or match_in_order([wnid for _, wnid in alone], files, path)


def _find_names(line: str, stems: Collection[str]) -> list[str]:
    """Return the files that a line names, without suffix: those that exist, and those that look like images."""
    words = _BETWEEN.split(line)
    names = [os.path.splitext(word)[0] for word in words if is_image(word)]
    names = names or [word for word in words if word in stems or _FILE.fullmatch(word)]
    return list(dict.fromkeys(names))


def match_in_order(ids: Sequence[str], files: Sequence[str], path: Path | str) -> dict[str, str]:
    """Assign the i-th id to the file whose name ends in i: ..._00000001.JPEG gets the first.

    Raises:
        SourceError: the numbers of ids and files differ, or the files are not numbered 1..N. Without this check, one
            missing and one extra file would give all files between them the class of a neighbour.
    """
    if len(ids) != len(files):
        raise SourceError(f"{path}: {len(ids):,} WordNet ids for {len(files):,} images, expected one for each")
    stems = [os.path.splitext(name)[0] for name in files]
    prefix = stems[0][:-8] if stems else ""  # a number has 8 digits
    for number, stem in enumerate(stems, 1):
        expected = f"{prefix if prefix.endswith('_') else 'ILSVRC2012_val_'}{number:08d}"
        if stem != expected:
            raise SourceError(
                f"{path}: lists classes by the number of the image, but image {number} is {files[number - 1]}, "
                f"expected {expected}; get the missing files, take out the others, or give a list that names files"
            )
    return dict(zip(stems, ids, strict=True))


def read_labels(path: Path, files: Sequence[str]) -> dict[str, str]:
    """Read labels from a text file (see `parse_labels`) or from ImageNet's devkit (its folder or tar.gz).

    Raises:
        SourceError: the file cannot be read, or the devkit needs scipy; see also `parse_labels`.
    """
    if path.is_dir() or ".tar" in path.name or path.suffix == ".tgz":
        return match_in_order(read_devkit(path), files, path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise SourceError(f"{path}: {path.stat().st_size} bytes, expected a list of images and classes")
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: cannot be read ({error}), expected a list of images and classes") from error
    return parse_labels(text, files, path)


def read_devkit(path: Path) -> list[str]:
    """Return the WordNet ids of the validation images, in their order, from ILSVRC2012_devkit_t12.

    Raises:
        SourceError: files are missing or damaged, or scipy, which reads meta.mat, is not installed.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise SourceError(
            f"{path}: reading meta.mat needs scipy (pip install scipy); or put LOC_val_solution.csv or valprep.sh there"
        ) from error
    tree = open_tree(path)
    try:
        truth = read_member(tree, path, DEVKIT_TRUTH).decode("ascii").split()
        synsets = loadmat(io.BytesIO(read_member(tree, path, DEVKIT_META)), squeeze_me=True)["synsets"]
        names = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
        return [names[int(number)] for number in truth]
    except SourceError:
        raise
    except Exception as error:  # scipy raises errors of many kinds on damaged files
        raise SourceError(f"{path}: is no devkit of ILSVRC2012 ({error!r}); get it again") from error
    finally:
        tree.close()
