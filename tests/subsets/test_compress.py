"""From method name to stored subset."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdc.beton import BetonFile, describe_beton, load_manifest, resize_image
from fastdc.common.errors import ConfigError, ManifestError, MethodError, OutputError
from fastdc.observe import load_observation
from fastdc.observe.record_needs import ObserverNeeds
from fastdc.subsets.compress import compress_beton, make_subset
from fastdc.subsets.request import SubsetRequest
from tests.subsets.requests import OBSERVER, WINDOW, compress


def test_random_depends_only_on_the_seed(betons: Any, tmp_path: Path) -> None:
    first, again, other = (
        compress(betons, tmp_path, "random", f"{i}.beton", seed=seed) for i, seed in enumerate([0, 0, 1])
    )
    assert first.read_bytes() == again.read_bytes()
    assert load_manifest(first).ids != load_manifest(other).ids
    assert load_manifest(first).counts == (2, 2, 2)


@pytest.mark.parametrize("length", [229, 232])
def test_the_longest_name_is_written_with_all_its_files(betons: Any, tmp_path: Path, length: int) -> None:
    stem = "n" * length
    compress(betons, tmp_path, "random", f"{stem}.beton")
    assert {path.name for path in tmp_path.iterdir()} >= {f"{stem}.beton", f"{stem}.json", f"{stem}.list.tsv"}


@pytest.mark.parametrize("length", [233, 235, 236, 250])
def test_a_name_too_long_for_one_of_its_files_leaves_none(betons: Any, tmp_path: Path, length: int) -> None:
    """The names of list and temporary files are longer than the beton's."""
    with pytest.raises(OutputError, match="choose a shorter name"):
        compress(betons, tmp_path, "random", f"{'n' * length}.beton")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", ["easy", "hard"])
def test_el2n_keeps_the_requested_end(betons: Any, tmp_path: Path, keep: str) -> None:
    out = compress(betons, tmp_path, "el2n", settings={"keep": keep, **WINDOW})
    manifest, train = load_manifest(out), describe_beton(betons.train)
    (folder,) = (tmp_path / "work" / "observers").iterdir()
    log = np.fromfile(folder / "dynamics.f32", "<f4").reshape(3, 5, 120)
    scores = log[:, 4].astype(np.float64).mean(0)
    kept = [train.ids.index(name) for name in manifest.ids]
    for label in range(3):
        with BetonFile(betons.train) as beton:
            members = np.flatnonzero(beton.labels == label)
        ranked = sorted(members, key=lambda i: scores[i] if keep == "easy" else -scores[i])[:2]
        assert set(ranked) == {i for i in kept if i in set(members)}
    assert manifest.hints == {}


def test_pca_tiles_whole_images_and_records_the_hint(betons: Any, tmp_path: Path) -> None:
    out = compress(betons, tmp_path, "pca", settings=WINDOW)
    manifest, train = load_manifest(out), describe_beton(betons.train)
    assert manifest.hints == {"tile_grid": 2}
    assert "grid" in manifest.made["details"]["inferred"]
    with BetonFile(out) as stored, BetonFile(betons.train) as beton:
        assert len(stored) == 6
        assert stored.labels.tolist() == [0, 0, 1, 1, 2, 2]
        for i, name in enumerate(manifest.ids):
            sources = [train.ids.index(part) for part in name.split("+")]
            assert len(set(sources)) == 4
            assert set(beton.labels[sources].tolist()) == {int(stored.labels[i])}
            tiles = [resize_image(beton.decode(j), 14, 14) for j in sources]
            mosaic = np.concatenate([np.concatenate(tiles[:2], 1), np.concatenate(tiles[2:], 1)])
            difference = np.abs(mosaic.astype(int) - stored.decode(i).astype(int))
            assert difference.mean() < 8  # JPEG q75 at 28 px; another tile order or image is far above
            swapped = np.concatenate([mosaic[14:], mosaic[:14]])
            assert np.abs(swapped.astype(int) - stored.decode(i)).mean() > difference.mean()


def test_full_stores_the_set_byte_for_byte(betons: Any, tmp_path: Path) -> None:
    out = compress(betons, tmp_path, "full")
    assert load_manifest(out).hashes == describe_beton(betons.train).hashes
    assert load_manifest(out).ids == describe_beton(betons.train).ids


def test_stored_images_are_square_jpegs_of_the_requested_size(betons: Any, tmp_path: Path) -> None:
    out = compress(betons, tmp_path, "random", image_size=16)
    with BetonFile(out) as beton:
        assert set(beton.heights) == set(beton.widths) == {16}
        assert set(beton.modes) == {0}


def test_bad_requests_are_refused_before_any_work(betons: Any, tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="ipc=41 needs 41 images of every class"):
        compress(betons, tmp_path, "random", ipc=41)
    with pytest.raises(MethodError, match="ipc=11 needs 44 images"):
        compress(betons, tmp_path, "pca", ipc=11)
    with pytest.raises(MethodError, match="ipc=0"):
        compress(betons, tmp_path, "random", ipc=0)
    with pytest.raises(MethodError, match="did you mean 'random'"):
        compress(betons, tmp_path, "randm")
    with pytest.raises(ConfigError, match="did you mean 'keep'"):
        compress(betons, tmp_path, "el2n", settings={"kep": "easy"})
    with pytest.raises(OutputError, match=r"\.beton"):
        compress(betons, tmp_path, "el2n", "out.json", settings=WINDOW)
    with pytest.raises(OutputError, match="does not exist"):
        compress(betons, tmp_path, "random", "missing/out.beton")
    with pytest.raises(MethodError, match="epochs up to 10, its schedule has 3"):
        compress(betons, tmp_path, "pca")
    with pytest.raises(MethodError, match="ipc=41 needs 123 images, the set has 120"):
        compress(betons, tmp_path, "el2n", ipc=41, settings={"balanced": False, **WINDOW})
    assert not (tmp_path / "work").exists()
    assert not list(tmp_path.glob("*.beton"))


def test_one_global_ranking_may_skew_the_classes(betons: Any, tmp_path: Path) -> None:
    out = compress(betons, tmp_path, "el2n", ipc=30, settings={"balanced": False, **WINDOW})
    assert sum(load_manifest(out).counts) == 90


def test_an_existing_subset_needs_force(betons: Any, tmp_path: Path) -> None:
    out = compress(betons, tmp_path, "random")
    before = out.read_bytes()
    with pytest.raises(OutputError, match="--force"):
        compress(betons, tmp_path, "random", seed=1)
    assert out.read_bytes() == before
    compress(betons, tmp_path, "random", seed=1, force=True)
    assert out.read_bytes() != before


def test_the_training_set_cannot_be_overwritten(betons: Any, tmp_path: Path) -> None:
    train = tmp_path / "train.beton"
    for suffix in (".beton", ".json"):
        train.with_suffix(suffix).write_bytes(betons.train.with_suffix(suffix).read_bytes())
    with pytest.raises(OutputError):
        compress_beton("random", train, train, ipc=2, image_size=28, workdir=tmp_path, force=True)
    assert train.read_bytes() == betons.train.read_bytes()


def test_the_list_of_mosaics_names_their_sources(betons: Any, tmp_path: Path) -> None:
    out = compress(betons, tmp_path, "pca", settings=WINDOW, ipc=1)
    rows = (tmp_path / "out.list.tsv").read_text().splitlines()[2:]
    names = [line.split("\t")[0] for line in rows]
    assert [line.split("\t")[3] for line in rows] == [str(place // 4) for place in range(12)]
    assert ["+".join(names[i : i + 4]) for i in range(0, 12, 4)] == list(load_manifest(out).ids)
    assert '"view"' not in (tmp_path / "out.list.tsv").read_text(), "earlier releases refuse unknown keys"


@pytest.mark.parametrize(("method", "settings"), [("pca", WINDOW), ("ssp", {}), ("moderate", {})])
def test_every_ranking_names_its_scores(betons: Any, tmp_path: Path, method: str, settings: dict[str, Any]) -> None:
    compress(betons, tmp_path, method, settings=settings, ipc=1)
    rows = (tmp_path / "out.list.tsv").read_text().splitlines()
    cells = [line.split("\t") for line in rows if not line.startswith("#")]
    assert all(float(score) >= 0 for _, _, score, *_ in cells)


def test_one_training_serves_other_methods(betons: Any, tmp_path: Path) -> None:
    also = ObserverNeeds(final=True, tdds=2)
    options: Any = {"ipc": 1, "image_size": 28, "settings": {"last_epoch": 1}, "observer": OBSERVER, "also": also}
    made = compress_beton("el2n", betons.train, tmp_path / "out.beton", workdir=tmp_path / "work", **options)
    (folder,) = (tmp_path / "work" / "observers").iterdir()
    record = load_observation(folder)
    assert record is not None
    assert record.serves(also, 3)
    assert made.seconds["observer"] == record.seconds(1) < record.seconds()  # its cost covers what it reads
    assert set(made.seconds) == {"observer", "teacher", "scoring", "selection", "writing"}


def test_impossible_needs_of_other_methods_are_ignored(betons: Any, tmp_path: Path) -> None:
    observer = OBSERVER.model_copy(update={"arch": "squeezenet1_1", "image_size": 32, "epochs": 1})
    also = ObserverNeeds(final=True)
    out = compress(betons, tmp_path, "el2n", ipc=1, settings={"last_epoch": 1}, observer=observer, also=also)
    assert load_manifest(out).counts == (1, 1, 1)


def test_a_training_set_that_changed_after_the_request_is_refused(betons: Any, tmp_path: Path) -> None:
    train, out = tmp_path / "train.beton", tmp_path / "out.beton"
    for suffix in (".beton", ".json"):
        train.with_suffix(suffix).write_bytes(betons.train.with_suffix(suffix).read_bytes())
    request = SubsetRequest.make("random", train, workdir=tmp_path, ipc=2, image_size=28)
    train.write_bytes(betons.val.read_bytes())
    with pytest.raises(ManifestError, match="changed after it was read"):
        make_subset(request, out)
    assert not out.exists()
