"""Export a set in a layout of other programs, with the papers to cite."""

from pathlib import Path

from fastdc.beton.export.export_images import ExportResult, export_images
from fastdc.beton.manifest import load_manifest
from fastdc.common.choices import LayoutName
from fastdc.common.errors import MethodError
from fastdc.common.log import progress_shown
from fastdc.methods import get_method
from fastdc.methods.bases.literature import references

BENCHMARK = "xiao2025rethinking"


def export_beton(
    beton: Path, out: Path, layout: LayoutName = "folder", *, force: bool = False, show_progress: bool = False
) -> ExportResult:
    """Write the images of a beton for other programs, with a record from which `write_beton` restores the beton.

    JPEG bytes stay untouched, raw pixels become PNG, and every image is checked against the hash in the manifest.

    Args:
        beton: the beton, usually a compressed set; its manifest is beside it.
        out: folder to write; for "npz", the file.
        layout: "folder" (class folders), "hf" (parquet shards with a dataset card), "webdataset" (tars), "npz" (arrays
            of decoded pixels), or "rethinkdc" (what the paper's code trains on).
        force: replace an earlier export. A folder that is not an export is never replaced.
        show_progress: report progress on stderr.

    Raises:
        BetonError: the beton is damaged; then nothing is written.
        ManifestError: its manifest is missing, damaged, or belongs to another beton.
        OutputError: `out` may not or cannot be written, or this set has no such layout.
        SourceError: "hf" needs pyarrow, which is not installed.
    """
    with progress_shown(show_progress):
        return export_images(beton, out, layout, references=_cited(Path(beton)), force=force)


def _cited(beton: Path) -> list[str]:
    """Return the BibTeX entries of the method that made a set, and of the benchmark."""
    entries = [references()[BENCHMARK]]
    method = load_manifest(beton).made.get("method")
    try:
        own = get_method(str(method)).info.bibtex if method else ""
    except MethodError:  # a plug-in that is not installed here
        own = ""
    return [own, *entries] if own and own not in entries else entries
