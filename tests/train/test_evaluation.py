"""Evaluation: it learns, repeats to the last digit, and refuses sets that do not fit."""

from pathlib import Path
from typing import Any

import pytest

from fastdc.beton import Sample, write_samples
from fastdc.errors import ConfigError, DivergedError, OutputError
from fastdc.train import EvaluateSettings, EvaluationResult, evaluate, get_protocol
from fastdc.train.training import hard_label_bytes
from tests.conftest import fashion_images


def settings(**changes: Any) -> EvaluateSettings:
    protocol = get_protocol("hard-small", {"epochs": 4, "validate_every": 2, **changes.pop("protocol", {})})
    return EvaluateSettings(**{"protocol": protocol, "arch": "convnet_w16", "threads": 1, **changes})


@pytest.fixture(scope="module")
def result(betons: Any) -> EvaluationResult:
    return evaluate(betons.train, betons.val, settings())


def test_learns_and_reports(result: EvaluationResult) -> None:
    assert result.top1 > 50  # chance is 33
    assert result.top5 is None  # 3 classes
    assert result.top1_best >= result.top1
    assert (result.images, result.batch_size, result.steps, result.image_size) == (120, 12, 40, 28)
    assert result.image_bytes == 120 * 28 * 28 * 3
    assert result.label_bytes == 120
    assert [entry["top1"] is not None for entry in result.curve] == [True, False, True, True]
    assert result.top1 == pytest.approx(sum(result.per_class) / 3)
    assert result.protocol == "hard-small*epochs=4,validate_every=2"
    assert result.precision == "fp32"


def outcome(result: EvaluationResult) -> tuple[Any, ...]:
    return result.top1, result.per_class, result.curve


def test_repeats_to_the_last_digit(betons: Any, result: EvaluationResult) -> None:
    assert outcome(evaluate(betons.train, betons.val, settings())) == outcome(result)
    assert outcome(evaluate(betons.train, betons.val, settings(seed=1))) != outcome(result)


def test_the_ffcv_path_with_any_workers_gives_the_same_accuracy(betons: Any, result: EvaluationResult) -> None:
    for workers in (1, 2):
        through = evaluate(betons.train, betons.val, settings(loader="ffcv", loader_workers=workers))
        assert through.loader == "ffcv"
        assert outcome(through) == outcome(result)
    assert result.loader == "resident"


def test_a_finished_checkpoint_gives_the_same_result(betons: Any, tmp_path: Path, result: EvaluationResult) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    first = evaluate(betons.train, betons.val, settings(), checkpoint=checkpoint)
    again = evaluate(betons.train, betons.val, settings(), checkpoint=checkpoint)
    assert outcome(first) == outcome(again) == outcome(result)


def test_the_data_cannot_be_the_checkpoint(betons: Any) -> None:
    before = betons.val.read_bytes()
    for checkpoint in (betons.train, betons.val):
        with pytest.raises(OutputError):
            evaluate(betons.train, betons.val, settings(), checkpoint=checkpoint)
    assert betons.val.read_bytes() == before


def test_bf16_autocast_trains_on_cpu(betons: Any) -> None:
    low = evaluate(betons.train, betons.val, settings(precision="bf16", protocol={"epochs": 1}))
    assert low.precision == "bf16"
    assert low.machine == low.environment["cpu"]
    assert low.curve[0]["loss"] > 0


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_what_a_cpu_lacks_is_refused(betons: Any, precision: str) -> None:
    with pytest.raises(ConfigError, match=f"precision {precision}: needs a CUDA device"):
        evaluate(betons.train, betons.val, settings(precision=precision))


def test_a_huge_learning_rate_diverges_with_a_reason(betons: Any) -> None:
    for epochs in (1, 4):  # in one epoch no loss need show it: the last step may be the one that blows up
        with pytest.raises(DivergedError):
            evaluate(betons.train, betons.val, settings(protocol={"lr": 1e30, "epochs": epochs, "optimizer": "sgd"}))


@pytest.mark.parametrize(
    ("classes", "match"),
    [(("t-shirt", "pullover", "trouser"), "class 1 is 'trouser'"), (("t-shirt", "trouser"), "has 3 classes")],
)
def test_sets_of_other_classes_are_refused(betons: Any, tmp_path: Path, classes: tuple[str, ...], match: str) -> None:
    other = tmp_path / "other.beton"
    samples = [Sample(s.image, s.label % len(classes), s.id) for s in fashion_images("val", 2)]
    write_samples(other, samples, classes=classes, dataset="x", split="val", source="x", made={})
    with pytest.raises(ConfigError, match=match):
        evaluate(betons.train, other, settings())


@pytest.mark.parametrize(("classes", "expected"), [(1, 1), (2, 1), (256, 1), (257, 2), (1000, 2), (70000, 3)])
def test_hard_labels_cost_whole_bytes(classes: int, expected: int) -> None:
    assert hard_label_bytes(classes) == expected
