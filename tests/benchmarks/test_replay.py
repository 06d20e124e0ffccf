"""Compare the released evaluator with ours: equal batches give equal bits, and separate runs agree."""

from pathlib import Path

import numpy as np
import pytest
import replay
from contenders.released_code import is_installed
from torch import nn

from fastdc.beton import Sample, write_samples
from fastdc.nn.models import build_model
from fastdc.train import EvaluateSettings
from fastdc.train.data_pair import Pair

CLASSES = [f"class{number}" for number in range(6)]  # the released code reports top-5, so it needs more than five

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not is_installed(), reason="needs rethinkdc: pip install --no-deps rethinkdc==0.3.2"),
]


def write(path: Path, per_class: int, seed: int) -> Path:
    """Write noisy patches with one colour per class."""
    random = np.random.default_rng(seed)
    colours = np.random.default_rng(0).uniform(60, 190, (len(CLASSES), 1, 1, 3))
    samples = [
        Sample(np.clip(random.normal(colours[label], 60, (32, 32, 3)), 0, 255).astype(np.uint8), label, f"{label}/{i}")
        for label in range(len(CLASSES))
        for i in range(per_class)
    ]
    write_samples(path, samples, classes=CLASSES, dataset="patches", split="train", source="test", made={})
    return path


@pytest.fixture(scope="module")
def betons(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """11 training and 20 validation images of each class; 66 images leave a shorter last batch."""
    folder = tmp_path_factory.mktemp("patches")
    return [str(write(folder / "train.beton", 11, 1)), str(write(folder / "val.beton", 20, 2))]


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_a_replay_is_equal_in_every_bit(labels: str, betons: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = replay.main(["exact", *betons, "--labels", labels, "--arch", "resnet10_w16", "--epochs", "52"])
    lines = capsys.readouterr().out.splitlines()[1:]
    assert code == 0, lines
    assert len(lines) == 52
    assert all(line.endswith("; equal") for line in lines)
    losses = [float(line.split()[1].strip(",")) for line in lines]
    assert losses[-1] < losses[0] / 2
    validated = [number for number, line in enumerate(lines) if ", None;" not in line]
    assert validated == [0, 50, 51]


def test_different_first_weights_are_detected(betons: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def other(settings: EvaluateSettings, pair: Pair) -> nn.Module:
        return build_model(settings.arch, len(pair.stored.classes), pair.side(settings), settings.seed + 1)

    monkeypatch.setattr("contenders.replays._network", other)
    assert replay.main(["exact", *betons, "--arch", "resnet10_w16", "--epochs", "2"]) == 1


def test_separate_runs_agree_within_their_spread(betons: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = replay.main(["seeds", *betons, "--seeds", "5", "--arch", "resnet10_w16", "--epochs", "20"])
    lines = capsys.readouterr().out.splitlines()
    assert code == 0, lines
    accuracies = [[float(value.strip(",")) for value in line.split()[1:]] for line in lines[1:6]]
    assert all(value > 40 for pair in accuracies for value in pair)  # chance is 16.7
    assert "n = 5" in lines[6]
