"""A share of every class is held out: the choice of images, and equal bytes in both parts."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdc.beton import BetonFile, Sample, describe_beton, load_manifest, verify_beton, write_samples
from fastdc.beton.split import held_out, split_beton, write_part
from fastdc.common.errors import BetonError, ConfigError


def by_hand(labels: list[int], hashes: list[str], share: float) -> list[bool]:
    """Split class by class, with Python's sorting."""
    draw = [hashlib.sha256(f"fastdc holdout 0 {key}".encode()).digest()[7::-1] for key in hashes]  # little-endian
    chosen: set[bytes] = set()
    for label in set(labels):
        own = sorted((draw[i], i) for i in range(len(labels)) if labels[i] == label)
        if len(own) > 1:
            chosen |= {key for key, _ in own[: min(max(1, int(share * len(own) + 0.5)), len(own) - 1)]}
    return [key in chosen for key in draw]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_the_draw_equals_a_plain_reference(images: list[tuple[int, int]], share: float) -> None:
    labels, hashes = [label for label, _ in images], [f"{content:032x}" for _, content in images]
    found = held_out(np.array(labels), hashes, share)
    assert found.tolist() == by_hand(labels, hashes, share)


def test_the_draw_depends_only_on_bytes() -> None:
    labels, hashes = np.repeat(np.arange(4), 50), [hashlib.sha256(bytes([i])).hexdigest()[:32] for i in range(200)]
    held = held_out(labels, hashes, 0.2)
    assert np.bincount(labels[held]).tolist() == [10] * 4
    order = np.random.default_rng(0).permutation(200)
    assert np.array_equal(held_out(labels[order], [hashes[i] for i in order], 0.2), held[order])
    assert np.all(held_out(labels, hashes, 0.5)[held])  # a larger share holds out these too


def picture(number: int, side: int = 6) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (side, side + 1, 3), dtype=np.uint8)


def write(path: Path, images: list[tuple[int, int]], hints: dict[str, int] | None = None) -> Path:
    """A beton of (class, picture) with two classes."""
    samples = [Sample(picture(content), label, f"{label}/{index}") for index, (label, content) in enumerate(images)]
    write_samples(path, samples, classes=("a", "b"), dataset="d", split="train", source="s", made={}, hints=hints)
    return path


def test_both_parts_hold_the_bytes_of_the_source(tmp_path: Path) -> None:
    source = write(tmp_path / "s.beton", [(i % 2, i) for i in range(30)], {"tile_grid": 2})
    manifest = load_manifest(source)
    sides = split_beton(source, manifest, 0.2)
    for name, side in zip(("kept.beton", "held.beton"), sides, strict=True):
        written = write_part(tmp_path / name, source, side)
        assert load_manifest(tmp_path / name) == written
        assert not verify_beton(tmp_path / name, deep=True)
        assert written.content_hash == side.manifest.content_hash  # known before it was written
        assert (written.ids, written.counts) == (side.manifest.ids, side.manifest.counts)
        assert (written.made["of"], written.hints) == (manifest.content_hash, {"tile_grid": 2})
        with BetonFile(source) as whole, BetonFile(tmp_path / name) as part:
            for number, index in enumerate(side.indices.tolist()):
                assert bytes(part.payload(number)) == bytes(whole.payload(index))
                assert part.labels[number] == whole.labels[index]
    assert [sum(side.manifest.counts) for side in sides] == [24, 6]
    assert sorted(np.concatenate([side.indices for side in sides]).tolist()) == list(range(30))
    again = write_part(tmp_path / "again.beton", source, sides[0])
    assert (tmp_path / "again.beton").read_bytes() == (tmp_path / "kept.beton").read_bytes()
    assert again == load_manifest(tmp_path / "kept.beton")


def test_copies_are_in_one_part(tmp_path: Path) -> None:
    source = write(tmp_path / "s.beton", [(i % 2, i // 4) for i in range(40)])  # every picture twice in each class
    kept, held = (set(side.manifest.hashes) for side in split_beton(source, load_manifest(source), 0.25))
    assert held
    assert not kept & held


@pytest.mark.parametrize(
    ("images", "message"),
    [([(0, 1), (0, 2), (1, 3)], "class 'b' has 1 image; holdout=0.2 takes at least one"),
     ([(0, 1), (0, 2), (1, 3), (1, 3)], "class 'b' has 2 images, which are copies of images that are held out")],
)  # fmt: skip
def test_a_class_that_cannot_be_split_is_named(tmp_path: Path, images: list[tuple[int, int]], message: str) -> None:
    source = write(tmp_path / "s.beton", images)
    with pytest.raises(ConfigError, match=message):
        split_beton(source, load_manifest(source), 0.2)


def test_two_images_of_a_class_are_enough_for_any_share(tmp_path: Path) -> None:
    source = write(tmp_path / "s.beton", [(0, 1), (0, 2), (1, 3), (1, 4)])
    for share in (0.01, 0.99):
        assert [side.manifest.counts for side in split_beton(source, load_manifest(source), share)] == [(1, 1), (1, 1)]


def test_a_damaged_source_is_found_while_it_is_copied(tmp_path: Path) -> None:
    source = write(tmp_path / "s.beton", [(i % 2, i) for i in range(10)])
    manifest = load_manifest(source)
    kept, _ = split_beton(source, manifest, 0.2)
    index = int(kept.indices[2])
    with BetonFile(source) as file:
        offset = int(file.offsets[index])
    data = bytearray(source.read_bytes())
    data[offset] ^= 1
    source.write_bytes(data)
    with pytest.raises(BetonError, match=rf"sample {index} \({manifest.ids[index]}\): its bytes are not those"):
        write_part(tmp_path / "kept.beton", source, kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.beton", "s.json"]


def test_parts_of_a_beton_without_manifest_have_no_names(tmp_path: Path) -> None:
    source = write(tmp_path / "s.beton", [(i % 2, i) for i in range(10)])
    (tmp_path / "s.json").unlink()
    kept, held = split_beton(source, describe_beton(source), 0.2)
    for side in (kept, held):
        written = write_part(tmp_path / "part.beton", source, side)
        assert (written.inferred, written.classes) == (True, ("0", "1"))
    assert sorted([*kept.manifest.ids, *held.manifest.ids], key=int) == [str(i) for i in range(10)]
