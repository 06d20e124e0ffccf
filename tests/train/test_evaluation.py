"""Evaluation: it learns, repeats to the last digit, and refuses mismatched sets."""

import io
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch._dynamo.testing import CompileCounter

from fastdc.beton import BetonFile, Sample, describe_beton, write_samples
from fastdc.beton.classes import check_same_classes
from fastdc.common.errors import ConfigError, DivergedError, OutputError
from fastdc.train import EvaluateSettings, EvaluationResult, get_protocol
from fastdc.train.evaluation import evaluate
from fastdc.train.labels.layout import hard_label_bytes
from tests.conftest import fashion_images


def settings(**changes: Any) -> EvaluateSettings:
    protocol = get_protocol("hard-small", {"epochs": 4, "validate_every": 2, **changes.pop("protocol", {})})
    return EvaluateSettings(**{"protocol": protocol, "arch": "convnet_w16", "threads": 1, **changes})


@pytest.fixture(scope="module")
def result(betons: Any) -> EvaluationResult:
    return evaluate(betons.train, betons.val, settings())


def png_total(beton: Path) -> int:
    """Return the bytes of a beton's grey images as PNG files."""
    total = 0
    with BetonFile(beton) as file:
        for index in range(len(file)):
            buffer = io.BytesIO()
            Image.fromarray(file.decode(index)[:, :, 0]).save(buffer, "PNG")
            total += len(buffer.getvalue())
    return total


def test_learns_and_reports(result: EvaluationResult, betons: Any) -> None:
    assert result.top1 > 50  # chance is 33
    assert result.top5 is None  # 3 classes
    assert result.top1_best >= result.top1
    assert (result.images, result.batch_size, result.steps, result.image_size) == (120, 12, 40, 28)
    assert result.image_bytes == png_total(betons.train)
    assert result.label_bytes == 120
    assert [entry["top1"] is not None for entry in result.curve] == [True, False, True, True]
    assert result.top1 == pytest.approx(sum(result.per_class) / 3)
    assert result.protocol == "hard-small*epochs=4,validate_every=2"
    assert result.precision == "fp32"


def outcome(result: EvaluationResult) -> tuple[Any, ...]:
    return result.top1, result.per_class, result.curve


def test_a_network_is_compiled_alike_whatever_its_process_compiled_before(
    betons: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = CompileCounter()
    counts: list[int] = []
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    for arch in ("convnet1_w4", "convnet1_w5", "convnet1_w4"):
        counter.clear()
        evaluate(betons.train, betons.val, settings(arch=arch, compile=True, protocol={"epochs": 1}))
        counts.append(counter.frame_count)
    assert counts[0] > 0
    assert len(set(counts)) == 1


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
def test_precisions_that_a_cpu_lacks_are_refused(betons: Any, precision: str) -> None:
    with pytest.raises(ConfigError, match=f"precision {precision}: needs a CUDA device"):
        evaluate(betons.train, betons.val, settings(precision=precision))


def test_a_huge_learning_rate_diverges_with_a_reason(betons: Any) -> None:
    for epochs in (1, 4):  # in one epoch the loss may stay finite: the last step may be the one that diverges
        with pytest.raises(DivergedError):
            evaluate(betons.train, betons.val, settings(protocol={"lr": 1e30, "epochs": epochs, "optimizer": "sgd"}))


@pytest.mark.parametrize(
    ("classes", "match"),
    [
        (("t-shirt", "pullover", "trouser"), "in another order, first at class 1: 'trouser' and 'pullover'"),
        (("t-shirt", "trouser"), r"classes differ \(3 and 2\): 'pullover' only in the training set, none only in"),
    ],
)
def test_sets_of_other_classes_are_refused(betons: Any, tmp_path: Path, classes: tuple[str, ...], match: str) -> None:
    other = tmp_path / "other.beton"
    samples = [Sample(s.image, s.label % len(classes), s.id) for s in fashion_images("val", 2)]
    write_samples(other, samples, classes=classes, dataset="x", split="val", source="x", made={})
    with pytest.raises(ConfigError, match=match):
        evaluate(betons.train, other, settings())


@pytest.mark.parametrize(("classes", "expected"), [(1, 1), (2, 1), (256, 1), (257, 2), (1000, 2), (70000, 3)])
def test_hard_labels_take_whole_bytes(classes: int, expected: int) -> None:
    assert hard_label_bytes(classes) == expected


def test_two_spellings_of_a_class_are_one_class(tmp_path: Path) -> None:
    """Betons of before 0.2 have the names of folders as spelled by macOS (decomposed) and others (composed)."""
    origin: dict[str, Any] = {"dataset": "x", "split": None, "source": "x", "made": {}}
    for name, spelled in (("mac", "cafe\u0301"), ("linux", "caf\u00e9"), ("other", "cafe")):
        write_samples(tmp_path / f"{name}.beton", fashion_images("train", 1), classes=[spelled, "b", "c"], **origin)
    mac, linux, other = (describe_beton(tmp_path / f"{name}.beton") for name in ("mac", "linux", "other"))
    assert mac.classes != linux.classes
    check_same_classes((tmp_path, mac), (tmp_path, linux))
    with pytest.raises(ConfigError, match="'caf\u00e9' only in the training set, 'cafe' only in the val"):
        check_same_classes((tmp_path, mac), (tmp_path, other))
