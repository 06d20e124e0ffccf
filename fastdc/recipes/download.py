"""Download a published archive to a temporary name, check it, and rename it, so that no partial file is left behind."""

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from fastdc.common.errors import OutputError, SourceError
from fastdc.common.files import atomic_file
from fastdc.common.log import Progress, progress, progress_shown

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 60.0


class Archive(NamedTuple):
    """A file on the web.

    Attributes:
        url: where it is published.
        md5: MD5 of the whole file, as published with it.
    """

    url: str
    md5: str

    @property
    def name(self) -> str:
        """Return the file's name."""
        return self.url.rpartition("/")[2]


BY_OTHER_MEANS = "fetch it by other means and give it as --source (make demo: SOURCE=FILE)"


def get_archive(archive: Archive, folder: Path, advice: str = BY_OTHER_MEANS, quiet: bool = False) -> Path:
    """Return the path of the archive in `folder`; download it unless it is there.

    Args:
        archive: the published file.
        folder: where it is kept; made if missing.
        advice: what to do where it cannot be downloaded, for the message.
        quiet: show no progress.

    Raises:
        SourceError: the archive cannot be downloaded, or is not the published file.
        OutputError: the archive cannot be stored.
    """
    path = folder / archive.name
    if path.exists():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as handle, urllib.request.urlopen(archive.url, timeout=_TIMEOUT_SECONDS) as answer:
            size = int(answer.headers.get("Content-Length") or 0)  # 0 if the server does not state it
            with progress_shown(not quiet), progress(f"fetch {archive.name}", size >> 20 or None, "MiB") as bar:
                _copy(answer, handle, bar, archive, size)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise SourceError(f"{archive.url}: cannot be fetched ({reason}); {advice}") from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be stored ({error.strerror or error}); check disk and folder") from error
    return path


def _copy(answer: "http.client.HTTPResponse", handle: object, bar: Progress, archive: Archive, size: int) -> None:
    digest, done = hashlib.md5(usedforsecurity=False), 0  # FIPS builds of OpenSSL refuse MD5 otherwise
    while block := answer.read(_BLOCK):
        handle.write(block)  # type: ignore[attr-defined]
        digest.update(block)
        done += len(block)
        bar.advance((done >> 20) - bar.done)
    if digest.hexdigest() != archive.md5:
        found = f"{done:,} bytes" + (f" of {size:,}" if size else "") + f" with MD5 {digest.hexdigest()}"
        raise SourceError(f"{archive.url}: {found}, expected {archive.md5}; run again, or give --source")
