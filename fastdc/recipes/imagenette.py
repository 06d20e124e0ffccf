"""Write Imagenette (version 2) as betons: 9,469 train and 3,925 val images of 10 classes, by sorted WordNet id.

    python writers/imagenette.py [--size 160|320|full] [--source FOLDER or ARCHIVE] [--out data/imagenette]

The classes are ten of ImageNet's. Without --source the set is downloaded from fast.ai (94 MB for --size 160, 1.5 GB for
full). Another run checks the existing betons and leaves them unchanged.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from fastdc.beton.sources.archives import open_tree
from fastdc.beton.sources.class_folders import list_classes
from fastdc.common.errors import SourceError
from fastdc.recipes.download import Archive, get_archive
from fastdc.recipes.expected import DataSet, Split
from fastdc.recipes.recipe import Found, make_parser, run, write_splits
from fastdc.recipes.tree_paths import find_path

CLASSES = (
    "n01440764",  # tench
    "n02102040",  # English springer
    "n02979186",  # cassette player
    "n03000684",  # chain saw
    "n03028079",  # church
    "n03394916",  # French horn
    "n03417042",  # garbage truck
    "n03425413",  # gas pump
    "n03445777",  # golf ball
    "n03888257",  # parachute
)
_TRAIN = dict(zip(CLASSES, (963, 955, 993, 858, 941, 956, 961, 931, 951, 960), strict=True))
_VAL = dict(zip(CLASSES, (387, 395, 357, 386, 409, 394, 389, 419, 399, 390), strict=True))
IMAGENETTE = DataSet(
    name="imagenette",
    title="Imagenette",
    recipe="writers/imagenette.py",
    version=1,
    num_classes=10,
    splits=(Split("train", 9469, (858, 993), _TRAIN), Split("val", 3925, (357, 419), _VAL)),
    classes=CLASSES,
)
# The MD5s are those that torchvision 0.29 checks (torchvision.datasets.Imagenette).
ARCHIVES: Mapping[str, Archive] = {
    size: Archive(f"https://s3.amazonaws.com/fast-ai-imageclas/{name}.tgz", md5)
    for size, name, md5 in (
        ("160", "imagenette2-160", "e793b78cc4c9e9a4ccc0c1155377a412"),
        ("320", "imagenette2-320", "3df6f0d01a2c9592104656642f5e78a3"),
        ("full", "imagenette2", "fe2fc210e6bb7c5664d602c3cd71e612"),
    )
}


def main(
    arguments: Sequence[str] | None = None,
    data: DataSet = IMAGENETTE,
    archives: Mapping[str, Archive] = ARCHIVES,
) -> None:
    """Run the command line; exit with 2 and a one-line message on bad input."""
    run(data, parse_options(arguments, data, archives), partial(find_or_fetch, archives))


def write_images(out: Path, source: Path | None) -> Iterator[str]:
    """Write both splits unless they are there; yield a line about each.

    Args:
        out: folder for the betons, and for the archive if it is downloaded.
        source: archive of the published set, or its folder; None downloads the 160 px one.

    Raises:
        SourceError, OutputError: see `fastdc.recipes.recipe.write_splits`.
    """
    arguments = [f"--out={out}", *([f"--source={source}"] if source else [])]
    options = parse_options(arguments, IMAGENETTE, ARCHIVES)
    return write_splits(IMAGENETTE, options, partial(find_or_fetch, ARCHIVES))


def parse_options(
    arguments: Sequence[str] | None, data: DataSet, archives: Mapping[str, Archive]
) -> argparse.Namespace:
    """Parse the recipe's options; the name of the source sets the size that is not given."""
    parser = make_parser(__doc__, data)
    parser.add_argument("--size", choices=tuple(archives), help="which of the published sizes (default: 160)")
    options = parser.parse_args(arguments)
    options.size = options.size or name_size(options.source.name if options.source else "imagenette2-160")
    return options


def find_or_fetch(archives: Mapping[str, Archive], options: argparse.Namespace, split: str) -> Found:
    """Find a split in `options.source`, which is downloaded if it is None."""
    if options.source is None:
        options.source = get_archive(archives[options.size], options.out, quiet=options.quiet)
    return find_split(options, split)


def name_size(name: str) -> str | None:
    """Infer the size from the name of a folder or archive ("imagenette2-160.tgz"); None if the name is another."""
    match = re.match(r"imagenette2?(?:-(\d+))?(?:\.|$)", name)
    return (match[1] or "full") if match else None


def find_split(options: argparse.Namespace, split: str) -> Found:
    """Find a split in `options.source`; see `recipe.Find`."""
    tree = open_tree(options.source)
    try:
        root = find_path(tree, split)
        if root is None:
            raise SourceError(
                f"{options.source}: holds no folder {split}, expected imagenette2-160 or an archive of it"
            )
        return Found(tree, list_classes(tree, options.source, root))
    except BaseException:
        tree.close()
        raise
