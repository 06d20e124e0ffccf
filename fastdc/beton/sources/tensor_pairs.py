"""Find the arrays of images and labels in an `.npz`, and in what distillation codes and torchvision save with torch."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fastdc.beton.image_kinds import NO_IMAGES
from fastdc.beton.sources.named_arrays import CLASSES, find_pair
from fastdc.beton.sources.npz_arrays import NpzArray, find_array, npz_names, open_npz
from fastdc.beton.sources.torch_files import TorchArray, is_array, is_labels, load_torch, values_of
from fastdc.beton.texts import one_spelling
from fastdc.common.errors import SourceError
from fastdc.common.log import log_message

TORCH_SUFFIXES = (".pt", ".pth")


class Pair(NamedTuple):
    """Images and their labels.

    Attributes:
        name: name of the array of images; the ids of samples begin with it.
        classes: names of classes 0, 1, ..., if the file has them.
        made: what the manifest records about the choice.
    """

    name: str
    images: NpzArray | TorchArray
    labels: NpzArray | TorchArray
    classes: tuple[str, ...] | None = None
    made: Mapping[str, Any] = {}


@contextmanager
def open_pair(path: Path, split: str | None) -> Iterator[Pair]:
    """Open the images and labels of a file, or of a folder with `images_X.pt` and `labels_X.pt`, for the block.

    Args:
        path: the file or folder.
        split: "train", ... if the file's arrays name splits; the number of an experiment if it holds several.

    Raises:
        SourceError: there is no pair of images and labels, or the file is damaged.
    """
    if path.suffix.lower() == ".npz":
        with open_npz(path) as archive:
            names = npz_names(archive)
            images, labels = find_pair(names, split, path)
            found = [name for name in CLASSES if name in names]
            classes = _names(find_array(archive, found[0], path).whole().tolist()) if found else None
            yield Pair(images, find_array(archive, images, path), find_array(archive, labels, path), classes)
    else:
        yield _torch_pair(find_images(path) if path.is_dir() else path, split)


def find_images(folder: Path) -> Path:
    """Return the `images_X.pt` of a folder that has `labels_X.pt` beside it: `images_best.pt`, or the only one.

    Raises:
        SourceError: there are several, and none is called best.
    """
    pairs = list_pairs(folder)
    best = [path for path in pairs if path.stem == "images_best"]
    if len(best or pairs) != 1:
        named = ", ".join(path.name for path in pairs[:4])
        raise SourceError(f"{folder}: has {len(pairs)} pairs of images and labels ({named}); give one of these files")
    return (best or pairs)[0]


def list_pairs(folder: Path) -> list[Path]:
    """Return the files `images*.pt` of a folder that have a `labels*.pt` beside them."""
    return [path for suffix in TORCH_SUFFIXES for path in sorted(folder.glob(f"images*{suffix}")) if _beside(path)]


def _beside(images: Path) -> Path | None:
    labels = images.with_name(images.name.replace("images", "labels"))
    return labels if labels != images and labels.is_file() else None


def _torch_pair(path: Path, split: str | None) -> Pair:
    content = load_torch(path)
    if isinstance(content, Mapping) and _are_experiments(content.get("data")):
        content = content["data"]
    if _are_experiments(content):
        return _experiment(content, split, path)
    if isinstance(content, Mapping):
        tensors = {str(name): item for name, item in content.items() if is_labels(item)}
        images, labels = find_pair(tensors, split, path)
        classes = next((_names(content[name]) for name in CLASSES if name in content), None)
        return _pair(images, tensors[images], tensors[labels], path)._replace(classes=classes)
    if split is not None:
        raise SourceError(f"{path}: names no splits, but {split!r} was requested; omit --split")
    if _is_pair(content):
        return _pair("images", content[0], content[1], path)
    if is_array(content):
        return _lone(values_of(content, path, "images"), path)
    kinds = ", ".join(type(item).__name__ for item in content[:3]) if isinstance(content, list | tuple) else ""
    raise SourceError(
        f"{path}: holds a {type(content).__name__}{f' of {kinds}' if kinds else ''}, expected images and labels: a "
        f"dictionary of two tensors, or a tuple of them; {NO_IMAGES}"
    )


def _lone(images: TorchArray, path: Path) -> Pair:
    beside = _beside(path)
    if beside is None:
        raise SourceError(
            f"{path}: holds one tensor, {list(images.shape)}, without labels; put them beside it as "
            f"images_X.pt and labels_X.pt; {NO_IMAGES}"
        )
    labels = load_torch(beside)
    if not is_labels(labels):
        raise SourceError(f"{beside}: holds a {type(labels).__name__}, expected one tensor of labels")
    return Pair(path.stem, images, values_of(labels, beside, "labels"))


def _experiment(content: Sequence[Any], split: str | None, path: Path) -> Pair:
    """Return one of the sets that a repeated run saved."""
    last = len(content) - 1
    if split is not None and not (split.isdecimal() and int(split) <= last):
        raise SourceError(f"{path}: has no set {split!r}; it holds one for each experiment: --split 0 to {last}")
    if split is None and last:
        log_message(f"note: {path}: holds {last + 1} sets, one for each experiment; reading the first (--split 0)")
    number = int(split or 0)
    images, labels = content[number][:2]
    return _pair("images", images, labels, path)._replace(made={"experiment": number})


def _pair(name: str, images: Any, labels: Any, path: Path) -> Pair:
    return Pair(name, values_of(images, path, name), values_of(labels, path, "labels"))


def _are_experiments(content: Any) -> bool:
    return isinstance(content, list | tuple) and bool(content) and all(map(_is_pair, content))


def _is_pair(content: Any) -> bool:
    return isinstance(content, list | tuple) and len(content) >= 2 and is_array(content[0]) and is_labels(content[1])


def _names(found: Any) -> tuple[str, ...] | None:
    """Return class names if that is what a file holds under their name."""
    named = isinstance(found, list | tuple) and bool(found) and all(isinstance(name, str) for name in found)
    return tuple(map(one_spelling, found)) if named else None
