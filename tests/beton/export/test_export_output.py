"""An export is whole or absent, and replaces only an export."""

import os
import shutil
from pathlib import Path

import pytest

from fastdc.beton import BetonFile, Sample, write_beton
from fastdc.beton.export.export_images import export_images
from fastdc.common.errors import BetonError, ConfigError, ManifestError, OutputError
from tests.beton.export.conftest import encode, names, smooth, write_set


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("layout", ["folder", "hf", "webdataset", "npz", "rethinkdc"])
def test_a_damaged_beton_leaves_nothing(odd_set: Path, tmp_path: Path, layout: str) -> None:
    with BetonFile(odd_set) as file:
        place = int(file.offsets[16]) + 30
    data = bytearray(odd_set.read_bytes())
    data[place] ^= 1
    odd_set.write_bytes(data)
    with pytest.raises(BetonError) as raised:
        export_images(odd_set, tmp_path / ("x.npz" if layout == "npz" else "out"), layout)
    assert str(raised.value) == (
        f"{odd_set}: sample 16 (con/16.jpg+x): its bytes are not those that were written; nothing is exported. "
        "Copy or make the beton again"
    )
    assert names(tmp_path) == ["odd.beton", "odd.json"]


def test_without_manifest(odd_set: Path, tmp_path: Path) -> None:
    odd_set.with_suffix(".json").unlink()
    with pytest.raises(ManifestError, match=r"manifest of .* is missing; copy it along with the beton"):
        export_images(odd_set, tmp_path / "out", "folder")


def test_unknown_layout(odd_set: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown layout 'foldr'; did you mean 'folder'"):
        export_images(odd_set, tmp_path / "out", "foldr")


def test_an_export_is_replaced_only_with_force(odd_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_images(odd_set, out, "webdataset")
    old = content(out)
    with pytest.raises(OutputError, match="exists already; choose another name, or add --force to replace an export"):
        export_images(odd_set, out, "folder")
    assert content(out) == old
    export_images(odd_set, out, "folder", force=True)
    assert "classes.txt" not in content(out)
    assert names(tmp_path) == ["odd.beton", "odd.json", "out"]


def test_an_empty_folder_is_filled(odd_set: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_images(odd_set, tmp_path / "out", "hf")
    assert names(tmp_path / "out") == ["README.md", "data", "fastdc.json"]


def test_another_folder_is_never_replaced(odd_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "photos"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    message = "exists and is not an export .no sound fastdc.json in it., so --force does not replace it"
    with pytest.raises(OutputError, match=message):
        export_images(odd_set, out, "folder", force=True)
    (out / "fastdc.json").write_text("{}")
    with pytest.raises(OutputError, match=message):
        export_images(odd_set, out, "folder", force=True)
    assert (out / "mine.txt").read_text() == "mine"


def test_an_export_with_other_files_in_it_is_not_replaced(odd_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_images(odd_set, out, "folder")
    shutil.move(odd_set, out / "odd.beton")
    shutil.move(odd_set.with_suffix(".json"), out / "odd.json")
    with pytest.raises(OutputError, match=r"holds 2 files that are not the export's, such as odd\.beton; move them"):
        export_images(out / "odd.beton", out, "folder", force=True)
    assert (out / "odd.beton").is_file()


@pytest.mark.parametrize(
    ("layout", "own", "foreign"),
    [
        ("folder", "*/*.png", "notes.txt"),
        ("folder", "*/*.png", "con%_0/0000.png"),
        ("rethinkdc", "train/*/*.png", "train/notes.txt"),
        ("hf", "README.md", "data/notes.parquet"),
        ("webdataset", "classes.txt", "my.classes.txt"),
    ],
)
def test_a_file_in_place_of_one_of_the_export_is_not_removed(
    odd_set: Path, tmp_path: Path, layout: str, own: str, foreign: str
) -> None:
    """The number of files is that of the export, so only the name shows that one is foreign."""
    pytest.importorskip("pyarrow")
    out = tmp_path / "out"
    export_images(odd_set, out, layout)
    next(out.glob(own)).unlink()
    (out / foreign).parent.mkdir(exist_ok=True)
    (out / foreign).write_text("mine")
    with pytest.raises(OutputError, match=f"holds 1 files that are not the export's, such as {foreign}; move them"):
        export_images(odd_set, out, "folder", force=True)
    assert (out / foreign).read_text() == "mine"


def test_more_files_than_the_export_wrote_are_not_removed(odd_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_images(odd_set, out, "folder")
    image = next(out.glob("*/*.png"))
    shutil.copy(image, image.with_name("9999.png"))
    with pytest.raises(OutputError, match="holds 20 files, the export wrote 19; move the others out of it"):
        export_images(odd_set, out, "folder", force=True)


def test_a_file_or_link_at_the_output(odd_set: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "else").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "else")
    for name in ("file", "link"):
        with pytest.raises(OutputError, match="is a file or a link, expected the name of a folder to write"):
            export_images(odd_set, tmp_path / name, "folder", force=True)
    with pytest.raises(OutputError, match="is an input of this command"):
        export_images(odd_set, odd_set, "folder", force=True)
    with pytest.raises(OutputError, match=r"folder .*/none does not exist; create it first"):
        export_images(odd_set, tmp_path / "none" / "out", "folder")
    with pytest.raises(OutputError, match="which is too long for its file system"):
        export_images(odd_set, tmp_path / ("x" * 250), "folder")


def test_a_file_of_arrays(odd_set: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"does not end in .npz; call the file out.npz"):
        export_images(odd_set, tmp_path / "out", "npz")
    export_images(odd_set, tmp_path / "x.npz", "npz")
    with pytest.raises(OutputError, match=r"x.npz: exists already; choose another name or add --force"):
        export_images(odd_set, tmp_path / "x.npz", "npz")
    export_images(odd_set, tmp_path / "x.npz", "npz", force=True)
    (tmp_path / "y.npz").mkdir()
    with pytest.raises(OutputError, match=r"y.npz: is a folder, expected a file name"):
        export_images(odd_set, tmp_path / "y.npz", "npz", force=True)
    assert names(tmp_path) == ["odd.beton", "odd.json", "x.npz", "y.npz"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(odd_set: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    with pytest.raises(OutputError, match="is read-only for this user"):
        export_images(odd_set, tmp_path / "closed" / "out", "folder")


@pytest.mark.parametrize("layout", ["folder", "hf", "webdataset", "npz", "rethinkdc"])
def test_full_disk(tmp_path: Path, start_python, layout: str) -> None:  # type: ignore[no-untyped-def]
    """A file size limit, which the kernel enforces as it does a full disk."""
    image = encode(smooth(16, 20, 1)) + bytes(200_000)
    write_set(tmp_path / "x.beton", ("a",), images=[Sample(image, 0, "a/0"), Sample(image, 0, "a/1")])
    script = """
import resource, sys
from pathlib import Path
from fastdc.beton.export.export_images import export_images
from fastdc.common.errors import OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    export_images(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
except OutputError as error:
    print(error)
"""
    out = tmp_path / ("x.npz" if layout == "npz" else "out")
    output, errors = start_python(script, tmp_path / "x.beton", out, layout).communicate(timeout=60)
    assert errors == ""
    assert output.startswith(f"{out}: disk full (")
    assert output.endswith("File too large); free space and run again\n")
    assert names(tmp_path) == ["x.beton", "x.json"]


def test_a_killed_export_is_repeated_by_the_same_command(odd_set: Path, tmp_path: Path, start_python) -> None:  # type: ignore[no-untyped-def]
    script = """
import sys, time
from pathlib import Path
from fastdc.beton.export import export_images
from fastdc.beton.export.layouts import as_folder

def slow(*_, **__):
    print("writing", flush=True)
    time.sleep(60)

as_folder.write_record = slow
export_images.export_images(Path(sys.argv[1]), Path(sys.argv[2]), "folder")
"""
    process = start_python(script, odd_set, tmp_path / "out")
    assert process.stdout.readline() == "writing\n"
    export_images(odd_set, tmp_path / "out", "folder")  # does not touch the files of a writer that is alive
    assert len(names(tmp_path)) == 4
    process.kill()
    process.wait(10)
    export_images(odd_set, tmp_path / "out", "folder", force=True)
    assert names(tmp_path) == ["odd.beton", "odd.json", "out"]
    write_beton(tmp_path / "out", tmp_path / "y.beton")
    assert (tmp_path / "y.beton").read_bytes() == odd_set.read_bytes()


def test_a_folder_that_holds_the_beton_is_not_replaced(odd_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_images(odd_set, out, "folder")
    for number, path in enumerate((odd_set, odd_set.with_suffix(".json"))):  # as many files as the export wrote
        next(out.glob(f"*/{number:04d}.*")).unlink()
        shutil.move(path, out / path.name)
    with pytest.raises(OutputError, match=r"holds 2 files that are not the export's, such as odd\.beton; move them"):
        export_images(out / "odd.beton", out, "folder", force=True)
    assert (out / "odd.beton").is_file()
