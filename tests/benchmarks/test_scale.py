"""`benchmarks/scale.py`, with a few thousand files instead of 1,281,167."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "scale.py"


@pytest.mark.timeout(90)
def test_every_step_runs_on_a_small_tree(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--images", "3001", "--classes", "7", "--work", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=80)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    for step in ("list", "open", "manifest"):
        assert (result[step]["images"], result[step]["classes"]) == (3001, 7)
    assert all(0 < result[step]["peak_mb"] < 400 for step in ("generate", "list", "write", "open", "manifest"))
    assert result["write"]["manifest_bytes"] > 3001 * 64
    assert list(tmp_path.iterdir()) == []  # the tree is removed


def test_more_classes_than_images_is_refused() -> None:
    command = [sys.executable, str(SCRIPT), "--images", "3", "--classes", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "expected at least one in each" in done.stderr


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"counts": [4, 4, 3]}, "found 4 images in class 1, expected 3"),
        ({"counts": [4, 2, 4]}, "found 2 images in class 1, expected 3"),  # as many in all
        ({"counts": [5, 5]}, "found 2 classes, expected 3"),
    ],
)
def test_other_counts_are_refused(result: dict[str, list[int]], words: str) -> None:
    spec = importlib.util.spec_from_file_location("scale", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    scale = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scale)
    with pytest.raises(SystemExit, match=words):
        scale.check_counts("list", result, 10, 3)
    with pytest.raises(KeyError):
        scale.check_counts("list", {}, 10, 3)
