"""Write the dataset card of an exported set: features, provenance, licence note and what to cite."""

from collections.abc import Sequence
from typing import Any

import yaml

from fastdc._version import __version__
from fastdc.beton.export.layout import ExportSet
from fastdc.beton.manifest import Manifest

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
OWN_TITLE = "fastdc: large-scale dataset compression under one fair, fast, repeatable benchmark"
PLACES = {"tool", "version", "command", "method", "variant", "ipc", "seed", "config"}
"""Fields of `made` that have their own line, or that the others contain."""


def features(classes: Sequence[str]) -> dict[str, Any]:
    """Return the features as `datasets` keeps them in a parquet schema."""
    return {"image": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}


def dataset_card(images: ExportSet, split: str, table_bytes: int, file_bytes: int) -> str:
    """Return the text of README.md: a YAML header that the hub reads, then the card.

    Args:
        split: name of the only split.
        table_bytes: bytes of the rows in memory.
        file_bytes: bytes of the shards.
    """
    header = yaml.safe_dump(
        _header(images, split, table_bytes, file_bytes), sort_keys=False, allow_unicode=True, width=110
    )
    return f"---\n{header}---\n\n" + "\n".join(_body(images)) + "\n"


def _header(images: ExportSet, split: str, table_bytes: int, file_bytes: int) -> dict[str, Any]:
    count = len(images.beton)
    names = {str(label): name for label, name in enumerate(images.manifest.classes)}
    size = next((name for bound, name in SIZES if count < bound), "n>1M")
    return {
        "pretty_name": images.name,
        "license": "other",
        "license_name": "licence-of-the-source",
        "task_categories": ["image-classification"],
        "size_categories": [size],
        "tags": ["dataset-compression", "fastdc"],
        "dataset_info": {
            "features": [
                {"name": "image", "dtype": "image"},
                {"name": "label", "dtype": {"class_label": {"names": names}}},
            ],
            "splits": [{"name": split, "num_bytes": table_bytes, "num_examples": count}],
            "download_size": file_bytes,
            "dataset_size": table_bytes,
        },
        "configs": [{"config_name": "default", "data_files": [{"split": split, "path": f"data/{split}-*"}]}],
    }


def _body(images: ExportSet) -> list[str]:
    manifest = images.manifest
    filled = [count for count in manifest.counts if count]
    each = f"{min(filled)}" if min(filled) == max(filled) else f"{min(filled)} to {max(filled)}"
    classes = f"{len(manifest.classes):,} classes" + ("" if len(filled) == len(manifest.counts) else ", some empty")
    return [
        f"# {images.name}",
        "",
        f"{len(images.beton):,} images of {manifest.dataset}, {classes}, {each} images per class, "
        f"{manifest.image_bytes:,} bytes of images.",
        "",
        "## Provenance",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {_cell(value)} |" for name, value in _provenance(manifest).items()),
        "",
        "`fastdc.json` holds all of it, with the id and the hash of every image. `fastdc write-beton` of this folder "
        "restores the set as it was: images, order, classes and hints.",
        "",
        "## Licence",
        "",
        f"The images keep the licence of their source ({_cell(manifest.dataset)}). fastdc, which chose or made them, "
        "adds no terms of its own.",
        "",
        "## Citation",
        "",
        "```bibtex",
        "\n\n".join([*images.references, own_entry()]),
        "```",
    ]


def _provenance(manifest: Manifest) -> dict[str, Any]:
    """Return what is known about the making of the set, by the title of its line."""
    made = manifest.made
    tool = [made.get("tool", "fastdc"), made.get("command", made.get("version"))]  # a subset's version is its method's
    known = {
        "method": made.get("variant") or made.get("method"),
        "settings": made.get("config"),
        "images per class": made.get("ipc"),
        "seed": made.get("seed"),
        "version of the method": made.get("version") if made.get("method") else None,
        "made with": " ".join(str(part) for part in tool if part is not None),
        "exported with": f"fastdc {__version__}",
        "made from": manifest.source,
        "training hints": manifest.hints or "none",
        "content hash": manifest.content_hash,
        **{name: value for name, value in made.items() if name not in PLACES},
    }
    return {name: value for name, value in known.items() if value not in (None, "", [], {})}


def _cell(value: Any) -> str:
    """Return a value as text that keeps a Markdown table whole."""
    if isinstance(value, dict):
        value = ", ".join(f"{name}={item}" for name, item in value.items())
    return " ".join(str(value).split()).replace("|", "\\|")


def own_entry() -> str:
    """Return the BibTeX entry of fastdc itself."""
    lines = (f"  title={{{OWN_TITLE}}},", "  author={{The fastdc developers}},", f"  version={{{__version__}}}")
    return "\n".join(("@software{fastdc,", *lines, "}"))
