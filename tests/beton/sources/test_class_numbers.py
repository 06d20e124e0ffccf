"""Class folders that are numbered instead of named, as in many released distilled sets."""

import pytest

from fastdc.beton import write_beton
from fastdc.common.errors import SourceError

NAMES = ("tench", "goldfish", "shark")


@pytest.fixture
def numbered(tmp_path, jpegs):
    """Write one image into each of the given folders, and class names to a file; return a function that converts."""

    def write(folders, names=NAMES, **options):
        for number, name in enumerate(folders):
            (tmp_path / "set" / name).mkdir(parents=True)
            (tmp_path / "set" / name / "0.jpg").write_bytes(jpegs[number])
        (tmp_path / "names.txt").write_text("\n".join(names) + "\n")
        return write_beton(tmp_path / "set", tmp_path / "x.beton", classes=tmp_path / "names.txt", **options)

    return write


@pytest.mark.parametrize("form", ["new{:03d}", "{:05d}", "{}", "class_{}", "Klasse {}"])
def test_numbered_folders_take_the_names_by_position_with_a_note(numbered, capsys, form):
    made = numbered([form.format(number) for number in range(3)])
    assert made.classes == NAMES
    assert [name.split("/")[0] for name in made.ids] == [form.format(number) for number in range(3)]
    assert made.made["class_names"] == "given, by position"
    first = form.format(0)
    assert f"shares no name with the folders, which go by their numbers; {first!r} becomes 'tench', and so on" in (
        capsys.readouterr().err
    )


def test_folders_sort_by_number_not_as_text(numbered):
    names = [f"class{chr(97 + number)}" for number in range(12)]
    made = numbered([str(number) for number in range(12)], names)
    assert [name.split("/")[0] for name in made.ids] == [str(number) for number in range(12)]
    assert (made.classes, made.order) == (tuple(names), "own")


def test_names_that_match_are_taken_by_name_without_a_note(numbered, capsys):
    made = numbered(["2", "1", "0"], ["2", "0", "1"])
    assert made.classes == ("2", "0", "1")
    assert [name.split("/")[0] for name in made.ids] == ["2", "0", "1"]
    assert "class_names" not in made.made
    assert "note" not in capsys.readouterr().err


def test_numbers_of_another_width_name_the_same_classes(numbered):
    folders = [str(number) for number in range(11)]
    made = numbered(folders, [f"{number:02d}" for number in range(11)])
    assert [name.split("/")[0] for name in made.ids] == folders


def test_a_class_without_a_folder_is_allowed_after_the_first(numbered):
    made = numbered(["00000", "00002"], allow_missing_classes=True)
    assert (made.classes, made.counts) == (NAMES, (1, 0, 1))


WRONG = [
    (
        ["1", "2", "3"],
        NAMES,
        {},
        r"3 folders are numbered from 1 to 3 \('3'\), but --classes names 3 .* 0 to 2; rename",
    ),
    (
        ["1", "2"],
        NAMES,
        {"allow_missing_classes": True},
        "numbered from 1 .* expected from 0, the number of .* 'tench'",
    ),
    (["0", "2"], NAMES, {}, "no folder of number 1, class 'goldfish'.*1 are missing.*--allow-missing-classes"),
    (["0", "1", "2"], NAMES[:2], {}, "3 folders are numbered from 0 to 2.*names 2 classes.*or name all classes"),
    (["0", "1", "01", "2"], NAMES, {}, "folders '01' and '1' both have number 1; merge them"),
    (["0", "1", "owl"], NAMES, {}, "folder '0' is none of the 3 classes .* or number all folders, from 0"),
    (["a0", "b1", "c2"], NAMES, {}, "folder 'a0' is none of the 3 classes"),
    (["n01440764", "n01443537", "n01484850"], NAMES, {}, "folder 'n01440764' is none of the 3 classes"),
    (["0", "1", "2"], ("1", "0", "two"), {}, "folder '2' is none of the 3 classes"),
]


MISNAMED = [
    (
        ["tench", "gold fish", "shark"],
        "names; rename it to one of the names given there, such as 'goldfish', remove it, name",
    ),
    (
        ["cod", "sharks", "tench"],
        "names, like 1 more; rename them to names given there, such as 'goldfish', remove",
    ),
    ([*NAMES, "cod"], "'cod' is none of the 3 classes that --classes names; remove it, name it there too, or number"),
]


@pytest.mark.parametrize(("folders", "message"), MISNAMED)
def test_a_folder_of_another_name_gets_a_hint(numbered, folders, message):
    with pytest.raises(SourceError, match=message):
        numbered(folders)


@pytest.mark.parametrize(("folders", "names", "options", "message"), WRONG)
def test_ambiguous_folders_are_refused(numbered, tmp_path, folders, names, options, message):
    with pytest.raises(SourceError, match=message):
        numbered(folders, names, **options)
    assert not list(tmp_path.glob("x.*"))


def test_a_name_that_is_not_utf8_is_matched_by_name(numbered, capsys):
    made = numbered(["caf\udce9", "dog"], ["dog", "caf\\udce9"])
    assert (made.classes, made.made.get("class_names")) == (("dog", "caf\\udce9"), None)
    assert "shares no name" not in capsys.readouterr().err
