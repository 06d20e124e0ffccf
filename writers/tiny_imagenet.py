"""Write Tiny ImageNet as betons: 100,000 train and 10,000 val images of 64 x 64, 200 classes by sorted WordNet id.

    python writers/tiny_imagenet.py [--source FOLDER or tiny-imagenet-200.zip] [--out data/tiny_imagenet]

Without --source the zip is downloaded from Stanford's CS231n (248 MB). The labels of its flat val folder come from
val_annotations.txt; the unlabelled test folder is left out. Duplicate images are counted and kept, because every
published number was trained on 500 images per class. Another run checks the existing betons and leaves them unchanged.
"""

import argparse
from collections.abc import Sequence

from labels import flat_images, parse_labels, regroup

from fastdc.beton.sources.archives import open_tree
from fastdc.beton.sources.class_folders import Contents, list_classes
from fastdc.beton.sources.trees import Tree
from fastdc.common.errors import SourceError
from fastdc.recipes.download import Archive, get_archive
from fastdc.recipes.expected import DataSet, Split
from fastdc.recipes.recipe import Found, make_parser, run
from fastdc.recipes.tree_paths import find_path, read_member

TINY_IMAGENET = DataSet(
    name="tiny_imagenet",
    title="Tiny ImageNet",
    recipe="writers/tiny_imagenet.py",
    version=1,
    num_classes=200,
    splits=(Split("train", 100_000, (500, 500), repeated=27), Split("val", 10_000, (50, 50))),
)
# The MD5 is the one that public loaders of this set check, such as Avalanche's. The zip has 248,100,043 bytes.
ARCHIVE = Archive("http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de")


def main(arguments: Sequence[str] | None = None, data: DataSet = TINY_IMAGENET, archive: Archive = ARCHIVE) -> None:
    """Run the command line; exit with 2 and a one-line message on bad input."""
    options = make_parser(__doc__, data).parse_args(arguments)

    def find(options: argparse.Namespace, split: str) -> Found:
        if options.source is None:
            options.source = get_archive(archive, options.out, quiet=options.quiet)
        return find_split(options, split)

    run(data, options, find)


def find_split(options: argparse.Namespace, split: str) -> Found:
    """Find a split in `options.source`; see `recipe.Find`.

    Train has class/images/1.JPEG. Val has images/1.JPEG and a list, or class folders like train.
    """
    source = options.source
    tree = open_tree(source)
    try:
        root = find_path(tree, split)
        if root is None:
            raise SourceError(f"{source}: holds no folder {split}, expected tiny-imagenet-200 or a zip of it")
        classes = read_wnids(options, tree)
        annotations = find_path(tree, f"{split}/val_annotations.txt")
        images = find_path(tree, f"{split}/images")
        if images is None or annotations is None:
            return Found(tree, without_boxes(list_classes(tree, source, root)), classes, {"repeated": "kept"})
        text = read_member(tree, source, annotations).decode("utf-8", "replace")
        listed = parse_labels(text, flat_images(tree, images), source / annotations)
        regrouped = regroup(tree, source, images, listed, source / annotations)
        return Found(regrouped, list_classes(regrouped, source, ""), classes, {"repeated": "kept"})
    except BaseException:
        tree.close()
        raise


def read_wnids(options: argparse.Namespace, tree: Tree) -> tuple[str, ...]:
    """Return the classes in wnids.txt, sorted; empty if that file is missing."""
    if find_path(tree, "wnids.txt") is None:
        return ()
    return tuple(sorted(read_member(tree, options.source, "wnids.txt").decode("ascii", "replace").split()))


def without_boxes(contents: Contents) -> Contents:
    """Leave each class's list of object boxes out of `ignored`; the set includes them, so none counts as skipped."""
    return contents._replace(ignored=[path for path in contents.ignored if not path.endswith("_boxes.txt")])


if __name__ == "__main__":
    main()
