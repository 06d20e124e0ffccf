"""PACT: the bytes of random's set, the choice of the grid, and the hints for training."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastdc.beton import BetonFile, decode_image, encode_jpeg_within, fit_image, load_manifest
from fastdc.common.errors import ConfigError, MethodError
from fastdc.methods import get_method
from fastdc.methods.bases.method import Mosaic
from fastdc.methods.bases.mosaics import store_mosaics
from fastdc.methods.combination.pact import ENCODERS, tile_sides
from fastdc.observe import ObserverConfig
from fastdc.subsets.compress import compress_beton
from fastdc.subsets.from_list import compress_list
from fastdc.train.data_pair import training_side
from fastdc.train.evaluate_settings import EvaluateSettings
from fastdc.train.evaluation import evaluate
from fastdc.train.protocols import get_protocol
from tests.methods.final_pass import made_up_context

OBSERVER = ObserverConfig(arch="convnet_w8", epochs=3, batch_size=32, lr=0.05, image_size=28, threads=1)
WINDOW = {"last_epoch": 3}


def compress(betons: Any, tmp_path: Path, method: str = "pact", name: str = "out", **changes: Any) -> Path:
    settings = changes.pop("settings", {})
    options: dict[str, Any] = {
        "ipc": 2,
        "image_size": 28,
        "workdir": tmp_path / "work",
        "observer": OBSERVER,
        **changes,
    }
    out = tmp_path / f"{name}.beton"
    compress_beton(method, betons.train, out, settings=settings, **options)
    return out


def grid_of(path: Path) -> int:
    grid = load_manifest(path).hints["tile_grid"]
    assert isinstance(grid, int)
    return grid


def sizes_of(path: Path) -> list[int]:
    with BetonFile(path) as beton:
        return [len(beton.payload(index)) for index in range(len(beton))]


def random_source(betons: Any, tmp_path: Path, index: int) -> Any:
    """Decode the training image behind image `index` of random's set."""
    wanted = load_manifest(tmp_path / "plain.beton").ids[index]
    with BetonFile(betons.train) as beton:
        return beton.decode(load_manifest(betons.train).ids.index(wanted))


def side_of(path: Path) -> int:
    with BetonFile(path) as beton:
        (side,) = {*beton.widths.tolist(), *beton.heights.tolist()}
    return int(side)


@pytest.mark.parametrize("seed", [0, 1])
def test_pact_never_takes_more_bytes_than_random(betons: Any, tmp_path: Path, seed: int) -> None:
    packed = load_manifest(compress(betons, tmp_path, seed=seed))
    plain = load_manifest(compress(betons, tmp_path, "random", "plain", seed=seed))
    assert packed.counts == plain.counts
    assert 0.5 * plain.image_bytes < packed.image_bytes <= plain.image_bytes


def test_the_budget_excludes_the_gain_of_the_encoder(betons: Any, tmp_path: Path) -> None:
    given: dict[str, Any] = {
        name: compress(betons, tmp_path, name=name, settings={"budget": name}) for name in ENCODERS
    }
    plain = load_manifest(compress(betons, tmp_path, "random", "plain"))
    largest = {name: max(sizes_of(path)) for name, path in given.items()}
    assert largest["encoded"] < largest["stored"] <= plain.image_bytes / sum(plain.counts)
    encoded = []
    for index in range(sum(plain.counts)):
        buffer = io.BytesIO()
        pixels = fit_image(random_source(betons, tmp_path, index), 28, "crop")
        Image.fromarray(pixels).save(buffer, "JPEG", quality=75, subsampling=2, optimize=True)
        encoded.append(buffer.tell())
    details: Any = load_manifest(given["encoded"]).made["details"]
    assert details["max_bytes"] == sum(encoded) // len(encoded)


def test_a_mosaic_that_exceeds_its_bytes_at_any_quality_is_refused(betons: Any, tmp_path: Path) -> None:
    """Mosaics exceed their bytes by a large grid, and by a list that allows fewer bytes."""
    out = compress(betons, tmp_path, ipc=1, settings={"grid": 2})
    listed = tmp_path / "out.list.tsv"
    details: Any = load_manifest(out).made["details"]
    budget = f'"max_bytes":{details["max_bytes"]}'
    listed.write_text(listed.read_text().replace(budget, '"max_bytes":200'))
    with pytest.raises(MethodError, match=r"mosaic 0 has \d+ bytes at JPEG quality 1, expected at most 200"):
        compress_list(listed, betons.train, tmp_path / "again.beton")
    assert not (tmp_path / "again.beton").exists()
    noise = np.random.default_rng(0).integers(0, 256, (400, 28, 28, 3), np.uint8)
    mosaic = Mosaic(grid=8, fit="squash", side=224, max_bytes=850)
    with pytest.raises(MethodError, match="take a smaller grid"):
        list(store_mosaics(lambda index: noise[index], np.arange(64)[None], 28, mosaic))


def test_sources_are_ranked_without_given_scores() -> None:
    """The method is called directly, as in a user's own test."""
    context, method = made_up_context(np.arange(72) % 3), get_method("pact")
    image = np.zeros((28, 28, 3), np.uint8)
    context = replace(context, image_size=28, image=lambda index: image)
    config = method.configure({"grid": 2, "pool": 50, **WINDOW})
    ready = replace(context, scores=method.scores(context, config))
    found, expected = (method.compress(each, config, 2, 0).sources.tolist() for each in (context, ready))
    assert found == expected


def test_tiles_grow_and_multiply_until_the_quality_is_spent(betons: Any, tmp_path: Path) -> None:
    pixels, grids = {}, {}
    most = load_manifest(compress(betons, tmp_path, "random", "plain", ipc=1)).image_bytes
    for lowest in (1, 40, 95):
        out = compress(betons, tmp_path, name=f"q{lowest}", ipc=1, settings={"lowest_quality": lowest})
        assert load_manifest(out).image_bytes <= most
        grids[lowest], pixels[lowest] = grid_of(out), side_of(out)
        assert 14 <= pixels[lowest] / grids[lowest] <= 28
    assert pixels[95] <= pixels[40] <= pixels[1]
    assert (grids[95], pixels[95]) == (2, 28)
    assert grids[1] > 2 or pixels[1] == 56


def test_a_small_class_limits_the_grid(betons: Any, tmp_path: Path) -> None:
    counts = load_manifest(betons.train).counts
    ipc = min(counts) // 9
    grid = grid_of(compress(betons, tmp_path, ipc=ipc, settings={"lowest_quality": 1}))
    assert grid**2 * ipc <= min(counts)
    with pytest.raises(MethodError, match=r"needs \d+ images of every class"):
        compress(betons, tmp_path, name="more", ipc=min(counts) // 4 + 1)


def test_sources_are_distinct_and_from_the_easier_part(betons: Any, tmp_path: Path) -> None:
    compress(betons, tmp_path, ipc=1, settings={"grid": 2, "pool": 50} | WINDOW)
    half = min(load_manifest(betons.train).counts) // 2
    compress(betons, tmp_path, "el2n", "easy", ipc=half, settings=WINDOW)
    lists = [(tmp_path / f"{name}.list.tsv").read_text().splitlines() for name in ("out", "easy")]
    names = [[line.split("\t")[0] for line in lines if not line.startswith("#")] for lines in lists]
    packed, easier = names[0], set(names[1])
    assert len(set(packed)) == len(packed) == 12
    assert set(packed) <= easier


def test_without_a_window_no_observer_is_read(betons: Any, tmp_path: Path) -> None:
    method = get_method("pact")
    assert method.observed(method.configure({"pool": 50}))
    assert not method.observed(method.configure({}))
    compress(betons, tmp_path)
    assert not list((tmp_path / "work").glob("observers/*"))


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"pool": 100, "keep": "hard"}, "keep"), ({"pool": 100, "last_epoch": 3}, "last_epoch"),
     ({"first_epoch": 2}, "first_epoch")],
)  # fmt: skip
def test_settings_without_effect_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        get_method("pact").configure(settings)


def test_the_list_gives_the_same_files_again(betons: Any, tmp_path: Path) -> None:
    out = compress(betons, tmp_path)
    again = compress_list(tmp_path / "out.list.tsv", betons.train, tmp_path / "again.beton")
    assert again.content_hash == load_manifest(out).content_hash
    lists = [(tmp_path / f"{name}.list.tsv").read_text().splitlines() for name in ("out", "again")]
    assert lists[0][0] == lists[1][0]
    assert '"side":' in lists[0][0]
    with pytest.raises(ConfigError, match="leave --image-size out"):
        compress_list(tmp_path / "out.list.tsv", betons.train, tmp_path / "other.beton", image_size=56)


def test_training_crops_have_the_size_of_the_data_set(betons: Any, tmp_path: Path) -> None:
    out = compress(betons, tmp_path)
    assert side_of(out) > 28
    protocol = get_protocol("hard", {"epochs": 1})
    settings = EvaluateSettings(protocol=protocol, arch="convnet_w8", threads=1)
    given_none = evaluate(out, betons.val, settings)
    given_28 = evaluate(out, betons.val, settings.model_copy(update={"image_size": 28}))
    assert given_none.curve == given_28.curve


@pytest.mark.parametrize(
    ("size", "sides"),
    [(64, [64, 56, 48, 40, 32]), (28, [28, 24, 16, 14]), (9, [9, 8, 5]), (8, [8, 4]), (33, [33, 32, 24, 17])],
)
def test_tiles_have_at_least_half_the_side(size: int, sides: list[int]) -> None:
    assert tile_sides(size) == sides


@pytest.mark.parametrize("hint", ["28", True, 28.0])
def test_a_hint_of_another_type_is_refused(betons: Any, hint: Any) -> None:
    changed = load_manifest(betons.train).model_copy(update={"hints": {"image_size": hint}})
    with pytest.raises(ConfigError, match=rf"hint image_size={hint!r}: expected a whole number of pixels"):
        training_side(betons.train, changed)


@given(st.integers(8, 40), st.integers(8, 40), st.integers(0, 2**31), st.integers(300, 3000))
def test_the_highest_quality_that_fits_is_taken(height: int, width: int, seed: int, max_bytes: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    image = np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))
    file, quality = encode_jpeg_within(image, max_bytes)
    assert decode_image(file).shape == image.shape
    if quality > 1:
        assert len(file) <= max_bytes
    for next_quality in range(quality + 1, min(quality + 2, 96)):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=next_quality, subsampling=2, optimize=True)
        assert buffer.tell() > max_bytes
