"""Download a data set's repository from the Hugging Face hub into the hub's own cache.

The module needs huggingface_hub (extra `hf`), imported on first use. It reads HF_HOME, HF_ENDPOINT, HF_TOKEN and
HF_HUB_OFFLINE. Without a network, and for repositories that are gone or gated, it falls back to a whole copy in the
cache.
"""

import logging
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from fastdc.beton.exported import RECORD
from fastdc.beton.sources.shards import is_sharded
from fastdc.common.errors import SourceError, disk_full, is_disk_full
from fastdc.common.extras import install_extra
from fastdc.common.text import one_line

SCHEME = "hf:"
_REPOSITORY = r"(?P<repository>[^/@]+/[^/@]+)(@(?P<revision>refs/(?:convert|pr)/[^/]+|[^/@]+))?(/(?P<folder>.+))?"
_ADDRESS = re.compile(rf"(?P<cache>.*/)?{SCHEME}/+(?:datasets/(?=[^/]+/))?{_REPOSITORY}")


class Address(NamedTuple):
    """Parts of `[CACHE/]hf://OWNER/NAME[@REVISION][/FOLDER]`.

    Attributes:
        repository: OWNER/NAME.
        revision: branch, tag or commit; "main" if none is given.
        folder: folder inside the repository; "" for all of it.
        cache: folder that holds downloads; None for the hub's own.
    """

    repository: str
    revision: str
    folder: str
    cache: str | None

    def __str__(self) -> str:
        return f"{SCHEME}//{self.repository}@{self.revision}"


def is_address(path: Path) -> bool:
    """Return whether a path is an address on the hub; pathlib writes it with one slash, hf:/OWNER/NAME."""
    return SCHEME in path.parts


def parse_address(path: Path) -> Address:
    """Return the parts of an address.

    Raises:
        SourceError: it names no repository.
    """
    match = _ADDRESS.fullmatch(path.as_posix())
    if match is None or ".." in (match["folder"] or "").split("/"):
        raise SourceError(f"{path}: expected hf://OWNER/NAME, hf://OWNER/NAME@REVISION or a folder of these")
    return Address(match["repository"], match["revision"] or "main", match["folder"] or "", match["cache"])


def download(address: Address) -> Path:
    """Download the files of a repository that are not in the cache yet, and return its snapshot.

    If there are parquet shards, only they and the record of an exported set are downloaded; else every file is.

    Raises:
        SourceError: huggingface_hub is not installed; the repository or revision does not exist, is gated, or cannot be
            reached and is not in the cache.
        OutputError: the disk is full.
    """
    hub = _import_hub(address)
    within = f"{address.folder}/" if address.folder else ""
    try:
        snapshot = _fetch(hub, address, [f"{within}*.parquet", "README.md", f"{within}{RECORD}"])
        if not is_sharded(snapshot / address.folder):
            snapshot = _fetch(hub, address, [f"{within}*", "README.md"])
    except Exception as error:  # any of the HTTP library's, besides those of the hub's client
        if isinstance(error, OSError) and is_disk_full(error):
            raise disk_full(address, error) from error
        raise SourceError(f"{address}: {_explain(hub, error, address)}") from error
    if not (snapshot / address.folder).is_dir():
        held = f"no folder {address.folder!r}" if address.folder else "no files"
        raise SourceError(f"{address}: has {held}; see its files on the hub")
    return snapshot


def _fetch(hub: ModuleType, address: Address, patterns: list[str]) -> Path:
    found = hub.snapshot_download(
        address.repository,
        repo_type="dataset",
        revision=address.revision,
        allow_patterns=patterns,
        cache_dir=address.cache,
        library_name="fastdc",
    )
    return Path(found)


def _explain(hub: ModuleType, error: Exception, address: Address) -> str:
    """Explain why a repository cannot be downloaded, and suggest a remedy."""
    errors = hub.errors
    if isinstance(error, errors.GatedRepoError):
        page = f"{hub.constants.ENDPOINT}/datasets/{address.repository}"
        return f"is gated; accept its terms at {page}, and set HF_TOKEN to a token of that account"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "is not a data set on the hub, or is a private one; check OWNER/NAME, or set HF_TOKEN"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"has no branch, tag or commit {address.revision!r}; leave @{address.revision} out for the newest"
    if isinstance(error, errors.HFValidationError):
        return "is not a repository name; expected hf://OWNER/NAME"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return (
            "the hub cannot be reached, and the cache has no whole copy; run again with a network, and see HF_ENDPOINT "
            "and HF_HUB_OFFLINE"
        )
    return f"cannot be downloaded ({one_line(error)[:200]}); run again to continue"


def _import_hub(address: Address) -> ModuleType:
    try:
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils.logging  # sets the level of its logger, which is set again below
        from huggingface_hub import utils
    except ImportError as error:
        raise SourceError(
            f"{address}: downloading needs huggingface_hub, which is not installed: pip install huggingface_hub, or "
            f"{install_extra('hf')}"
        ) from error
    if not sys.stderr.isatty():
        utils.disable_progress_bars()  # type: ignore[attr-defined]
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings of every attempt would hide our line
    return huggingface_hub
