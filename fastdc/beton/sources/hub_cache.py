"""Resolve folders of the Hugging Face hub's disk cache that are given as a source.

    datasets--OWNER--NAME/snapshots/REVISION/...   links to files in datasets--OWNER--NAME/blobs
    datasets--OWNER--NAME/refs/main                the newest revision

Source: huggingface_hub, "Understand caching".
"""

from os.path import isdir  # False, not an error, for a folder that cannot be entered
from pathlib import Path

from fastdc.common.errors import SourceError

_PREFIXES = ("datasets--", "models--", "spaces--")


def enter_hub_cache(source: Path) -> Path:
    """Return the snapshot that a repository in the hub's cache stands for; return any other source unchanged.

    Raises:
        SourceError: `source` is the whole cache, one of its inner folders or files, or a repository without one clear
            snapshot.
    """
    if source.name == "snapshots" and _is_repository(source.parent):
        source = source.parent
    if source.parent.name in ("blobs", "refs") and _is_repository(source.parent.parent):
        source = source.parent
    if source.name in ("blobs", "refs") and _is_repository(source.parent):
        raise SourceError(f"{source}: is a part of a hub cache that has no file names; give {source.parent}")
    if not isdir(source):
        return source
    if _is_repository(source):
        return _choose_snapshot(source)
    repositories = sorted(path.name for path in source.glob("*--*") if path.name.startswith(_PREFIXES))
    if any(_is_repository(source / name) for name in repositories):
        named = ", ".join(repositories[:3]) + (", ..." if len(repositories) > 3 else "")
        raise SourceError(f"{source}: is the cache of the Hugging Face hub ({named}); give one of these folders")
    return source


def hub_name(source: Path) -> str | None:
    """Return the name of the repository whose snapshot `source` is; None for any other source."""
    # Not resolve(): the files of a snapshot are links to files in `blobs`.
    repository = source.absolute().parent.parent
    is_snapshot = source.absolute().parent.name == "snapshots" and repository.name.startswith(_PREFIXES)
    return repository.name.rpartition("--")[2] if is_snapshot else None


def _is_repository(path: Path) -> bool:
    """Return whether a folder has a repository's layout; False if it cannot be entered, which its reader reports."""
    return isdir(path / "snapshots") and (isdir(path / "blobs") or isdir(path / "refs"))


def _choose_snapshot(repository: Path) -> Path:
    snapshots = sorted(path for path in (repository / "snapshots").iterdir() if path.is_dir())
    main = repository / "refs" / "main"
    newest = repository / "snapshots" / main.read_text().strip() if main.is_file() else None
    if newest in snapshots:
        return newest
    if len(snapshots) == 1:
        return snapshots[0]
    if not snapshots:
        raise SourceError(f"{repository}: a hub cache without snapshots; download it again (hf download)")
    named = ", ".join(path.name for path in snapshots[:3])
    raise SourceError(
        f"{repository}: {len(snapshots)} snapshots ({named}) and no refs/main; give one of them as source"
    )
