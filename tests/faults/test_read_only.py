"""Read-only folders and impossible paths: one line with the path, exit code 2, before any work."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastdc.cli.main import run
from fastdc.sweep import cell_runner as cell
from fastdc.sweep.sweep_config import SweepConfig

Make = Callable[..., SweepConfig]
Write = Callable[[SweepConfig, Path], Path]


@pytest.fixture(autouse=True)
def no_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if a cell runs."""

    def refuse(*_: object) -> None:
        raise AssertionError("a cell was run")

    monkeypatch.setattr(cell.CellRunner, "run", refuse)


def is_file(folder: Path) -> Path:
    (folder / "work").write_text("notes")
    return folder / "work"


def below_a_file(folder: Path) -> Path:
    return is_file(folder) / "deeper"


def too_long(folder: Path) -> Path:
    return folder / ("w" * 300)


def link_in_a_circle(folder: Path) -> Path:
    (folder / "work").symlink_to(folder / "work")
    return folder / "work"


def link_to_nothing(folder: Path) -> Path:
    (folder / "work").symlink_to(folder / "gone" / "far")
    return folder / "work"


def in_proc(folder: Path) -> Path:
    """Return a folder in /proc, which even root cannot write to."""
    return Path("/proc/fastdc-work")


def store_is_a_folder(folder: Path) -> Path:
    (folder / "work" / "store.sqlite").mkdir(parents=True)
    return folder / "work"


@pytest.mark.parametrize(
    "make_workdir",
    [is_file, below_a_file, too_long, link_in_a_circle, link_to_nothing, in_proc, store_is_a_folder],
    ids=lambda function: function.__name__,
)
def test_an_impossible_workdir(
    make_workdir: Callable[[Path], Path],
    make_config: Make,
    write_yaml: Write,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "at"
    folder.mkdir()
    workdir = make_workdir(folder)
    before = sorted(folder.rglob("*"))
    code = run(["sweep", str(write_yaml(make_config(workdir=workdir), tmp_path / "grid.yaml"))])
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert (code, captured.out) == (2, "")
    assert line.startswith("error: ")
    assert str(workdir)[:60] in line
    assert ";" in line  # the remedy
    assert sorted(folder.rglob("*")) == before


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """Make a folder without write permission."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    yield folder
    folder.chmod(stat.S_IRWXU)


@pytest.mark.skipif(os.geteuid() == 0, reason="root passes every permission bit; /proc stands for it above")
def test_a_folder_without_permission(
    locked: Path, make_config: Make, write_yaml: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["sweep", str(write_yaml(make_config(workdir=locked / "work"), tmp_path / "grid.yaml"))])
    assert code == 2
    assert f"{locked / 'work'}: cannot be made (Permission denied); choose another --workdir" in capsys.readouterr().err
