"""Images in a folder, with their labels in a table: `labels.csv`, `metadata.csv` or `metadata.jsonl`."""

import json

import pytest

from fastdc.beton import BetonFile, write_beton
from fastdc.beton.sources.open_source import source_of
from fastdc.common.errors import SourceError


@pytest.fixture
def flat(tmp_path, jpegs):
    """Write four images: two in a folder, two in a subfolder."""
    root = tmp_path / "set"
    for number, name in enumerate(("a.jpg", "b.jpg", "deep/c.jpg", "deep/d.jpg")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(jpegs[number])
    return root


@pytest.fixture
def write(flat, tmp_path):
    """Write a table beside the images, and the beton; return its manifest."""

    def write(text, name="labels.csv", **options):
        (flat / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return write_beton(flat, tmp_path / "x.beton", **options)

    return write


ROWS = [("deep/c.jpg", "owl"), ("a.jpg", "cat"), ("b.jpg", "owl"), ("deep/d.jpg", "ant")]
BODY = "".join(f"{file},{label}\n" for file, label in ROWS)
LINES = "".join(json.dumps({"file_name": file, "label": label, "more": [1]}) + "\n" for file, label in ROWS)
SWAPPED = "".join(f'"{label}","{file}"\r\n' for file, label in ROWS)

TABLES = [
    ("labels.csv", f"file_name,label\n{BODY}"),
    ("labels.csv", f"\ufefffile_name , label\n\n{BODY}"),
    ("labels.csv", f"file;class\n{BODY}".replace(",", ";")),
    ("labels.csv", BODY),
    ("labels.csv", SWAPPED),
    ("metadata.csv", f"file_name,label\n{BODY}"),
    ("metadata.csv", f"label,path\r\n{SWAPPED}".replace("/", "\\")),
    ("metadata.jsonl", LINES),
]


@pytest.mark.parametrize(("name", "text"), TABLES)
def test_images_are_in_the_order_of_the_rows(write, tmp_path, jpegs, name, text):
    made = write(text, name)
    assert made.classes == ("ant", "cat", "owl")
    assert list(made.ids) == [file for file, _ in ROWS]
    with BetonFile(tmp_path / "x.beton") as file:
        assert file.labels.tolist() == [2, 1, 2, 0]
        assert [bytes(file.payload(index)) for index in range(4)] == [jpegs[number] for number in (2, 0, 1, 3)]
    assert (made.dataset, made.order, made.made["table"]) == ("set", "own", name)
    assert made.made["class_names"] == "label column"


NUMBERED = "file_name,label\na.jpg,2\nb.jpg,0\ndeep/c.jpg,2\ndeep/d.jpg,0\n"


def test_numbers_are_classes_by_position(write, tmp_path):
    made = write(NUMBERED)
    assert (made.classes, made.counts, made.made["class_names"]) == (("0", "1", "2"), (2, 0, 2), "numbers")
    (tmp_path / "names.txt").write_text("ant\nbee\ncat\n")
    made = write(NUMBERED, classes=tmp_path / "names.txt", force=True)
    assert (made.classes, made.counts, made.made["class_names"]) == (("ant", "bee", "cat"), (2, 0, 2), "given")


def test_numbers_that_name_the_given_classes_are_names(write, tmp_path):
    (tmp_path / "names.txt").write_text("2\n1\n0\n")
    made = write(NUMBERED, classes=tmp_path / "names.txt")
    with BetonFile(tmp_path / "x.beton") as file:
        assert (made.classes, file.labels.tolist()) == (("2", "1", "0"), [0, 2, 0, 2])


def test_numbers_take_the_names_of_a_readme(write, flat):
    names = (
        "dataset_info:\n  features:\n  - name: label\n    dtype:\n      class_label:\n        names: [ant, 'no', cat]\n"
    )
    (flat / "README.md").write_text(f"---\n{names}---\ntext\n")
    made = write(NUMBERED)
    assert (made.classes, made.made["class_names"]) == (("ant", "no", "cat"), "README")


def test_columns_are_chosen(write, flat):
    made = write("id,name,kind\n1,a.jpg,x\n2,b.jpg,y\n", image_column="name", label_column="kind")
    assert (made.classes, made.made["columns"]) == (("x", "y"), ["name", "kind"])
    made = write("1,a.jpg,x\n2,b.jpg,y\n", image_column="2", label_column="3", force=True)
    assert (made.classes, made.made["columns"]) == (("x", "y"), ["2", "3"])


def test_a_table_of_any_name_is_a_source(flat, tmp_path):
    (flat / "train.tsv").write_text("a.jpg\tx\nb.jpg\ty\n")
    made = write_beton(flat / "train.tsv", tmp_path / "x.beton")
    assert (list(made.ids), made.made["table"]) == (["a.jpg", "b.jpg"], "train.tsv")


def test_each_split_has_a_table(flat, tmp_path, jpegs):
    for name in ("train", "test"):
        (tmp_path / "hf" / name).mkdir(parents=True)
        (tmp_path / "hf" / name / f"{name}.jpg").write_bytes(jpegs[0])
        (tmp_path / "hf" / name / "metadata.csv").write_text(f"file_name,label\n{name}.jpg,x\n")
    made = write_beton(tmp_path / "hf", tmp_path / "x.beton", split="test")
    assert (list(made.ids), made.split, made.dataset) == (["test.jpg"], "test", "hf")
    with pytest.raises(SourceError, match="has the splits test, train; choose one with --split"):
        write_beton(tmp_path / "hf", tmp_path / "y.beton")
    with pytest.raises(SourceError, match="has no split 'val'; it has test, train"):
        write_beton(tmp_path / "hf", tmp_path / "y.beton", split="val")


def test_images_without_a_row_are_left_out_with_a_note(write, capsys):
    assert len(write("file_name,label\na.jpg,x\ngone/z.jpg,x\n", on_error="skip").ids) == 1
    assert "images without a row in labels.csv: 1, such as b.jpg; they are left out" in capsys.readouterr().err


def test_a_table_above_class_folders_is_ignored(folder, tmp_path, capsys):
    (folder / "metadata.csv").write_text("file_name,label\nclass_0/0.jpg,x\n")
    assert source_of(folder).name == "folder"
    assert write_beton(folder, tmp_path / "x.beton").classes == ("class_0", "class_1", "class_2")
    assert "metadata.csv: is not read, as folders beside it are the classes; give the table" in capsys.readouterr().err
    assert write_beton(folder / "metadata.csv", tmp_path / "y.beton").classes == ("x",)


def test_a_table_above_a_split_of_class_folders_is_ignored(folder, tmp_path):
    (tmp_path / "set").mkdir()
    folder.rename(tmp_path / "set" / "train")
    (tmp_path / "set" / "metadata.csv").write_text("a,b\n")
    assert write_beton(tmp_path / "set", tmp_path / "x.beton", split="train").counts == (4, 4, 4)


def test_the_error_names_a_table_of_another_name(tmp_path, jpegs, capsys):
    images, names = tmp_path / "set" / "images", tmp_path / "names.txt"
    images.mkdir(parents=True)
    (images / "a.jpg").write_bytes(jpegs[0])
    names.write_text("x\n")
    table = tmp_path / "set" / "train.csv"
    table.write_text("file,label\nimages/a.jpg,x\n")
    with pytest.raises(SourceError, match=rf"'images' is none .*; if train.csv lists .*, give it as SOURCE: {table}$"):
        write_beton(tmp_path / "set", tmp_path / "x.beton", classes=names)
    assert write_beton(table, tmp_path / "x.beton", classes=names).counts == (1,)
    capsys.readouterr()
    assert write_beton(tmp_path / "set", tmp_path / "y.beton").classes == ("images",)
    assert f"note: {table}: is not read, as folders beside it are the classes" in capsys.readouterr().err


def test_a_table_of_another_name_above_class_folders_is_ignored(folder, tmp_path, capsys):
    (folder / "notes.csv").write_text("a,b\n")
    assert write_beton(folder, tmp_path / "x.beton").counts == (4, 4, 4)
    assert "notes.csv" not in capsys.readouterr().err
    (tmp_path / "set").mkdir()
    (folder / "notes.csv").rename(tmp_path / "set" / "notes.csv")
    folder.rename(tmp_path / "set" / "train")
    with pytest.raises(SourceError, match=r"add --split train$"):
        write_beton(tmp_path / "set", tmp_path / "y.beton")


WRONG = [
    ("labels.csv", "", "has no rows, expected a line for each image"),
    ("labels.csv", "file_name,label\n", "no row with a usable label; they have no rows"),
    (
        "labels.csv",
        "name,label\na.jpeg2,x\n",
        r"no image column \(known names: file_name, .*\); it has name, label; choose with --im",
    ),
    ("labels.csv", "file,kind\na.jpg,x\n", r"no label column .*; it has file, kind; choose with --label-column"),
    ("labels.csv", "a.jpg,1,2\n", "no label column .*; it has 1, 2, 3; choose with --label-column"),
    ("labels.csv", "file,file,label\na.jpg,x,y\n", "2 columns are called 'file', expected one"),
    ("labels.csv", "file,label\na.jpg,x\nb.jpg\n", "line 3 has 1 cells, expected at least 2; complete it"),
    ("labels.csv", "file,label\n,x\n", "line 2 names no image"),
    ("labels.csv", "file,label\n../../etc/passwd,x\n", "line 2: '../../etc/passwd' leads out of the folder"),
    ("labels.csv", "file,label\ndeep/../../a.jpg,x\n", "line 2: .* leads out of the folder"),
    ("labels.csv", "file,label\n/etc/passwd,x\n", "line 2: '/etc/passwd' leads out of the folder"),
    ("labels.csv", "file,label\nC:\\a.jpg,x\n", "leads out of the folder"),
    (
        "labels.csv",
        "file,label\na.jpg,x\nb.jpg,y\n./a.jpg,x\n",
        "lines 2 and 4 both list a.jpg; keep one line per image",
    ),
    ("labels.csv", "file,label\na.jpg,4000\n", "line 2: label 4000 in 1 rows, expected less than 1,000"),
    ("labels.csv", 'file,label\n"a.jpg"x,y\n', "line 2 is not valid CSV .*; repair its quotes"),
    ("labels.csv", b"file,label\n\xff\xfe.jpg,x\n", "is not UTF-8 text, expected a table; save it as UTF-8"),
    ("labels.csv", "file,label" + "x" * (1 << 20), "line 1 is longer than 1048576 letters, expected a table"),
    ("metadata.jsonl", '{"file_name": "a.jpg", "label": 1', "line 1 is not valid JSON"),
    ("metadata.jsonl", "[1]\n", "line 1 is not a JSON object"),
    ("metadata.jsonl", '{"file_name": "a.jpg", "text": "x"}\n', "no label column .*; it has file_name, text"),
    ("metadata.jsonl", '{"file_name": "a.jpg", "label": [1]}', "line 1: 'label' is a list, expected text or a whole"),
    ("metadata.jsonl", '{"file_name": "a.jpg", "label": 1.5}', "line 1: 'label' is a float, expected text or a whole"),
    ("metadata.jsonl", '{"file_name": "a.jpg", "label": true}', "line 1: 'label' is a bool, expected text or a whole"),
    ("metadata.jsonl", '{"file_name": {"a": 1}, "label": 1}', "line 1: 'file_name' is a dict, expected text"),
    ("metadata.jsonl", "[" * 100_000, "line 1 is not valid JSON"),
]


@pytest.mark.parametrize(("name", "text", "message"), WRONG)
def test_tables_that_cannot_be_used(write, tmp_path, name, text, message):
    with pytest.raises(SourceError, match=message) as caught:
        write(text, name)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("x.*"))


BAD_ROWS = [
    ("file,label\na.jpg,x\ngone.jpg,x\n", None, "gone.jpg: no such image, though labels.csv lists it.*--on-error skip"),
    ("file,label\na.jpg,0\nb.jpg,7\n", "ant\nbee\n", r"b.jpg: label 7, expected 0..1 \(in labels.csv\)"),
    ("file,label\na.jpg,ant\nb.jpg,cow\n", "ant\nbee\n", "b.jpg: label 'cow' is not one of the 2 classes"),
    ("file,label\na.jpg,0\nb.jpg,\n", None, r"b.jpg: no label \(null\)"),
    ("file,label\na.jpg,0\nb.jpg,-1\n", None, "b.jpg: label -1, expected 0..0"),
]


@pytest.mark.parametrize(("text", "names", "message"), BAD_ROWS)
def test_rows_that_cannot_be_used_are_skipped_on_request(write, tmp_path, text, names, message):
    (tmp_path / "names.txt").write_text(names or "")
    classes = tmp_path / "names.txt" if names else None
    with pytest.raises(SourceError, match=message):
        write(text, classes=classes)
    assert not list(tmp_path.glob("x.*"))
    made = write(text, classes=classes, on_error="skip")
    assert (list(made.ids), len(made.skipped)) == (["a.jpg"], 1)


def test_two_tables_and_options_that_do_not_apply(write, flat, tmp_path, folder):
    (flat / "metadata.csv").write_text(f"file_name,label\n{BODY}")
    with pytest.raises(SourceError, match=r"holds labels.csv and metadata.csv; give one of them as the source"):
        write(BODY)
    with pytest.raises(SourceError, match="lists one set without splits, but 'train' was requested; omit --split"):
        write_beton(flat / "labels.csv", tmp_path / "x.beton", split="train")
    with pytest.raises(SourceError, match="--label-column has no effect on a source of kind folder; leave it out"):
        write_beton(folder, tmp_path / "x.beton", label_column="x")
    with pytest.raises(SourceError, match="no column 'x', which --label-column names; it has file_name, label"):
        write_beton(flat / "metadata.csv", tmp_path / "x.beton", label_column="x")


@pytest.mark.parametrize("name", ["b\\u0000.jpg", "b\\ud800.jpg"])
def test_an_impossible_file_name(write, name):
    text = f'{{"file_name": "a.jpg", "label": "x"}}\n{{"file_name": "{name}", "label": "y"}}\n'
    with pytest.raises(SourceError, match=r"metadata.jsonl: line 2 names no image, expected a path inside"):
        write(text, "metadata.jsonl")
