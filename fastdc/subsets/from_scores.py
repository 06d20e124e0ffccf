"""Rank the training images by the scores in a file, and store one end of the ranking."""

from pathlib import Path

from fastdc.beton import BetonFile, Manifest, check_beton_output, describe_beton
from fastdc.beton.hints import stored_hints
from fastdc.beton.missing_manifest import one_use
from fastdc.beton.sample_order import Order
from fastdc.common.choices import End
from fastdc.common.errors import MethodError
from fastdc.common.files import check_output
from fastdc.common.keys import bytes_key
from fastdc.methods import Compressed
from fastdc.methods.bases.method import shortage
from fastdc.methods.bases.score_methods import ScoreConfig
from fastdc.methods.bases.selection import score_range, select_among
from fastdc.subsets.lists import list_path, write_list
from fastdc.subsets.request import DEFAULT_IMAGE_SIZE
from fastdc.subsets.score_files import read_scores
from fastdc.subsets.store_subset import made_by, note_enlarged, store_compressed


@one_use()
def compress_scores(
    source: Path,
    train: Path,
    out: Path,
    *,
    ipc: int,
    config: ScoreConfig,
    score: str | None = None,
    high: End | None = None,
    image_size: int | None = None,
    index_order: Order = "imagefolder",
    force: bool = False,
) -> Manifest:
    """Store the images at one end of a ranking by the scores of a file, as a method that ranks by them does.

    The bytes equal those of the method whose scores the file holds. Ties go to the lower index. X.list.tsv beside `out`
    names the images with their scores.

    Args:
        source: the file; see `fastdc.subsets.score_files.read_scores`.
        ipc: images per class, at least 1.
        config: end of the ranking that is kept, by difficulty; whether every class keeps `ipc` images; how an image
            becomes S x S; crops of training.
        score, high, index_order: see `read_scores`.
        image_size: side S in pixels; None takes 224.

    Raises:
        MethodError: a score is not usable, or a class has fewer images than `ipc`.
        ConfigError: the file cannot be read, or has no such column.
        OutputError: `out` exists and `force` is false, or cannot be written.
    """
    listed = list_path(out)
    check_beton_output(out, force, [train, source])
    check_output(listed, force, [source])
    manifest, size = describe_beton(train), image_size or DEFAULT_IMAGE_SIZE
    with BetonFile(train) as beton:
        scores, name = read_scores(source, manifest, beton.labels, name=score, high=high, index_order=index_order)
        problem = shortage(manifest.classes, manifest.counts, ipc, ipc, config.balanced)
        if problem is not None:
            raise MethodError(f"compress from-scores: {problem}; lower --ipc")
        if image_size is None:
            note_enlarged(beton, size)
        chosen = select_among(scores, beton.labels, len(manifest.classes), ipc, config.keep, config.balanced)
        compressed = Compressed(
            beton.labels[chosen],
            chosen[:, None],
            hints=stored_hints(config.augment, {}),
            details=score_range(scores[chosen]),
        )
        made = made_by("from-scores", manifest) | {
            "scores": bytes_key(scores.tobytes()),
            "score": name,
            "config": config.identity(),
            "ipc": ipc,
            "image_size": size,
            "variant": "from-scores",
            "details": compressed.details,
        }
        stored = store_compressed(out, compressed, beton, manifest, config.fit, size, made, force)
        write_list(listed, manifest, beton.labels, chosen.tolist(), scores)
    return stored
