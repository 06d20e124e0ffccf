"""Classes and labels of parquet shards: numbers, names, and names from another file."""

import pytest

from fastdc.beton import write_beton
from fastdc.beton.classes import read_class_names
from fastdc.beton.sources.open_source import open_source
from fastdc.beton.sources.source_options import SourceOptions
from fastdc.common.errors import OutputError, SourceError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from tests.beton.hub_shards import found, payloads, write_shard  # noqa: E402  after the check for pyarrow


def test_class_id_takes_precedence_over_label(tmp_path, jpegs):
    table = pa.table({"label": ["x", "y"], "image": jpegs[:2], "class_id": [1, 0]})
    pq.write_table(table, tmp_path / "x.parquet")
    assert found(tmp_path).labels.tolist() == [1, 0]


def test_numbered_classes_sort_as_their_numbers(tmp_path, jpegs):
    labels = list(range(12))
    manifest = write_beton(write_shard(tmp_path / "x.parquet", jpegs, labels), tmp_path / "x.beton")
    assert manifest.classes == tuple(f"{label:02d}" for label in range(12))
    assert manifest.made["class_names"] == "numbers"


def test_names_of_the_hub_keep_their_order(tmp_path, jpegs):
    source = write_shard(tmp_path / "x.parquet", jpegs[:2], [1, 0], names=["zebra", "ant", "bee"])
    manifest = write_beton(source, tmp_path / "x.beton")
    assert (manifest.classes, manifest.counts) == (("zebra", "ant", "bee"), (1, 1, 0))
    assert manifest.made["class_names"] == "hub"


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_labels_may_be_names(tmp_path, jpegs, kind):
    for number, labels in enumerate([["dog", "cat"], ["ant", "dog"]]):
        column = pa.array(labels, pa.string()).cast(kind)
        write_shard(tmp_path / f"{number}.parquet", jpegs[2 * number : 2 * number + 2], column)
    contents = found(tmp_path)
    assert contents.classes == ("ant", "cat", "dog")
    assert contents.labels.tolist() == [2, 1, 0, 2]
    assert found(tmp_path, classes=("dog", "cat", "ant")).labels.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("form", ["beton", "json", "txt"])
def test_classes_are_named_by_another_file(hub, folder, tmp_path, form):
    write_beton(folder, tmp_path / "val.beton")
    (tmp_path / "val.txt").write_text("class_0\nclass_1\nclass_2\n")
    manifest = write_beton(hub, tmp_path / "x.beton", split="train", classes=tmp_path / f"val.{form}")
    assert manifest.classes == ("class_0", "class_1", "class_2")
    assert manifest.made["class_names"] == "given"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a\n\nb\n", "line 2 is empty"),
        ("a\nb\na\n", "lines 1 and 3 are both 'a'"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_class_files_that_cannot_be_used(hub, tmp_path, text, words):
    (tmp_path / "names.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SourceError, match=words):
        found(hub, "train", tmp_path / "names.txt")


def test_a_file_of_classes_is_never_overwritten(hub, folder, tmp_path):
    out = tmp_path / "val.beton"
    write_beton(folder, out)
    with pytest.raises(OutputError, match="is an input"):
        write_beton(hub, out, split="train", classes=out, force=True)
    with pytest.raises(SourceError, match=r"nowhere.beton: does not exist, expected a .beton"):
        write_beton(hub, tmp_path / "x.beton", split="train", classes=tmp_path / "nowhere.beton")


BAD_LABELS = [([0, -1, 1], "label -1, expected 0..1"), ([0, None, 1], "no label .null."), ([0, 5, 1], "label 5, exp")]


@pytest.mark.parametrize(("labels", "words"), BAD_LABELS)
def test_bad_labels_stop_at_once_or_are_skipped(tmp_path, jpegs, labels, words):
    source = write_shard(tmp_path / "x.parquet", [*jpegs[:2], None], labels, names=["a", "b"])
    with pytest.raises(SourceError, match=rf"x.parquet:1: {words}.*--on-error skip"):
        write_beton(source, tmp_path / "x.beton")
    manifest = write_beton(
        write_shard(tmp_path / "x.parquet", jpegs[:3], labels, names=["a", "b"]), tmp_path / "x.beton", on_error="skip"
    )
    assert [(item.path, item.kind) for item in manifest.skipped] == [("x.parquet:1", "unreadable")]
    assert payloads(tmp_path / "x.beton") == [jpegs[0], jpegs[2]]


def test_unknown_names_are_bad_labels(tmp_path, jpegs):
    source = write_shard(tmp_path / "x.parquet", jpegs[:2], ["a", "q"])
    (tmp_path / "names.txt").write_text("a\nb\n")
    with pytest.raises(SourceError, match=r"x.parquet:1: label 'q' is not one of the 2 classes"):
        write_beton(source, tmp_path / "x.beton", classes=tmp_path / "names.txt")


def test_labels_too_large_to_be_numbers_of_classes_are_refused(tmp_path, jpegs):
    source = write_shard(tmp_path / "x.parquet", jpegs[:2], [0, 4_000_000])
    with pytest.raises(SourceError, match=r"x.parquet:1: label 4000000 in 2 rows, expected less than 1,000"):
        found(source)


@pytest.mark.parametrize("named", [["a"], None])
@pytest.mark.parametrize(("labels", "shown"), [([-1, -1], "-1"), (pa.array([None, None], pa.int64()), "null")])
def test_a_split_whose_labels_are_not_published(tmp_path, jpegs, labels, shown, named):
    with pytest.raises(
        SourceError, match=f"every label is {shown}: the labels of this split are not published.*--split"
    ):
        found(write_shard(tmp_path / "x.parquet", jpegs[:2], labels, names=named))


def test_no_usable_label_at_all(tmp_path, jpegs):
    with pytest.raises(
        SourceError, match=r"no row with a usable label; the first, x.parquet:0: label 5, expected 0\.\.0"
    ):
        found(write_shard(tmp_path / "x.parquet", jpegs[:2], [5, -1], names=["a"]))


NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_unicode_spellings_of_a_name_are_one_class(tmp_path, jpegs):
    """In a column of names, among the hub's names, and between these and a list of classes."""
    text = found(write_shard(tmp_path / "text.parquet", jpegs[:3], [NFC, NFD, "dog"]))
    assert (text.classes, text.labels.tolist()) == ((NFC, "dog"), [0, 0, 1])
    assert found(write_shard(tmp_path / "hub.parquet", jpegs[:2], [0, 1], names=["dog", NFD])).classes == ("dog", NFC)
    (tmp_path / "names.txt").write_text(f"{NFD}\ndog\n")
    names = read_class_names(tmp_path / "names.txt")
    with open_source(tmp_path / "hub.parquet", SourceOptions(classes=names)) as opened:
        assert opened.contents.classes == (NFC, "dog")
        assert opened.contents.labels.tolist() == [1, 0]


def test_a_list_of_classes_with_one_name_in_two_spellings(tmp_path):
    (tmp_path / "names.txt").write_text(f"{NFC}\ndog\n{NFD}\n")
    with pytest.raises(SourceError, match=r"lines 1 and 3 are both .*U\+00E9.*U\+0301.*, expected different names"):
        read_class_names(tmp_path / "names.txt")


def test_a_class_may_have_no_images_but_not_lose_all(tmp_path, jpegs):
    source = write_shard(tmp_path / "x.parquet", [jpegs[0], b"junk"], [0, 1], names=["a", "b", "c"])
    with pytest.raises(SourceError, match=r"/x\.parquet: class 'b': none of its 1 images can be read"):
        write_beton(source, tmp_path / "x.beton", on_error="skip")


def test_given_names_are_matched_with_the_hubs_by_name(tmp_path, jpegs):
    write_shard(tmp_path / "a.parquet", jpegs[:4], [0, 1, 1, 5], names=("zebra", "apple", "fig"))
    with open_source(tmp_path, SourceOptions(classes=("apple", "fig", "zebra"))) as opened:
        assert opened.contents.classes == ("apple", "fig", "zebra")
        assert opened.contents.labels.tolist() == [2, 0, 0, -1]
        assert opened.made["class_names"] == "given"


def test_other_names_match_by_position_with_a_note(tmp_path, jpegs, capsys):
    write_shard(tmp_path / "a.parquet", jpegs[:3], [0, 1, 1], names=("tench", "goldfish"))
    with open_source(tmp_path, SourceOptions(classes=("n01440764", "n01443537"))) as opened:
        assert opened.contents.labels.tolist() == [0, 1, 1]
        assert opened.made["class_names"] == "given, by position"
    assert "shares no name with the source; 'tench' becomes 'n01440764', and so on" in capsys.readouterr().err


def test_hub_names_that_repeat_stay_two_classes(tmp_path, jpegs):
    """ImageNet has two classes called crane."""
    write_shard(tmp_path / "a.parquet", jpegs[:3], [0, 1, 2], names=("crane", "owl", "crane"))
    assert found(tmp_path).labels.tolist() == [0, 1, 2]
    assert found(tmp_path, classes=("crane", "owl", "crane")).labels.tolist() == [0, 1, 2]
    with pytest.raises(SourceError, match="repeats only some of the source's names, such as 'crane'; give exactly"):
        found(tmp_path, classes=("crane", "crane", "owl"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("cat", "ant"), "repeats only some of the source's names, such as 'cat'"),
        (("a",), "2 classes, but --classes names 1"),
    ],
)
def test_names_that_match_the_hubs_only_partly_are_refused(tmp_path, jpegs, given, words):
    write_shard(tmp_path / "a.parquet", jpegs[:2], [0, 1], names=("dog", "cat"))
    with pytest.raises(SourceError, match=words):
        found(tmp_path, classes=given)


def test_class_names_that_are_not_utf8(tmp_path, jpegs):
    bad = pa.array([b"ant", b"\xff\xfe"], pa.binary()).view(pa.string())
    table = pa.table({"image": pa.array(jpegs[:2], pa.binary()), "label": bad})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="column 'label' cannot be read"):
        found(tmp_path)
