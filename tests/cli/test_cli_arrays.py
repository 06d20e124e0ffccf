"""`fastdc write-beton` on arrays and addresses of the hub."""

from pathlib import Path

import numpy as np
import pytest

from fastdc.beton import load_manifest
from fastdc.cli.main import run
from tests.cli.conftest import only_line


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """Write six images of 2 classes, standardised with mean 0.5 and deviation 0.25."""
    levels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3))
    values = ((levels / 255 - 0.5) / 0.25).astype(np.float32)
    values[0, 0, 0] = 4
    np.savez(tmp_path / "set.npz", images=values, labels=np.arange(6) % 2)
    return tmp_path / "set.npz"


def test_a_standardisation_is_undone(arrays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.beton"
    assert run(["write-beton", str(arrays), str(out), "--mean", "0.5", "--std", "0.25,0.25,0.25", "-q"]) == 0
    shown = capsys.readouterr()
    assert "3 of 1,152 values (0.26%) are outside 0..255 after --mean and --std; clipped" in only_line(shown.err)
    assert "6 images, 2 classes" in shown.out
    assert "not decoded" not in shown.out
    assert load_manifest(out).made["clipped"] == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mean", "0.5,x", "--std", "1"], "--mean '0.5,x': expected a number, or one per channel"),
        (["--image-column", "x"], "--image-column has no effect on a source of kind tensors"),
    ],
)
def test_wrong_options(
    arrays: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert run(["write-beton", str(arrays), str(tmp_path / "x.beton"), "-q", *options]) == 2
    assert words in only_line(capsys.readouterr().err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set.npz"]


def test_an_address_that_names_no_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["write-beton", "hf://name", str(tmp_path / "x.beton"), "-q"]) == 2
    assert "expected hf://OWNER/NAME" in only_line(capsys.readouterr().err)
