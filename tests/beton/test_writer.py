"""`write_samples` and the layout of pages."""

import hashlib

import numpy as np
import pytest

from fastdc.beton import (
    BetonFile,
    Sample,
    check_beton_output,
    load_manifest,
    manifest_path,
    verify_beton,
    write_samples,
)
from fastdc.beton.format import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, MODE_RAW
from fastdc.beton.pages import BetonWriter, Payload
from fastdc.beton.writer import make_payload
from fastdc.common.errors import OutputError, SourceError

ORIGIN = {"dataset": "test", "split": None, "source": "memory", "made": {"tool": "test"}}


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_samples_round_trip(tmp_path, to_file):
    jpeg = to_file(noise(20, 30))
    samples = [Sample(jpeg, 1, "b/1"), Sample(noise(10, 12), 0, "a/1"), Sample(noise(1, 1), 1, "b/2")]
    manifest = write_samples(tmp_path / "x.beton", iter(samples), classes=["a", "b"], hints={"tile_grid": 2}, **ORIGIN)
    assert manifest.ids == ("b/1", "a/1", "b/2")
    assert manifest.counts == (1, 2)
    assert manifest.hints == {"tile_grid": 2}
    assert manifest.image_bytes == len(jpeg) + sum(len(to_file(sample.image, "PNG")) for sample in samples[1:])
    assert load_manifest(tmp_path / "x.beton") == manifest
    assert verify_beton(tmp_path / "x.beton", deep=True) == []
    with BetonFile(tmp_path / "x.beton") as file:
        assert file.labels.tolist() == [1, 0, 1]
        assert file.modes.tolist() == [0, 1, 1]
        assert bytes(file.payload(0)) == jpeg
        np.testing.assert_array_equal(file.decode(1), samples[1].image)
        assert file.payload_bytes == len(jpeg) + 10 * 12 * 3 + 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.beton", "x.json"]


def test_same_samples_same_bytes(tmp_path):
    samples = [Sample(noise(9, 9, seed), seed % 2, f"{seed}") for seed in range(20)]
    for name in ("a", "b"):
        write_samples(tmp_path / f"{name}.beton", samples, classes="xy", **ORIGIN)
    for suffix in ("beton", "json"):
        contents = {hashlib.sha256((tmp_path / f"{name}.{suffix}").read_bytes()).hexdigest() for name in ("a", "b")}
        assert len(contents) == 1


def test_content_hash_depends_on_data_and_not_on_names(tmp_path):
    def key(samples, classes=("x", "y"), **more):
        options = {**ORIGIN, **more}
        return write_samples(tmp_path / "k.beton", samples, classes=classes, force=True, **options).content_hash

    samples = [Sample(noise(5, 5, seed), seed % 2, f"{seed}") for seed in range(4)]
    base = key(samples)
    assert key([sample._replace(id="other") for sample in samples], dataset="other", made={}) == base
    assert key(samples[::-1]) != base
    assert key(samples, classes=("x", "z")) != base
    assert key(samples, hints={"tile_grid": 2}) != base
    assert key([*samples[:3], samples[3]._replace(label=0)]) != base
    assert key([*samples[:3], samples[3]._replace(image=noise(5, 5, 99))]) != base


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (Sample(noise(4, 4), 2, "s"), r"label 2, expected 0\.\.1"),
        (Sample(noise(4, 4), -1, "s"), "label -1"),
        (Sample(noise(4, 4).astype(np.float32), 0, "s"), "float32"),
        (Sample(noise(4, 4)[:, :, 0], 0, "s"), r"\[4, 4\]"),
        (Sample(noise(4, 4)[:0], 0, "s"), r"\[0, 4, 3\]"),
        (Sample(b"no image", 0, "s"), "JPEG"),
        (Sample(np.zeros((1, 70_000, 3), np.uint8), 0, "s"), "1 x 70000 pixels"),
    ],
)
def test_bad_samples_are_named_and_leave_nothing(tmp_path, sample, words):
    with pytest.raises(SourceError, match=rf"sample 1 \(s\): .*{words}"):
        write_samples(tmp_path / "x.beton", [Sample(noise(4, 4), 0, "ok"), sample], classes="ab", **ORIGIN)
    assert list(tmp_path.iterdir()) == []


def test_no_samples_is_an_error(tmp_path):
    with pytest.raises(SourceError, match="no samples"):
        write_samples(tmp_path / "x.beton", [], classes="ab", **ORIGIN)
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_caller_propagates_and_keeps_the_old_file(tmp_path):
    def failing():
        yield Sample(noise(4, 4), 0, "a")
        raise FileNotFoundError("the caller's own file")

    write_samples(tmp_path / "x.beton", [Sample(noise(3, 3), 0, "old")], classes="a", **ORIGIN)
    with pytest.raises(FileNotFoundError, match="the caller's own file"):
        write_samples(tmp_path / "x.beton", failing(), classes="a", force=True, **ORIGIN)
    assert load_manifest(tmp_path / "x.beton").ids == ("old",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.beton", "x.json"]


def test_no_payload_crosses_a_page_and_order_is_kept(tmp_path):
    samples = [Sample(noise(1100, 1000, seed), 0, f"{seed}") for seed in range(6)]  # 3.3 MB each: two to a page
    write_samples(tmp_path / "x.beton", samples, classes="a", **ORIGIN)
    with BetonFile(tmp_path / "x.beton") as file:
        assert (file.offsets // DEFAULT_PAGE_SIZE).tolist() == [1, 1, 2, 2, 3, 3]
        np.testing.assert_array_equal(file.decode(5), samples[5].image)


def test_a_large_image_enlarges_the_pages_and_moves_the_payloads(tmp_path):
    samples = [Sample(noise(1100, 1000, seed), 0, f"{seed}") for seed in range(4)]
    samples.append(Sample(noise(1700, 2000), 0, "large"))  # 10.2 MB
    samples.append(Sample(noise(30, 30), 0, "small"))
    write_samples(tmp_path / "x.beton", samples, classes="a", **ORIGIN)
    assert verify_beton(tmp_path / "x.beton", deep=True) == []
    with BetonFile(tmp_path / "x.beton") as file:
        assert file.structure.page_size == 2 * DEFAULT_PAGE_SIZE
        for index, sample in enumerate(samples):
            np.testing.assert_array_equal(file.decode(index), sample.image)


@pytest.mark.parametrize("capacity", [0, 400_000])
def test_more_samples_than_fit_before_the_first_page(tmp_path, capacity):
    """349,437 rows of metadata fill the 8 MiB before the first page; one more row moves the payloads."""
    payload = Payload(b"\1\2\3", MODE_RAW, 1, 1, bytes(16))
    count = 349_500
    with (tmp_path / "x.beton").open("w+b") as handle:
        writer = BetonWriter(handle, tmp_path / "x.beton", capacity)
        for index in range(count):
            writer.append(payload, index % 7, index)
        writer.finish()
    with BetonFile(tmp_path / "x.beton") as file:
        assert len(file) == count
        assert file.labels[-1] == (count - 1) % 7
        assert bytes(file.payload(0)) == bytes(file.payload(count - 1)) == b"\1\2\3"


def test_a_payload_above_the_largest_page_is_refused(tmp_path):
    data = np.zeros(MAX_PAGE_SIZE + 1, np.uint8).data  # never touched, so it takes no memory
    with (tmp_path / "x").open("w+b") as handle, pytest.raises(SourceError, match="at most 1073741824"):
        BetonWriter(handle, tmp_path / "x").append(Payload(data, MODE_RAW, 9, 9, bytes(16)), 0, 0)


def test_make_payload_takes_non_contiguous_arrays():
    picture = noise(10, 12)
    assert bytes(make_payload(picture[::-1, ::2]).data) == np.ascontiguousarray(picture[::-1, ::2]).tobytes()


def test_existing_output_needs_force(tmp_path):
    path = tmp_path / "x.beton"
    write_samples(path, [Sample(noise(3, 3), 0, "old")], classes="a", **ORIGIN)
    with pytest.raises(OutputError, match=r"exists already.*--force"):
        write_samples(path, [Sample(noise(3, 3), 0, "new")], classes="a", **ORIGIN)
    assert load_manifest(path).ids == ("old",)
    write_samples(path, [Sample(noise(3, 3), 0, "new")], classes="a", force=True, **ORIGIN)
    assert load_manifest(path).ids == ("new",)


def test_a_foreign_json_file_is_not_overwritten(tmp_path):
    (tmp_path / "x.json").write_text('{"annotations": [1, 2, 3]}')
    with pytest.raises(OutputError, match="not a fastdc manifest"):
        write_samples(tmp_path / "x.beton", [Sample(noise(3, 3), 0, "a")], classes="a", **ORIGIN)
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_two_betons_of_one_stem_have_two_manifests(tmp_path):
    for name in ("data.train.beton", "data.val.beton"):
        write_samples(tmp_path / name, [Sample(noise(3, 3), 0, name)], classes="a", **ORIGIN)
    for name in ("data.train.beton", "data.val.beton"):
        assert load_manifest(tmp_path / name).ids == (name,)


def test_the_manifest_of_a_renamed_beton_needs_force(tmp_path):
    path, sample = tmp_path / "x.beton", [Sample(noise(3, 3), 0, "old")]
    write_samples(path, sample, classes="a", **ORIGIN)
    path.rename(tmp_path / "old.beton")
    with pytest.raises(OutputError, match=r"x\.json: is the manifest of a beton that is not at x\.beton.*--force"):
        write_samples(path, [Sample(noise(3, 3), 0, "new")], classes="a", **ORIGIN)
    manifest_path(path).rename(tmp_path / "old.json")
    assert load_manifest(tmp_path / "old.beton").ids == ("old",)
    write_samples(path, sample, classes="a", **ORIGIN)
    path.unlink()
    write_samples(path, [Sample(noise(3, 3), 0, "new")], classes="a", force=True, **ORIGIN)
    assert load_manifest(path).ids == ("new",)


def test_inputs_are_never_replaced(tmp_path):
    """`compress --out train.beton --force` on train.beton, under any path to it."""
    train = tmp_path / "train.beton"
    write_samples(train, [Sample(noise(3, 3), 0, "a")], classes="a", **ORIGIN)
    (tmp_path / "folder").symlink_to(tmp_path)
    (tmp_path / "link.beton").symlink_to(train)
    for out in (train, tmp_path / "folder" / "train.beton", tmp_path / "link.beton"):
        with pytest.raises(OutputError, match="is an input of this command"):
            check_beton_output(out, True, [train])
    check_beton_output(tmp_path / "other.beton", False, [train])
    check_beton_output(train, True, [tmp_path / "absent.beton", tmp_path])


@pytest.mark.parametrize("with_manifest", [True, False])
def test_the_manifest_of_an_input_is_not_replaced(tmp_path, with_manifest):
    """A stock file train.ffcv would otherwise get the manifest of a train.beton beside it."""
    write_samples(tmp_path / "train.beton", [Sample(noise(3, 3), 0, "a")], classes="a", **ORIGIN)
    stock = (tmp_path / "train.beton").rename(tmp_path / "train.ffcv")
    if not with_manifest:
        (tmp_path / "train.json").unlink()
    with pytest.raises(OutputError, match=r"train\.json: is an input of this command"):
        check_beton_output(tmp_path / "train.beton", True, [stock])
    stock.write_bytes(b"no beton, so no manifest of its own")
    check_beton_output(tmp_path / "train.beton", True, [stock])


def test_impossible_names(tmp_path):
    sample = [Sample(noise(3, 3), 0, "a")]
    with pytest.raises(OutputError, match=r"x\.json: is the name of a manifest, expected a name such as x\.beton"):
        write_samples(tmp_path / "x.json", sample, classes="a", **ORIGIN)
    with pytest.raises(OutputError, match=r"data\.val: does not end in \.beton.* such as data\.val\.beton"):
        write_samples(tmp_path / "data.val", sample, classes="a", force=True, **ORIGIN)
    with pytest.raises(OutputError, match="is a folder"):
        write_samples(tmp_path, sample, classes="a", **ORIGIN)
    with pytest.raises(OutputError, match="does not exist"):
        write_samples(tmp_path / "no" / "x.beton", sample, classes="a", **ORIGIN)
    (tmp_path / "y.json").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write_samples(tmp_path / "y.beton", sample, classes="a", force=True, **ORIGIN)
    with pytest.raises(OutputError, match="read-only"):
        write_samples(manifest_path("/proc/x.beton").with_suffix(".beton"), sample, classes="a", **ORIGIN)


def test_ids_that_are_not_utf8_are_escaped(tmp_path):
    manifest = write_samples(tmp_path / "x.beton", [Sample(noise(3, 3), 0, "a/\udcff.jpg")], classes="a", **ORIGIN)
    assert manifest.ids == (r"a/\udcff.jpg",)
    assert load_manifest(tmp_path / "x.beton") == manifest
