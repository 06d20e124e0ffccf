"""`fastdc write-beton` on parquet shards."""

from pathlib import Path

import pytest

from fastdc.beton import load_manifest
from fastdc.cli.main import run
from tests.cli.conftest import only_line

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def shards(photos: Path, tmp_path: Path) -> Path:
    """Write the training photos of `photos` as one shard of the hub, classes numbered 0, 1, 3."""
    rows = [(path.read_bytes(), label) for label, name in ((0, "bark"), (1, "moss"), (3, "sand"))
            for path in sorted((photos / "train" / name).iterdir())]  # fmt: skip
    table = pa.table({"image": [data for data, _ in rows], "class_id": [label for _, label in rows]})
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "train-00000-of-00001.parquet")
    return tmp_path


def test_parquet_is_written_and_unnamed_classes_are_noted(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "train.beton"
    assert run(["write-beton", str(shards), str(out), "--split", "train", "-q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "24 images, 4 classes" in lines[0]
    assert lines[1].startswith("classes are called 0..3, because the source does not name them;")
    assert "--classes VAL.beton" in lines[1]
    assert lines[2] == "1 of 4 classes have no images, the first is 2"


def test_classes_are_named_by_a_file(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "names.txt").write_text("bark\nmoss\nrock\nsand\n")
    out = tmp_path / "train.beton"
    arguments = ["write-beton", str(shards), str(out), "--split", "train", "-q", "--classes"]
    assert run([*arguments, str(tmp_path / "names.txt")]) == 0
    assert load_manifest(out).classes == ("bark", "moss", "rock", "sand")
    assert "are called" not in capsys.readouterr().out
    (tmp_path / "few.txt").write_text("bark\nmoss\n")
    assert run([*arguments, str(tmp_path / "few.txt"), "--force"]) == 2
    assert "parquet:16: label 3, expected 0..1" in only_line(capsys.readouterr().err)
