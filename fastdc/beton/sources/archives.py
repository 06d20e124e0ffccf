"""Open image folders, and tar and zip archives of them, which are not unpacked to disk.

Member names never become file names, so a name like "../../etc/passwd" is harmless: such members are left out. Absolute
names, which `tar -P` writes, lose their leading slash, as they do when unpacked.
"""

import tarfile
import zipfile
from pathlib import Path
from typing import Any

from fastdc.beton.image_kinds import HEAD_BYTES, find_kind
from fastdc.beton.sources.archive_tree import DAMAGE, ArchiveTree
from fastdc.beton.sources.tar_trees import PackedTarTree, PlainTarTree
from fastdc.beton.sources.trees import FolderTree, Tree, is_image
from fastdc.beton.sources.zip_tree import ZipTree
from fastdc.common.errors import SourceError
from fastdc.common.log import log_message
from fastdc.common.text import one_line


def open_tree(source: Path) -> Tree:
    """Open an image folder, or a tar (plain or compressed) or zip archive of one.

    Raises:
        SourceError: the source does not exist, cannot be read, or is not an archive.
    """
    if source.is_dir():
        return FolderTree(source)
    if not source.is_file():  # opening a FIFO or device could block, so reject them first
        found = "is neither folder nor file" if source.exists() else "does not exist"
        raise SourceError(f"{source}: {found}; expected an image folder or a tar or zip archive of one")
    try:
        tree = _open_archive(source)
    except DAMAGE as error:
        raise SourceError(f"{source}: {_explain(source, error)}") from error
    left_out = _why_no_images(tree)
    if left_out is not None:
        tree.close()
        raise SourceError(f"{source}: {left_out}; pack the folder from inside (tar -C FOLDER -cf FILE .)")
    if tree.outside:
        log_message(f"warning: {source}: files with '..' in their names are left out, such as {tree.outside}")
    return tree


def _why_no_images(tree: ArchiveTree[Any]) -> str | None:
    """Return why an archive's images were all left out; None if at least one was kept, or if it has none."""
    if tree.outside and not tree.members:
        return f"every file in it has '..' in its name, such as {tree.outside}"
    hidden = "" if any(map(is_image, tree.members)) else min(tree.hidden_images(""), default="")
    return f"every image in it is hidden or litter by its name or a folder's, such as {hidden}" if hidden else None


def _open_archive(source: Path) -> ArchiveTree[Any]:
    # is_zipfile only looks for a directory near the file's end, so a tar whose last member is a zip may pass too.
    if zipfile.is_zipfile(source) and not tarfile.is_tarfile(source):
        return ZipTree(source)
    return PlainTarTree(source) if _is_plain_tar(source) else PackedTarTree(source)


def _explain(source: Path, error: Exception) -> str:
    """Explain why a file cannot be read as an archive, and suggest a remedy."""
    try:
        with source.open("rb") as handle:
            kind = find_kind(handle.read(HEAD_BYTES))
    except OSError as unread:
        return f"cannot be read ({unread.strerror})"
    expected = "expected an image folder, or a tar or zip archive of one, or another layout of fastdc list sources"
    if kind is not None:
        return f"it is {kind.name}, {expected}; {kind.advice or 'put the images into a folder per class'}"
    reason = one_line(error)
    return f"cannot be read as an archive ({reason}), {expected}; if it is one, it is damaged or cut off: get it again"


def _is_plain_tar(source: Path) -> bool:
    try:
        with tarfile.open(source, "r:"):
            return True
    except tarfile.TarError:
        return False
