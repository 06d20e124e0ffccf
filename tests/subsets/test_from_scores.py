"""The images at one end of a ranking by scores in a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdc.beton import BetonFile, load_manifest
from fastdc.common.errors import MethodError, OutputError
from fastdc.methods import select
from fastdc.methods.bases.score_methods import ScoreConfig
from fastdc.subsets.from_list import compress_list
from fastdc.subsets.from_scores import compress_scores


def store(betons: Any, tmp_path: Path, scores: Any, ipc: int = 2, **options: Any) -> list[str]:
    """Return the ids that are stored for scores in the order of the beton."""
    settings = {"index_order": "own", "high": None, "force": True} | options
    config = ScoreConfig(
        **{key: settings.pop(key) for key in ("keep", "balanced", "fit", "augment") if key in settings}
    )
    np.save(tmp_path / "s.npy", scores)
    out = tmp_path / "kept.beton"
    compress_scores(tmp_path / "s.npy", betons.train, out, ipc=ipc, config=config, image_size=28, **settings)
    return list(load_manifest(out).ids)


@pytest.mark.parametrize("keep", ["easy", "hard"])
@pytest.mark.parametrize("balanced", [True, False])
def test_the_kept_end_is_that_of_select(betons: Any, tmp_path: Path, keep: Any, balanced: bool) -> None:
    manifest = load_manifest(betons.train)
    scores = np.random.default_rng(0).integers(0, 9, len(manifest.ids)).astype(float)  # with many ties
    with BetonFile(betons.train) as beton:
        chosen = select(scores, beton.labels, 2, keep, balanced)
    expected = [manifest.ids[index] for index in chosen]
    assert store(betons, tmp_path, scores, keep=keep, balanced=balanced) == expected
    rows = [row.split("\t") for row in (tmp_path / "kept.list.tsv").read_text().splitlines()[1:]]
    assert [row[0] for row in rows] == expected
    assert [float(row[2]) for row in rows] == scores[chosen].tolist()
    other = "hard" if keep == "easy" else "easy"
    assert store(betons, tmp_path, -scores, keep=keep, balanced=balanced, high="easy") == expected
    assert store(betons, tmp_path, -scores, keep=other, balanced=balanced) == expected


def test_the_manifest_records_the_ranking(betons: Any, tmp_path: Path) -> None:
    store(betons, tmp_path, np.arange(120), keep="hard", augment="tile:2")
    stored = load_manifest(tmp_path / "kept.beton")
    assert stored.made["command"] == "compress from-scores"
    assert stored.made["config"] == {"fit": "crop", "augment": "tile:2", "keep": "hard", "balanced": True}
    assert stored.hints["tile_grid"] == 2
    first = stored.made["scores"]
    store(betons, tmp_path, np.arange(120) + 1, keep="hard")
    assert load_manifest(tmp_path / "kept.beton").made["scores"] != first


def test_unusable_scores_leave_no_file(betons: Any, tmp_path: Path) -> None:
    with pytest.raises(MethodError, match=r"ipc=41 needs 41 images of every class, class '.*' has 40; lower --ipc"):
        store(betons, tmp_path, np.arange(120), ipc=41)
    with pytest.raises(MethodError, match="ipc=41 needs 123 images, the set has 120"):
        store(betons, tmp_path, np.arange(120), ipc=41, balanced=False)
    with pytest.raises(MethodError, match=r"holds float64 \[119\], expected numbers \[120\]"):
        store(betons, tmp_path, np.arange(119.0))
    assert [path.name for path in tmp_path.iterdir()] == ["s.npy"]


def test_the_scores_are_not_overwritten(betons: Any, tmp_path: Path) -> None:
    listed = tmp_path / "kept.list.tsv"
    listed.write_text("".join(f"{name}\t\t0\n" for name in load_manifest(betons.train).ids))
    with pytest.raises(OutputError, match=r"kept\.list\.tsv: is an input of this command"):
        compress_scores(
            listed, betons.train, tmp_path / "kept.beton", ipc=1, config=ScoreConfig(), image_size=28, force=True
        )


def test_images_that_the_default_side_enlarges_are_reported(
    betons: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "s.npy", np.arange(120))
    (tmp_path / "kept.txt").write_text("0\n")
    config = ScoreConfig(keep="easy")
    for given in ({}, {"image_size": 28}):
        common: Any = {"index_order": "own", "force": True, **given}
        compress_scores(tmp_path / "s.npy", betons.train, tmp_path / "a.beton", ipc=1, config=config, **common)
        compress_list(tmp_path / "kept.txt", betons.train, tmp_path / "b.beton", **common)
        lines = capsys.readouterr().err.splitlines()
        assert len(
            [line for line in lines if "28 px at most (shorter side), are enlarged to 224 px; --image-size 28" in line]
        ) == (0 if given else 2)
