"""Betons of stock FFCV, which have no manifest, as a source."""

from pathlib import Path

import numpy as np
import pytest

from fastdc.beton import BetonFile, Sample, load_manifest, verify_beton, write_beton, write_samples
from fastdc.beton.encode_images import encode_jpeg
from fastdc.beton.manifest import manifest_path
from fastdc.cli.main import run
from tests.beton.conftest import refused, smooth

NAMES = ("bark", "moss", "sand")


def stock(path: Path, labels: tuple[int, ...] = (0, 2, 1, 2)) -> Path:
    """Write a beton of JPEGs and raw pixels in turn, without a manifest."""
    pixels = [smooth(24, 32, seed) for seed in range(len(labels))]
    images = [encode_jpeg(each) if place % 2 else each for place, each in enumerate(pixels)]
    samples = [Sample(image, label, "") for image, label in zip(images, labels, strict=True)]
    classes = [str(label) for label in range(max(labels) + 1)]
    write_samples(path, samples, classes=classes, dataset="stock", split=None, source="", made={})
    manifest_path(path).unlink()
    return path


@pytest.fixture
def names(tmp_path: Path) -> Path:
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    return tmp_path / "names.txt"


def test_images_are_copied_and_classes_named(tmp_path: Path, names: Path) -> None:
    source = stock(tmp_path / "ready.beton")
    manifest = write_beton(source, tmp_path / "out.beton", classes=names)
    assert (manifest.classes, manifest.counts, manifest.order) == (NAMES, (1, 1, 2), "own")
    assert (manifest.dataset, list(manifest.ids), manifest.hints) == ("ready", ["0", "1", "2", "3"], {})
    assert verify_beton(tmp_path / "out.beton", deep=True) == []
    with BetonFile(source) as before, BetonFile(tmp_path / "out.beton") as after:
        assert [bytes(before.payload(i)) for i in range(4)] == [bytes(after.payload(i)) for i in range(4)]
        assert np.array_equal(before.labels, after.labels)
        assert np.array_equal(before.modes, after.modes)


def test_another_beton_gives_the_names(tmp_path: Path, names: Path) -> None:
    source = stock(tmp_path / "ready.beton")
    write_beton(source, tmp_path / "train.beton", classes=names)
    assert write_beton(source, tmp_path / "out.beton", classes=tmp_path / "train.beton").classes == NAMES


def test_without_names_classes_are_numbers(tmp_path: Path) -> None:
    manifest = write_beton(stock(tmp_path / "ready.beton"), tmp_path / "out.beton")
    assert (manifest.classes, manifest.made["class_names"]) == (("0", "1", "2"), "numbers")


def test_images_can_be_encoded_again(tmp_path: Path) -> None:
    write_beton(stock(tmp_path / "ready.beton"), tmp_path / "out.beton", resolution=12)
    with BetonFile(tmp_path / "out.beton") as file:
        assert file.heights.tolist() == [12] * 4
        assert file.widths.tolist() == [16] * 4


def test_labels_outside_the_classes_are_refused(tmp_path: Path, names: Path) -> None:
    refused(tmp_path, stock(tmp_path / "many.beton", (0, 5, 1)), "many.beton/1: label 5, expected 0..2", classes=names)
    refused(tmp_path, stock(tmp_path / "one.beton", (1, 2, 3)), "labels run from 1 to 3 for 3 classes", classes=names)


def test_a_split_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, stock(tmp_path / "ready.beton"), "names no splits, but 'train' was requested", split="train")


def test_a_beton_with_a_manifest_is_refused(tmp_path: Path, names: Path) -> None:
    write_beton(stock(tmp_path / "ready.beton"), tmp_path / "whole.beton", classes=names)
    refused(tmp_path, tmp_path / "whole.beton", "has a manifest, so every command takes it as it is; .* fastdc export")


def test_a_damaged_beton_is_refused(tmp_path: Path, names: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = stock(tmp_path / "ready.beton")
    source.write_bytes(source.read_bytes()[:-9])
    assert run(["write-beton", str(source), str(tmp_path / "out.beton"), "--classes", str(names)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "ready.beton" in error
    assert "archive" not in error
    assert not (tmp_path / "out.beton").exists()


def test_a_missing_beton_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, tmp_path / "none.beton", "does not exist")


@pytest.mark.parametrize("command", ["export", "classes", "sweep"])
def test_messages_name_the_way_in(
    command: str, tmp_path: Path, names: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = stock(tmp_path / "ready.beton")
    write_beton(source, tmp_path / "train.beton", classes=names)
    train = str(tmp_path / "train.beton")
    commands = {
        "export": ["export", str(source), str(tmp_path / "out"), "--as", "folder"],
        "classes": ["write-beton", str(source), str(tmp_path / "out.beton"), "--classes", str(source)],
        "sweep": ["sweep", "--train", train, "--val", train, "--methods", f"ready={source}", "--ipc", "1",
                  "--image-size", "24", "--workdir", str(tmp_path / "run")],
    }  # fmt: skip
    assert run(commands[command]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"fastdc write-beton {source} OUT.beton --classes FILE" in error
    assert run(["write-beton", str(source), str(tmp_path / "out.beton"), "--classes", train]) == 0
    assert load_manifest(tmp_path / "out.beton").classes == NAMES
