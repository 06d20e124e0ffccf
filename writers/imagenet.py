"""Write ImageNet-1K (ILSVRC2012) as betons: 1,281,167 train and 50,000 val images, 1000 classes by sorted WordNet id.

    python writers/imagenet.py --source FOLDER [--out data/imagenet] [--resolution 256] [--classes imagenet100.txt]

Access to ImageNet must be requested at image-net.org or kaggle.com; this script downloads nothing. FOLDER holds one of
the following for each split:

    train/n01440764/*.JPEG, val/n01440764/*.JPEG      class folders, as torchvision expects them
    ILSVRC/Data/CLS-LOC/train, .../val                Kaggle's layout; val is flat, LOC_val_solution.csv beside ILSVRC
    ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar  the official archives, read without unpacking them

A flat val needs a list of its classes: --val-labels, or in FOLDER LOC_val_solution.csv, valprep.sh, val_labels.txt
("file wnid" lines), imagenet_2012_validation_synset_labels.txt, or the devkit (which needs scipy). Another run checks
the existing betons and leaves them unchanged.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from labels import flat_images, parse_labels, read_labels, regroup

from fastdc.beton.sources.archives import open_tree
from fastdc.beton.sources.class_folders import list_classes
from fastdc.beton.sources.trees import Tree
from fastdc.common.errors import SourceError
from fastdc.recipes.expected import DataSet, Split
from fastdc.recipes.recipe import Found, make_parser, run
from fastdc.recipes.tree_paths import find_path, read_member

IMAGENET = DataSet(
    name="imagenet",
    title="ImageNet-1K",
    recipe="writers/imagenet.py",
    version=1,
    num_classes=1000,
    splits=(
        # n02105855_2933.JPEG is a PNG. CMYK JPEGs: 22 in train, one in val.
        Split("train", 1_281_167, (732, 1300), converted={"cmyk": 22, "png": 1}),
        Split("val", 50_000, (50, 50), converted={"cmyk": 1}),
    ),
)
KAGGLE = "ILSVRC/Data/CLS-LOC"
LISTS = ("LOC_val_solution.csv", "valprep.sh", "val_labels.txt", "imagenet_2012_validation_synset_labels.txt")
DEVKITS = ("ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12.tar.gz")
SYNSETS = "LOC_synset_mapping.txt"


def main(arguments: Sequence[str] | None = None, data: DataSet = IMAGENET) -> None:
    """Run the command line; exit with 2 and a one-line message on bad input."""
    parser = make_parser(__doc__, data)
    parser.add_argument("--val-labels", type=Path, metavar="FILE", help="classes of a flat val folder")
    run(data, parser.parse_args(arguments), find_split)


def find_split(options: argparse.Namespace, split: str) -> Found:
    """Find a split in `options.source`; see `recipe.Find`."""
    if options.source is None:
        raise SourceError(
            "--source is missing: give the folder of train/ and val/, of Kaggle's ILSVRC/, or of the official archives"
        )
    source, tree = find_tree(options.source, split)
    try:
        root = find_path(tree, split, f"{KAGGLE}/{split}", f"Data/CLS-LOC/{split}", f"CLS-LOC/{split}")
        if root is None and source == options.source and not is_archive_of(source, split):
            raise SourceError(f"{source}: holds neither a folder {split} nor ILSVRC2012_img_{split}.tar")
        root = root or ""
        if split == "val" and not tree.list_folder(root).folders and flat_images(tree, root):
            return find_flat(options, tree, source, root)
        check_unpacked(tree, source, root)
        return Found(tree, list_classes(tree, source, root), read_synsets(tree, source))
    except BaseException:
        tree.close()
        raise


def find_tree(source: Path, split: str) -> tuple[Path, Tree]:
    """Open the source itself, or the split's official archive in it; a folder named like the split takes precedence."""
    archive = source / f"ILSVRC2012_img_{split}.tar"
    if archive.is_file() and not (source / split).is_dir():
        return archive, open_tree(archive)
    return source, open_tree(source)


def is_archive_of(source: Path, split: str) -> bool:
    """Return whether the source is the split's official archive."""
    return source.is_file() and source.name.startswith(f"ILSVRC2012_img_{split}.")


def check_unpacked(tree: Tree, source: Path, root: str) -> None:
    """Refuse a half-unpacked training set: a folder with one tar per class.

    Raises:
        SourceError: explains how to proceed.
    """
    listing = tree.list_folder(root)
    tars = [name for name in listing.files if name.endswith(".tar")]
    if tars and not listing.folders:
        raise SourceError(
            f"{source}/{root}: holds {len(tars)} tars, such as {min(tars)}, expected class folders; unpack them there "
            '(for t in *.tar; do mkdir "${t%.tar}" && tar xf "$t" -C "${t%.tar}"; done), or give '
            "ILSVRC2012_img_train.tar as it is"
        )


def find_flat(options: argparse.Namespace, tree: Tree, source: Path, root: str) -> Found:
    """Find a flat val folder, and sort its files into classes by a list.

    Raises:
        SourceError: there is no list, or it does not match the files.
    """
    files, inside = flat_images(tree, root), find_path(tree, *LISTS)
    if options.val_labels is None and inside is not None:
        labels = source / inside
        listed = parse_labels(read_member(tree, source, inside).decode("utf-8", "replace"), files, labels)
    else:
        labels = options.val_labels or find_list(options.source)
        listed = read_labels(labels, files)
    regrouped = regroup(tree, source, root, listed, labels)
    return Found(regrouped, list_classes(regrouped, source, ""), tuple(sorted(set(listed.values()))))


def find_list(source: Path) -> Path:
    """Return the path of the list of val's classes on disk, in the source's folder or the one above.

    Raises:
        SourceError: there is none.
    """
    folder = source if source.is_dir() else source.parent
    for place in (folder, folder.parent):
        for name in (*LISTS, *DEVKITS):
            if (place / name).exists():
                return place / name
    raise SourceError(
        f"{source}: val is flat, and none of {', '.join((*LISTS, DEVKITS[0]))} is there to name the classes; give "
        "--val-labels FILE"
    )


def read_synsets(tree: Tree, source: Path) -> tuple[str, ...]:
    """Return the classes in Kaggle's list, sorted; empty if the list is missing."""
    if find_path(tree, SYNSETS) is None:
        return ()
    lines = read_member(tree, source, SYNSETS).decode("utf-8", "replace").splitlines()
    return tuple(sorted(line.split()[0] for line in lines if line.strip()))


if __name__ == "__main__":
    main()
