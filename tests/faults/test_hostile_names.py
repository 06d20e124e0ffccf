"""Names of classes, data sets, methods and folders that try to be paths, markup, formulas or terminal commands."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fastdc.cli.main import run
from fastdc.common.errors import MethodError
from fastdc.methods.registry import Registry
from fastdc.sweep.sweep_config import SweepConfig
from tests.faults.test_wrong_method import Plugin

Make = Callable[..., SweepConfig]
Write = Callable[[SweepConfig, Path], Path]
NAMES = (
    "../../etc/passwd",
    "</script><b>bold",
    "[red]red[/red]",
    "\x1b[2J\x1b]0;title\x07",
    "=cmd()",
    "a b\tc",
    "con",
    "\u0441lass",  # a Cyrillic letter that looks Latin
    "\u202eevil",
    "n" * 250,
)


@pytest.fixture
def hostile(write_tiny: Callable[..., Path], tmp_path: Path) -> Path:
    """Write betons of a data set and classes with such names."""
    for split, count in (("train", 3), ("val", 2)):
        write_tiny(tmp_path / f"{split}.beton", count, 0, classes=NAMES, dataset="</script><b>[red]=x\x1b[2J")
    return tmp_path


def test_a_sweep_and_every_report_of_it(
    hostile: Path, make_config: Make, write_yaml: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {"train": hostile / "train.beton", "val": hostile / "val.beton", "workdir": hostile / "work [red] =x"}
    config = write_yaml(make_config(**paths, ipc="1", seeds="0", protocols="hard-small*epochs=1"), hostile / "a.yaml")
    assert run(["sweep", str(config), "--dry-run"]) == 0
    assert run(["sweep", str(config)]) == 0
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert "[red]" in captured.out
    assert {path.parent.parent for path in hostile.rglob("*.beton") if "subsets" in path.parts} == {paths["workdir"]}
    for form in ("table", "csv", "json", "latex"):
        assert run(["report", str(paths["workdir"]), "--format", form]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out
        if form == "csv":
            (row,) = csv.DictReader(io.StringIO(out))
            assert not any(value.startswith(("=", "+", "@")) for value in row.values())
        if form == "json":
            assert json.loads(out)[0]["dataset"].startswith("</script><b>[red]=x")


@pytest.mark.parametrize(
    "name", ["../../etc", "/abs", "a b", "A", "", "con.x", "x" + chr(0), "\u0430um", "-x", "a/b", "[red]", "x\n"]
)
def test_a_method_by_such_a_name_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Plugin(lambda made, _: made)
    monkeypatch.setattr(plugin, "info", plugin.info.model_copy(update={"name": name}), raising=False)
    with pytest.raises(MethodError, match="a name has only"):
        Registry().register(plugin)


@pytest.mark.parametrize("key", ["../../store", "/tmp/x", "a" * 300])
def test_methods_that_look_like_paths_name_no_file(
    key: str, make_config: Make, write_yaml: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_yaml(make_config(methods=[key]), tmp_path / "a.yaml")
    before = sorted(tmp_path.rglob("*"))
    assert run(["sweep", str(config)]) == 2
    assert "unknown method" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
