"""Damage of every kind is found; no damaged file crashes, hangs or passes as sound."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastdc.beton import BetonFile, Sample, describe_beton, load_manifest, verify_beton, write_samples
from fastdc.beton.format import ALLOCATION, HEADER, MAX_PROBLEMS_PER_CHECK, METADATA, METADATA_START
from fastdc.common.errors import BetonError, FastDCError

pytestmark = pytest.mark.timeout(60)
COUNT = 6


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    from fastdc.beton import encode_jpeg

    path = tmp_path_factory.mktemp("sound") / "x.beton"
    samples = []
    for index in range(COUNT):
        picture = np.random.default_rng(index).integers(0, 256, (16, 20, 3), dtype=np.uint8)
        samples.append(Sample(picture if index % 2 else encode_jpeg(picture), index % 3, f"{index % 3}/{index}.jpg"))
    write_samples(path, samples, classes="abc", dataset="test", split=None, source="test", made={})
    return path


@pytest.fixture
def beton(sound, tmp_path):
    for suffix in (".beton", ".json"):
        shutil.copy(sound.with_suffix(suffix), tmp_path / f"x{suffix}")
    return tmp_path / "x.beton"


def change(path, position, value):
    with path.open("r+b") as handle:
        handle.seek(position)
        handle.write(value)


def set_header(path, field, value):
    change(path, HEADER.fields[field][1], np.array(value, HEADER[field]).tobytes())


def set_metadata(path, index, field, value):
    position = METADATA_START + index * METADATA.itemsize
    if field == "label":
        change(path, position + METADATA.fields["label"][1], np.array(value, "<i8").tobytes())
    else:
        image = METADATA["image"]
        change(path, position + image.fields[field][1], np.array(value, image[field]).tobytes())


def set_allocation(path, index, field, value):
    start = path.stat().st_size - COUNT * ALLOCATION.itemsize + index * ALLOCATION.itemsize
    change(path, start + ALLOCATION.fields[field][1], np.array(value, "<u8").tobytes())


def test_a_sound_file_has_no_problems(beton):
    assert verify_beton(beton) == []
    assert verify_beton(beton, deep=True) == []
    beton.with_suffix(".json").unlink()
    assert verify_beton(beton, deep=True) == []


def test_truncation_at_every_boundary_is_found(beton):
    data = beton.read_bytes()
    with BetonFile(beton) as file:
        table = file.structure.table_start
        payloads = [*file.offsets.tolist(), *(file.offsets + file.sizes).tolist()]
    metadata_end = METADATA_START + COUNT * METADATA.itemsize
    boundaries = {0, HEADER.itemsize, METADATA_START, metadata_end, *payloads, table, len(data)}
    lengths = {boundary + step for boundary in boundaries for step in (-1, 0, 1)} - {-1, len(data), len(data) + 1}
    for with_manifest in (True, False):
        for length in sorted(lengths):
            beton.write_bytes(data[:length])
            problems = verify_beton(beton)
            assert problems, length
            assert problems[0].section in ("header", "allocation table"), length
            with pytest.raises(BetonError, match=r"x\.beton: .*expected|truncated|damaged"):
                BetonFile(beton)
        if with_manifest:
            beton.with_suffix(".json").unlink()


def test_appended_bytes_are_found(beton):
    for extra in (b"\0", bytes(24), bytes(1000)):
        data = beton.read_bytes()
        beton.write_bytes(data + extra)
        assert verify_beton(beton)[0].section == "allocation table"
        beton.write_bytes(data)


@pytest.mark.parametrize(
    ("field", "value", "section"),
    [
        ("version", 3, "header"),
        ("num_fields", 3, "header"),
        ("num_fields", 0, "header"),
        ("page_size", 0, "header"),
        ("page_size", 3_000_000, "header"),
        ("page_size", 4096, "header"),
        ("num_samples", 0, "header"),
        ("num_samples", COUNT - 1, "allocation table"),
        ("num_samples", COUNT + 1, "allocation table"),
        ("num_samples", 2**64 - 1, "header"),
        ("alloc_table_ptr", 0, "header"),
        ("alloc_table_ptr", 24, "header"),
        ("alloc_table_ptr", 2**63, "header"),
    ],
)
def test_wrong_header_fields_are_found(beton, field, value, section):
    set_header(beton, field, value)
    assert verify_beton(beton, deep=True)[0].section == section
    with pytest.raises(BetonError, match=section):
        BetonFile(beton)


@pytest.mark.parametrize(("position", "value"), [(24, b"\3"), (25, b"I"), (24 + 1041, b"\2"), (24 + 1042, b"x")])
def test_wrong_field_descriptors_are_found(beton, position, value):
    change(beton, position, value)
    assert verify_beton(beton)[0].section == "fields"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("mode", 2, "image mode 2"),
        ("mode", 0, "not those"),
        ("width", 0, "x 0 pixels"),
        ("width", 21, "expected h.w.3"),
        ("height", 15, "expected h.w.3"),
        ("data_ptr", 0, "allocation table has"),
        ("data_ptr", 2**64 - 1, "allocation table has"),
        ("label", -1, "label -1"),
        ("label", 2**62, "label 4611686018427387904"),
        ("label", 3, "label 3, but the manifest has 3 classes"),
        ("label", 0, "images per class"),
    ],
)
def test_wrong_metadata_is_found_and_named(beton, field, value, words):
    set_metadata(beton, 1, field, value)
    problems = verify_beton(beton)
    assert any(words.replace(".", "*") in problem.message for problem in problems), problems
    for problem in problems:
        assert (problem.index, problem.id) in ((1, "1/1.jpg"), (None, None))
    with pytest.raises(FastDCError):
        load_manifest(beton)


def test_a_long_list_of_labels_without_a_class_is_counted(tmp_path):
    path = tmp_path / "x.beton"
    pixel = np.zeros((1, 1, 3), np.uint8)
    samples = [Sample(pixel, 1, str(index)) for index in range(MAX_PROBLEMS_PER_CHECK + 3)]
    write_samples(path, samples, classes="ab", dataset="test", split=None, source="test", made={})
    manifest = path.with_suffix(".json")
    count = len(samples)
    text = manifest.read_text().replace('"classes": ["a", "b"]', '"classes": ["a"]')
    manifest.write_text(text.replace(f'"counts": [0, {count}]', f'"counts": [{count}]'))
    found = [problem.message for problem in verify_beton(path) if problem.section == "metadata"]
    assert found[0] == "label 1, but the manifest has 1 classes"
    assert (len(found), found[-1]) == (MAX_PROBLEMS_PER_CHECK + 1, "and 3 more samples with the same problem")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("sample_id", 0, "exactly once"),
        ("sample_id", 2**64 - 1, "exactly once"),
        ("ptr", 0, "not in the file"),
        ("ptr", 2**64 - 1, "not in the file"),
        ("size", 0, "not in the file"),
        ("size", 2**64 - 1, "not in the file"),
        ("size", 2000, "overlaps"),
    ],
)
def test_wrong_allocations_are_found(beton, field, value, words):
    set_allocation(beton, 1, field, value)
    problems = verify_beton(beton)
    assert problems[0].section == "allocation table"
    assert words in problems[0].message


def test_a_payload_across_pages_is_found(tmp_path):
    picture = np.zeros((1200, 1000, 3), np.uint8)  # 3.6 MB
    samples = [Sample(picture, 0, f"{index}") for index in range(4)]
    write_samples(tmp_path / "x.beton", samples, classes="a", dataset="", split=None, source="", made={})
    set_header(tmp_path / "x.beton", "page_size", 1 << 21)
    assert "crosses a page" in verify_beton(tmp_path / "x.beton")[0].message


def test_many_problems_are_summed_up(tmp_path):
    samples = [Sample(np.zeros((1, 1, 3), np.uint8), 0, f"{index}") for index in range(500)]
    write_samples(tmp_path / "x.beton", samples, classes="a", dataset="", split=None, source="", made={})
    for index in range(500):
        set_metadata(tmp_path / "x.beton", index, "mode", 7)
    problems = verify_beton(tmp_path / "x.beton")
    assert len(problems) < 50
    assert any("and 480 more samples" in problem.message for problem in problems)


def test_deep_finds_one_flipped_bit_in_any_sample(beton):
    with BetonFile(beton) as file:
        places = list(zip(file.offsets.tolist(), file.sizes.tolist(), strict=True))
    data = beton.read_bytes()
    for index, (offset, size) in enumerate(places):
        for position in (offset, offset + size // 2, offset + size - 1):
            change(beton, position, bytes([data[position] ^ 1]))
            assert verify_beton(beton) == []  # payloads are only read by a deep check
            problems = verify_beton(beton, deep=True)
            assert [(problem.section, problem.index) for problem in problems] == [("payload", index)]
            assert problems[0].id == f"{index % 3}/{index}.jpg"
            change(beton, position, data[position : position + 1])


def test_deep_finds_bytes_outside_every_sample(beton):
    change(beton, 4 << 20, b"\1")
    assert [problem.section for problem in verify_beton(beton, deep=True)] == ["padding"]


def test_deep_decodes_files_without_a_manifest(beton):
    beton.with_suffix(".json").unlink()
    with BetonFile(beton) as file:
        offset, size = int(file.offsets[2]), int(file.sizes[2])
    change(beton, offset + size // 4, bytes(size // 2))
    problems = verify_beton(beton, deep=True)
    assert [(problem.section, problem.index, problem.id) for problem in problems] == [("payload", 2, None)]


@pytest.mark.parametrize("field", ["width", "height"])
def test_a_jpeg_of_another_size_than_stated_is_found(beton, field):
    beton.with_suffix(".json").unlink()
    set_metadata(beton, 2, field, 8)
    with BetonFile(beton) as file, pytest.raises(BetonError, match=r"sample 2: JPEG of 16 x 20 pixels, expected"):
        file.decode(2)
    assert verify_beton(beton, deep=True)[0].index == 2


@pytest.mark.parametrize(
    ("change_manifest", "words"),
    [
        (lambda text: text[:-100], "not a fastdc manifest"),
        (lambda text: "[]", "not a fastdc manifest"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "schema version 2"),
        (lambda text: text.replace('"dataset"', '"data"'), "not a fastdc manifest"),
        (lambda text: text.replace('["a", "b", "c"]', '["a", "b", "d"]'), "changed after"),
        (lambda text: text.replace('["a", "b", "c"]', '["a", "b"]'), "3 counts"),
        (lambda text: text.replace("[2, 2, 2]", "[1, 3, 2]"), "images per class"),
        (lambda text: text.replace('"file_bytes": 8', '"file_bytes": 9'), "expects a beton of"),
        (lambda text: text.replace('"structure_hash": "', '"structure_hash": "0'), "positions"),
        (lambda text: json.dumps({**json.loads(text), "extra": 1}), "extra"),
        (lambda text: json.dumps({**json.loads(text), "ids": [], "hashes": [], "counts": [0, 0, 0]}), "0 samples"),
    ],
)
def test_a_damaged_or_foreign_manifest_is_found(beton, change_manifest, words):
    path = beton.with_suffix(".json")
    text = change_manifest(path.read_text())
    assert text != path.read_text()
    path.write_text(text)
    problems = verify_beton(beton)
    assert [problem.section for problem in problems] == ["manifest"]
    assert words in problems[0].message
    with pytest.raises(FastDCError, match=words):
        load_manifest(beton)


def test_a_missing_file_or_a_folder(tmp_path):
    for path in (tmp_path / "none.beton", tmp_path):
        with pytest.raises(BetonError, match=r"expected a \.beton file"):
            verify_beton(path)


def test_reads_past_the_end_or_after_closing(beton):
    file = BetonFile(beton)
    for index in (-1, COUNT):
        with pytest.raises(BetonError, match=f"sample {index} does not exist, expected 0..5"):
            file.decode(index)
    view = file.payload(1)
    file.close()
    with pytest.raises(BetonError, match="was closed"):
        file.payload(0)
    assert len(bytes(view)) == 16 * 20 * 3  # what was handed out stays valid


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fuzzed_files_are_reported_or_unchanged(beton, sound, data):
    original = sound.read_bytes()
    with BetonFile(sound) as file:
        structure_end = METADATA_START + COUNT * METADATA.itemsize
        place = st.one_of(
            st.integers(0, structure_end - 1),
            st.integers(int(file.offsets[0]), len(original) - 1),
            st.integers(0, len(original) - 1),
        )
        pixels = [file.decode(index) for index in range(COUNT)]
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(place)] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        changed = changed[: data.draw(place)]
    beton.write_bytes(changed)
    problems = verify_beton(beton, deep=True)
    assert problems or changed == original
    try:
        with BetonFile(beton) as file:
            for index in range(min(len(file), COUNT)):
                same = np.array_equal(file.decode(index), pixels[index])
                assert same or any(problem.index in (index, None) for problem in problems)
    except BetonError:
        assert problems


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fuzzed_files_without_a_manifest_raise_only_fastdc_errors(beton, sound, data):
    beton.with_suffix(".json").unlink(missing_ok=True)
    changed = bytearray(sound.read_bytes())
    end = METADATA_START + COUNT * METADATA.itemsize
    place = st.one_of(st.integers(0, end - 1), st.integers(8 << 20, len(changed) - 1))
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(place)] = data.draw(st.integers(0, 255))
    beton.write_bytes(changed)
    problems = verify_beton(beton, deep=True)
    try:
        with BetonFile(beton) as file:
            shapes = [file.decode(index).shape for index in range(len(file))]
            assert shapes == [(height, width, 3) for height, width in zip(file.heights, file.widths, strict=True)]
        assert sum(describe_beton(beton).counts) == COUNT
    except BetonError:
        assert problems
