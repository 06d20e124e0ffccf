"""Processes of the benchmarks that fail, and the precision of both sides of a cell."""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import environment
import geometry
import pytest
from contenders import cells


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (f"import os; os.kill(os.getpid(), {signal.SIGKILL:d})", "killed by signal 9"),
        ("raise SystemExit(3)", "ended with exit code 3 and no message"),
    ],
)
def test_a_child_that_says_nothing_is_named_with_its_end(
    code: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "child.py"
    script.write_text(code)
    for module in (geometry, environment):
        monkeypatch.setattr(module, "__file__", str(script))
    with pytest.raises(SystemExit, match=f"^herding: {expected}$"):
        geometry.measure("herding", tmp_path, [])
    with pytest.raises(SystemExit, match=f"{expected}"):
        environment.measure([], {}, 0)


def test_both_sides_of_a_cell_train_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` would be bf16 on a GPU that has it."""
    settings: list[Any] = []

    def evaluate(subset: Path, val: Path, given: Any) -> Any:
        settings.append(given)
        return SimpleNamespace(top1=1.0, steps=1, images=1, device="cpu")

    monkeypatch.setattr(cells, "evaluate", evaluate)
    cells.Ours("subset.beton", "val.beton", arch="convnet", size=28, epochs=2, threads=1).repeat(1.0)
    assert settings[0].precision == "fp32"
