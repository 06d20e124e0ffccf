"""Check that the indices of other programs count the images of a training set."""

from pathlib import Path

from fastdc.beton import Manifest
from fastdc.beton.sample_order import in_imagefolder, is_imagefolder_order
from fastdc.common.errors import MethodError
from fastdc.common.log import log_message

ORDER_ADVICE = "name images by id or path, or, where the indices count the images of the beton, add --index-order own"


def check_index_order(path: Path, manifest: Manifest, advice: str = ORDER_ADVICE, what: str = "indices") -> None:
    """Refuse indices unless image i of the beton is sample i of ImageFolder.

    Manifests of older versions do not record the order. If such a manifest shows no reason against it, the indices
    are accepted with a note.

    Raises:
        MethodError: the orders differ or may differ; the message gives the reason.
    """
    if manifest.order == "imagefolder":
        return
    reason = _why_own(manifest)
    if manifest.order is None and reason is None:
        log_message(
            f"note: {path}: holds {what}, and the manifest of {manifest.dataset} is of a fastdc that did not record "
            "the order of images; it looks like ImageFolder's, unless hidden images were left out: write it again"
        )
        return
    raise MethodError(
        f"{path}: holds {what}, but images of {manifest.dataset} are not numbered as torchvision's ImageFolder does "
        f"({reason or 'hidden images, litter or linked folders were left out'}); {advice}"
    )


def _why_own(manifest: Manifest) -> str | None:
    """Return why the order is not ImageFolder's; None if the manifest shows no reason."""
    if manifest.inferred:
        return "its manifest is missing, which records their order"
    if "holdout" in manifest.made:
        return "a sweep holds part of them out"
    lost = [skipped.path for skipped in manifest.skipped if skipped.kind == "unreadable"]
    if manifest.made.get("tool") != "fastdc write-beton" or "columns" in manifest.made:
        return "they do not come from class folders"
    if manifest.made.get("selection") is not None:
        return "only some classes were written"
    if any(map(in_imagefolder, lost)):
        return f"{len(lost)} images were skipped, such as {lost[0]}"
    other = next((name for name in manifest.ids if not in_imagefolder(name)), None)
    if other is not None:
        return f"ImageFolder does not read files such as {other}"
    return None if is_imagefolder_order(manifest.ids) else "its folders or classes stand in another order"
