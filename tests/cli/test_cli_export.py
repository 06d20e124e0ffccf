"""`fastdc export`: its output, and a set that is exported and imported trains to the same digits."""

import json
from pathlib import Path

import pytest

from fastdc.cli.main import run
from tests.cli.conftest import NETWORK, only_line


@pytest.fixture(scope="module")
def subset(work: Path) -> Path:
    path = work / "two.beton"
    options = ["--ipc", "2", "--image-size", "32", "--out", str(path), "--workdir", str(work / "dir"), "-q"]
    assert run(["compress", "random", str(work / "train.beton"), *options]) == 0
    return path


def evaluated(subset: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    capsys.readouterr()
    assert run(["evaluate", str(subset), "--val", str(work / "val.beton"), *NETWORK, "--json", "-q"]) == 0
    result = json.loads(capsys.readouterr().out)
    return {key: value for key, value in result.items() if "second" not in key}


def test_an_exported_and_imported_set_keeps_every_digit(
    subset: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = work / "hf", work / "again.beton"
    assert run(["export", str(subset), str(out), "--as", "hf", "-q"]) == 0
    assert f"{out}: 6 images in 3 files" in capsys.readouterr().out
    assert run(["write-beton", str(out), str(again), "-q"]) == 0
    assert only_line(capsys.readouterr().err).startswith(f"note: {out}: is an export of fastdc; its order, classes,")
    assert again.read_bytes() == subset.read_bytes()
    assert evaluated(again, work, capsys) == evaluated(subset, work, capsys)


def test_notes_are_printed(subset: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(subset), str(work / "theirs"), "--as", "rethinkdc", "-q"]) == 0
    out = capsys.readouterr().out
    assert "--hard --model resnet18 --ipc 2 --output-dir theirs_hard" in out
    assert f"fastdc evaluate {subset} --val VAL.beton --protocol hard --arch resnet18 --augment protocol" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{subset}", "{work}/val.beton", "--as", "folder"], "is a file or a link, expected the name of a folder"),
        (["{work}/none.beton", "{work}/x", "--as", "folder"], "none.json: manifest of"),
        (["{subset}", "{work}/x", "--as", "foldr"], "'foldr' is not one of 'folder', 'hf'"),
        (["{subset}", "{work}/x"], "Missing option '--as'"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(
    subset: Path, work: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", *(text.format(subset=subset, work=work) for text in arguments)]) == 2
    assert message in only_line(capsys.readouterr().err)
