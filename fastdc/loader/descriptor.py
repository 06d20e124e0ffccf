"""Read a beton by descriptor instead of a mapping, so that every change of the file is detected.

A mapped file that is cut short kills the process (SIGBUS), and one that is overwritten in place shows other pixels.
Reads by descriptor fail instead, and the file's size and modification time reveal other changes. Replacing the file
(renaming another over it) leaves the opened one as it was.
"""

import ctypes
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastdc.beton import BetonFile
from fastdc.beton.positioned_io import read_range
from fastdc.common.errors import LoaderError
from fastdc.loader.image_cache import FileIdentity, file_identity, identity_of


class StoredFile(BetonFile):
    """A `.beton` that is read by descriptor.

    Attributes:
        identity: identity of the content that was opened.
        descriptor: the open file; -1 once closed.

    Raises:
        BetonError: the file is not a valid beton.
        LoaderError: there is no such file, or it was replaced while it was opened.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        file_identity(path)
        if not path.is_file():
            super().__init__(path)  # raises an error that names the kind of file; opening a FIFO would block
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise LoaderError(f"{path}: cannot be opened ({error.strerror}), expected a .beton file") from error
        try:
            self.identity: FileIdentity = identity_of(path, os.fstat(self.descriptor))
            super().__init__(path)
            super().close()  # only the mapping; the tables were read
            if file_identity(path) != self.identity:
                raise LoaderError(f"{path}: was replaced while it was opened; try again")
        except BaseException:
            self.close()
            raise

    def payload(self, index: int) -> memoryview:
        """Return the stored bytes of sample `index`, copied from the file.

        Raises:
            BetonError: `index` is outside 0..N-1.
            LoaderError: the file is shorter than it was, cannot be read, or was closed.
        """
        self._check_index(index)
        size = int(self.sizes[index])
        if self.descriptor < 0:
            raise LoaderError(f"{self.path}: was closed; open it again")
        try:
            data = read_range(self.descriptor, int(self.offsets[index]), size)
        except OSError as error:
            raise LoaderError(f"{self.path}: sample {index}: cannot be read ({error.strerror})") from error
        if len(data) != size:
            self.check_unchanged(index)
            raise LoaderError(f"{self.path}: sample {index}: {len(data):,} of {size:,} bytes could be read")
        return memoryview(data)

    def check_unchanged(self, sample: int) -> None:
        """Check that everything read so far is the content that was opened.

        Args:
            sample: the last sample that was read, for the message.

        Raises:
            LoaderError: the file was truncated or modified since, or was closed.
        """
        if self.descriptor < 0:
            raise LoaderError(f"{self.path}: was closed; open it again")
        now = os.fstat(self.descriptor)
        if (now.st_size, now.st_mtime_ns) == (self.identity.size, self.identity.modified_ns):
            return
        found = f"{now.st_size:,} bytes, {self.identity.size:,} when it was opened"
        if now.st_size == self.identity.size:
            found = "same size, other time of modification"
        raise LoaderError(
            f"{self.path}: sample {sample}: the file was changed while it was read ({found}); open it again, and "
            "replace files by renaming, never in place"
        )

    def reader(self) -> NDArray[np.int64]:
        """Return the file in the form kernels read it, see `kernels.files.pread`."""
        return np.array([pread_address(), self.descriptor], np.int64)

    def close(self) -> None:
        """Close the descriptor; safe to call twice."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        super().close()

    def __del__(self) -> None:
        if getattr(self, "descriptor", -1) >= 0:
            os.close(self.descriptor)


def pread_address() -> int:
    """Return the address of C's pread with 64-bit offsets."""
    library = ctypes.CDLL(None)
    function = getattr(library, "pread64", None) or library.pread  # macOS has only a 64-bit pread
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)
