"""Read zip archives without unpacking them to disk."""

import zipfile
from pathlib import Path

from fastdc.beton.sources.archive_tree import DAMAGE, ArchiveTree
from fastdc.beton.sources.trees import check_size
from fastdc.beton.sources.zip_names import member_names
from fastdc.common.errors import SourceError
from fastdc.common.text import one_line


class ZipTree(ArchiveTree[zipfile.ZipInfo]):
    """Zip archive. `zipfile` guards its file with a lock, so several threads may read members at once."""

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        self._archive = zipfile.ZipFile(source)
        infos = self._archive.infolist()
        if any(info.volume for info in infos):  # number of the part that holds the member, from 0
            raise SourceError(
                f"{source}: is one part of a split zip; join the parts (zip -s 0 {source.name} --out WHOLE.zip)"
            )
        for name, info in zip(member_names(source, infos), infos, strict=True):
            self.add(name, None if name.endswith("/") else info)

    def _read(self, member: zipfile.ZipInfo) -> bytes:
        check_size(member.file_size)
        try:
            return self._archive.read(member)
        except RuntimeError as error:  # encrypted, or compressed by a method that Python does not support
            raise SourceError(f"cannot be unzipped ({error}); unpack the archive and give the folder") from error
        except DAMAGE as error:
            raise SourceError(f"cannot be unzipped ({one_line(error)})") from error

    def close(self) -> None:
        self._archive.close()
