"""Conformance suite of kinds of sources: the example that each writes, read as `fastdc write-beton` reads it."""

from functools import cached_property
from pathlib import Path

from fastdc.beton import load_manifest, verify_beton, write_beton
from fastdc.beton.sources.open_source import open_source, source_of, sources
from fastdc.common.errors import SourceError
from fastdc.conformance.suite import ConformanceError, Suite, expect

FEWEST_CLASSES = 2


class SourceSuite(Suite):
    """Suite of kinds of sources."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        self.source = sources().get(name)

    def example_is_recognised(self) -> None:
        """Check that the example is taken for this kind, not for another."""
        found = source_of(self._example).name
        expect(found == self.name, f"source '{found}' recognised the example", f"'{self.name}'")

    def other_examples_are_left_alone(self) -> None:
        """Check that this kind takes no source of another kind."""
        for name, other in sources().parts.items():
            if name != self.name:
                folder = self.folder / "others" / name
                folder.mkdir(parents=True)
                try:
                    example = other.example(folder)
                except SourceError:  # its reader needs a package that is not installed
                    continue
                expect(source_of(example).name != self.name, f"the example of '{name}' taken", "its own kind only")

    def every_image_is_fetched_once(self) -> None:
        """Check that the reader yields each image of the list."""
        with open_source(self._example) as opened:
            paths = list(opened.contents.paths())
            fetched = sorted(number for number, _ in opened.files.fetch_all(paths))
        expect(fetched == list(range(len(paths))), f"images {fetched}", f"0 to {len(paths) - 1}, each once")

    def labels_are_in_range(self) -> None:
        """Check classes and labels, as they are found before anything is written."""
        with open_source(self._example) as opened:
            labels, classes = set(opened.contents.labels.tolist()), opened.contents.classes
        expect(len(classes) >= FEWEST_CLASSES, f"{len(classes)} classes", f"an example with at least {FEWEST_CLASSES}")
        expect(labels <= set(range(len(classes))), f"labels {sorted(labels)}", f"0 to {len(classes) - 1}")

    def order_is_stable(self) -> None:
        """Check that images have one order, for any number of threads."""
        first, second = (self._write(f"order{workers}", workers) for workers in (1, 3))
        expect(load_manifest(first).ids == load_manifest(second).ids, "another order", "one order of images")
        expect(first.read_bytes() == second.read_bytes(), "other bytes of a second call", "equal ones")

    def written_beton_verifies(self) -> None:
        """Check every image that was written."""
        problems = verify_beton(self._write("beton", 2), deep=True)
        expect(not problems, f"{len(problems)} problems, first {problems[:1]}", "a sound beton")

    def a_damaged_file_is_an_error(self) -> None:
        """Check that the largest file cut in half, as a broken download leaves it, is reported in one line."""
        folder = self.folder / "damaged"
        folder.mkdir()
        example = self.source.example(folder)
        largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        content = largest.read_bytes()
        largest.write_bytes(content[: len(content) // 2])
        try:
            write_beton(example, self.folder / "damaged.beton")
        except SourceError as error:
            expect("\n" not in str(error), "a message of several lines", "one line")
            return
        raise ConformanceError(f"found no error with half of {largest.relative_to(folder)}, expected a SourceError")

    @cached_property
    def _example(self) -> Path:
        folder = self.folder / "example"
        folder.mkdir()
        return self.source.example(folder)

    def _write(self, name: str, workers: int) -> Path:
        out = self.folder / f"{name}.beton"
        write_beton(self._example, out, workers=workers)
        return out
