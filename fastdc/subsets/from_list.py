"""Store the training images that a list names, or make the mosaics again that it describes."""

from functools import partial
from pathlib import Path

from fastdc.beton import BetonFile, Manifest, check_beton_output, describe_beton
from fastdc.beton.hints import stored_hints
from fastdc.beton.missing_manifest import one_use
from fastdc.beton.sample_order import Order
from fastdc.common.errors import ConfigError
from fastdc.common.files import check_output
from fastdc.common.keys import content_key
from fastdc.methods import Compressed
from fastdc.methods.bases.method_config import Fit
from fastdc.methods.bases.mosaics import store_mosaics
from fastdc.subsets.lists import ImageList, list_path, read_list, write_list
from fastdc.subsets.request import DEFAULT_IMAGE_SIZE
from fastdc.subsets.store_subset import made_by, note_enlarged, store_compressed


@one_use()
def compress_list(
    source: Path,
    train: Path,
    out: Path,
    *,
    image_size: int | None = None,
    fit: Fit | None = None,
    augment: str | None = None,
    index_order: Order = "imagefolder",
    force: bool = False,
) -> Manifest:
    """Store the training images that a list names, in the list's order, as `compress_beton` stores them.

    A list of mosaics (PCA's) makes the mosaics again, hints included. The bytes equal those of the set beside the
    list. X.list.tsv is rewritten beside `out`, so that no list of an earlier subset stays. If that file is `source`
    itself, it is left untouched.

    Args:
        source: the list; see `fastdc.subsets.lists.read_list`.
        image_size: side S in pixels; None takes that of a list of mosaics, else 224.
        fit: how an image becomes S x S, or fills its tile; None takes that of a list of mosaics, else "crop".
        augment: crops of training (`tile:...`); None takes those of a list of mosaics, else none.
        index_order: numbering of the indices; see `read_list`.

    Raises:
        MethodError: an entry of the list is not usable; names its line.
        ConfigError: the list cannot be read, or packed mosaics are requested at another size.
        OutputError: `out` exists and `force` is false, or cannot be written.
    """
    check_beton_output(out, force, [train, source])
    listed = list_path(out)
    own = listed.exists() and source.exists() and listed.samefile(source)
    if not own:
        check_output(listed, force)
    manifest = describe_beton(train)
    with BetonFile(train) as beton:
        found = read_list(source, manifest, beton.labels, index_order)
        size = image_size or (found.combined.image_size if found.combined is not None else DEFAULT_IMAGE_SIZE)
        if image_size is None and found.combined is None:
            note_enlarged(beton, size)
        check_side(source, found, size)
        compressed = _from_list(source, found, beton, size, fit, augment)
        mosaic = compressed.mosaic
        numbers = found.sources.tolist() if mosaic else found.sources.ravel().tolist()
        facts = {"list": content_key(numbers), "fit": mosaic.fit if mosaic else fit or "crop", "image_size": size}
        made = made_by("from-list", manifest) | facts | {"variant": "from-list"}
        made |= {"grid": mosaic.grid} if mosaic else {}
        stored = store_compressed(out, compressed, beton, manifest, fit or "crop", size, made, force)
        if not own:
            combined = found.combined
            if combined is not None and mosaic is not None:
                combined = combined.model_copy(
                    update={"image_size": size, "fit": mosaic.fit, "hints": compressed.hints}
                )
            write_list(listed, manifest, beton.labels, found.sources.ravel().tolist(), None, combined)
    return stored


def check_side(source: Path, found: ImageList, size: int) -> None:
    """Refuse another size for packed mosaics: their side and byte budget belong to the recorded size."""
    combined = found.combined
    if combined is not None and combined.side is not None and size != combined.image_size:
        raise ConfigError(
            f"{source}: packed for --image-size {combined.image_size}, found {size}; leave --image-size out, or run "
            f"fastdc compress {combined.method} at {size}"
        )


def _from_list(
    source: Path, found: ImageList, beton: BetonFile, image_size: int, fit: Fit | None, augment: str | None
) -> Compressed:
    """Return the images of a list as a compressed set: unchanged, or combined into mosaics."""
    labels = beton.labels[found.sources[:, 0]]
    if found.combined is None:
        return Compressed(labels, found.sources, hints=stored_hints(augment, {}))
    mosaic = found.combined.mosaic(source, fit)
    images = partial(store_mosaics, beton.decode, found.sources, image_size, mosaic)
    hints = stored_hints(augment, found.combined.hints)
    return Compressed(labels, found.sources, images=images, hints=hints, mosaic=mosaic)
