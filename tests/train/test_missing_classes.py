"""A validation set that lacks a class: classes match by name, and the missing one has accuracy NaN."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdc.beton import BetonFile, Sample, write_samples
from fastdc.cli.main import run
from fastdc.common.errors import ConfigError
from fastdc.sweep.store.results import Store
from fastdc.train import EvaluateSettings, get_protocol
from fastdc.train.evaluation import evaluate
from tests.conftest import CLASSES

NETWORK = ["--arch", "convnet1_w4", "--image-size", "28", "--threads", "1", "--precision", "fp32"]
SETTINGS = EvaluateSettings(
    protocol=get_protocol("hard-small*epochs=2"), arch="convnet1_w4", image_size=28, threads=1, precision="fp32"
)


def rewrite(val: Path, out: Path, classes: tuple[str, ...], kept: tuple[str, ...]) -> Path:
    """Write the validation images of the classes `kept`, with the class list `classes`."""
    with BetonFile(val) as beton:
        samples = [
            Sample(beton.decode(index), classes.index(CLASSES[label]), f"val/{index}")
            for index, label in enumerate(beton.labels.tolist())
            if CLASSES[label] in kept
        ]
    write_samples(out, samples, classes=classes, dataset="fashion3", split="val", source="test", made={})
    return out


def test_the_network_is_the_same_and_only_the_missing_class_is_not_measured(betons: Any, tmp_path: Path) -> None:
    whole = evaluate(betons.train, betons.val, SETTINGS)
    kept = (CLASSES[0], CLASSES[2])
    empty = rewrite(betons.val, tmp_path / "empty.beton", CLASSES, kept)
    lacking = rewrite(betons.val, tmp_path / "lacking.beton", kept, kept)
    turned = rewrite(betons.val, tmp_path / "turned.beton", kept[::-1], kept)
    expected = (whole.per_class[0], None, whole.per_class[2])
    found = evaluate(betons.train, empty, SETTINGS)
    assert found.per_class == expected
    assert found.top1 == pytest.approx(np.mean([whole.per_class[0], whole.per_class[2]]))
    for val in (lacking, turned):
        with pytest.raises(ConfigError, match=r"use sets of equal classes; .* --allow-missing-classes"):
            evaluate(betons.train, val, SETTINGS)
        again = evaluate(betons.train, val, SETTINGS, allow_missing_classes=True)
        assert (again.per_class, again.top1, again.curve) == (expected, found.top1, found.curve)


def test_the_error_names_classes_in_another_order(betons: Any, tmp_path: Path) -> None:
    """A folder from macOS sorts "é" (NFD) before "f", one from Linux (NFC) after "z"."""
    turned = rewrite(betons.val, tmp_path / "turned.beton", CLASSES[::-1], CLASSES)
    with pytest.raises(
        ConfigError, match=r"same classes in another order, first at .*; write .*turned\.beton again with --"
    ):
        evaluate(betons.train, turned, SETTINGS)
    again = evaluate(betons.train, turned, SETTINGS, allow_missing_classes=True)
    assert again.per_class == evaluate(betons.train, betons.val, SETTINGS).per_class


def test_other_classes_are_never_matched(betons: Any, tmp_path: Path) -> None:
    val = rewrite(betons.val, tmp_path / "other.beton", (CLASSES[0], "coat"), (CLASSES[0],))
    with pytest.raises(ConfigError, match=r"use sets of equal classes$"):
        evaluate(betons.train, val, SETTINGS, allow_missing_classes=True)


def test_commands_take_a_validation_set_that_lacks_a_class(
    betons: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    val = rewrite(betons.val, tmp_path / "val.beton", CLASSES[1:], CLASSES[1:])
    command = ["evaluate", str(betons.train), "--val", str(val), "--protocol", "hard-small*epochs=1", *NETWORK]
    assert run(command) == 2
    assert "--allow-missing-classes" in capsys.readouterr().err
    assert run([*command, "--allow-missing-classes"]) == 0
    assert "1 of 3 classes have no validation images" in capsys.readouterr().out
    assert run([*command, "--allow-missing-classes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["per_class"][0] is None
    sweep = ["sweep", "--train", str(betons.train), "--val", str(val), "--workdir", str(tmp_path), "-q", *NETWORK]
    sweep += ["--methods", "random,full", "--ipc", "2", "--protocol", "hard-small*epochs=1"]
    assert run(sweep) == 2
    assert "'t-shirt' only in the training set" in (text := capsys.readouterr().err)
    assert "--allow-missing-classes" in text
    assert run([*sweep, "--allow-missing-classes"]) == 0
    with Store(tmp_path / "store.sqlite", readonly=True) as store:
        details = [store.detail(record.key) for record in store.records()]
    assert [detail["per_class"][0] for detail in details if detail is not None] == [None, None]
    assert run(["report", str(tmp_path), "--html", str(tmp_path / "page.html")]) == 0
