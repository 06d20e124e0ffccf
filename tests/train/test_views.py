"""Several views of each image in an epoch: steps, labels, resume and shared streams."""

from pathlib import Path
from typing import Any

import pytest

from fastdc.beton import BetonFile, Sample, describe_beton, write_samples
from fastdc.common.errors import ConfigError
from fastdc.nn.fit import Fit
from fastdc.train import EvaluateSettings, EvaluationResult, get_protocol
from fastdc.train.evaluation import evaluate
from fastdc.train.labels.layout import LabelLayout, label_bytes
from tests.train.conftest import MakeTeacher, StumbledError, evaluate_together, outcome, soft_settings


def settings(augment: str = "tile:1+views=3", protocol: dict[str, Any] | None = None, **changes: Any) -> Any:
    made = get_protocol("hard-small", {"epochs": 2, "validate_every": 2, "batch_size": 50, **(protocol or {})})
    return EvaluateSettings(**{"protocol": made, "arch": "convnet_w8", "threads": 1, "augment": augment, **changes})


def with_hints(beton: Path, out: Path, **hints: Any) -> Path:
    """Copy a set with these hints in its manifest."""
    manifest = describe_beton(beton)
    with BetonFile(beton) as file:
        samples = [Sample(file.decode(i), int(file.labels[i]), manifest.ids[i]) for i in range(len(file))]
    write_samples(
        out, samples, classes=manifest.classes, dataset="x", split=None, source="x", made={}, hints=hints, force=True
    )
    return out


def test_an_epoch_has_a_step_for_every_batch_of_views(betons: Any) -> None:
    """120 images, batches of 50: 3 steps; 360 views: 8."""
    one, three = (evaluate(betons.train, betons.val, settings(rule)) for rule in ("protocol", "tile:1+views=3"))
    assert (one.steps, three.steps) == (2 * 3, 2 * 8)
    assert (one.batch_size, three.batch_size, three.images, three.label_bytes) == (50, 50, 120, one.label_bytes)
    assert outcome(one) != outcome(three)


def test_the_sets_hint_and_the_option_are_one_rule(betons: Any, tmp_path: Path) -> None:
    hinted = with_hints(betons.train, tmp_path / "hinted.beton", tile_views=3)
    wanted = evaluate(betons.train, betons.val, settings())
    assert outcome(evaluate(hinted, betons.val, settings("method"))) == outcome(wanted)
    off = evaluate(hinted, betons.val, settings("protocol"))
    assert outcome(off) == outcome(evaluate(betons.train, betons.val, settings("protocol")))
    bad = with_hints(betons.train, tmp_path / "bad.beton", tile_views=0)
    with pytest.raises(ConfigError, match="hint of the training set: tile_views=0: expected 1 to 64 views"):
        evaluate(bad, betons.val, settings("method"))


@pytest.mark.parametrize("augment", ["tile:1+views=3", "tile:2+whole=0.25+views=2"])
def test_engines_and_workers_change_no_digit(betons: Any, augment: str) -> None:
    wanted = outcome(evaluate(betons.train, betons.val, settings(augment, loader="resident")))
    for workers in (1, 2):
        through = evaluate(betons.train, betons.val, settings(augment, loader="ffcv", loader_workers=workers))
        assert (through.loader, outcome(through)) == ("ffcv", wanted)


@pytest.mark.parametrize("at", [1, 4, 8, 11])
def test_a_killed_training_resumes_in_its_round(
    betons: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    wanted = outcome(evaluate(betons.train, betons.val, settings()))
    train, taken = Fit.train_batch, [0]

    def dies(self: Fit, batch: Any) -> None:
        taken[0] += 1
        if taken[0] == at + 1:
            raise StumbledError
        train(self, batch)

    checkpoint = {"checkpoint": tmp_path / "c.pt", "checkpoint_seconds": 0.0}
    monkeypatch.setattr(Fit, "train_batch", dies)
    with pytest.raises(StumbledError):
        evaluate(betons.train, betons.val, settings(), **checkpoint)
    assert outcome(evaluate(betons.train, betons.val, settings(), **checkpoint)) == wanted
    assert taken[0] == 16 + 1


@pytest.mark.parametrize("loader", ["resident", "ffcv"])
def test_trainings_share_a_stream_of_views(betons: Any, loader: str) -> None:
    wanted = [
        settings(rule, arch=arch, loader=loader)
        for rule, arch in (("tile:1+views=3", "convnet_w8"), ("tile:2+views=3", "convnet_w12"))
    ]
    together = evaluate_together(betons.train, betons.val, wanted)
    assert list(map(outcome, together)) == [outcome(evaluate(betons.train, betons.val, each)) for each in wanted]


def test_trainings_with_different_views_share_no_stream(betons: Any) -> None:
    with pytest.raises(ConfigError, match="take 1 and 3 views of an image in an epoch, expected one number for all"):
        evaluate_together(betons.train, betons.val, [settings("method"), settings()])


def test_labels_of_every_view_are_counted(betons: Any) -> None:
    online, stored = (get_protocol("soft-small", {"epochs": 5, "labels": labels}) for labels in ("online", "stored"))
    assert label_bytes(online, 100, 10, 4) == label_bytes(stored, 100, 10, 4) == 5 * 100 * 4 * 10 * 2
    assert LabelLayout(stored, 23, 10, 2).sizes == [10, 10, 10, 10, 6]
    assert label_bytes(get_protocol("hard"), 100, 10, 4) == 100


@pytest.mark.parametrize("protocol", [{}, {"label_ratio": 3}])
def test_stored_labels_cover_every_view(
    betons: Any, make_teacher: MakeTeacher, tmp_path: Path, protocol: dict[str, Any]
) -> None:
    """A file has a row for each view of each epoch, and gives the digits of online labels."""
    stored = soft_settings({"labels": "stored", **protocol}, augment="tile:1+views=3")
    result = evaluate(betons.train, betons.val, stored, teacher=make_teacher(), labels_root=tmp_path)
    (file,) = tmp_path.glob("*/labels.bin")
    layout = LabelLayout(stored.protocol, 120, 3, 3)
    assert file.stat().st_size == result.label_bytes == layout.file_bytes
    if not protocol:
        assert result.label_bytes == 2 * 3 * 120 * 3 * 2
        online = evaluate(
            betons.train, betons.val, soft_settings(augment="tile:1+views=3"), teacher=make_teacher(half=True)
        )
        assert isinstance(online, EvaluationResult)
        assert (outcome(online), online.label_bytes) == (outcome(result), result.label_bytes)
    for augment in ("tile:1+views=2", "protocol"):
        other = soft_settings({"labels": "stored", **protocol}, augment=augment)
        evaluate(betons.train, betons.val, other, teacher=make_teacher(), labels_root=tmp_path)
    assert len(list(tmp_path.glob("*/labels.bin"))) == 3
