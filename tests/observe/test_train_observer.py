"""An observed training: complete log, reuse, extension, and bit-equal resume after a kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastdc.common.errors import ConfigError, ManifestError
from fastdc.kernels.scores.fields import FIELDS
from fastdc.observe import ObserverConfig, load_observation
from fastdc.observe.dynamics_log import INDEX_NAME, LOG_NAME, TDDS_NAME, append_epoch
from fastdc.observe.dynamics_recorder import STEPS_BEHIND
from fastdc.observe.record_needs import ObserverNeeds
from fastdc.observe.train_observer import CHECKPOINT_NAME, observe

CONFIG = ObserverConfig(arch="convnet_w8", epochs=6, batch_size=32, lr=0.05, image_size=28, threads=1)


def log(folder: Path) -> np.ndarray:
    return np.fromfile(folder / LOG_NAME, "<f4").reshape(-1, len(FIELDS), 120)


def test_logs_every_sample_and_learns(betons: Any, tmp_path: Path) -> None:
    (record,) = observe(betons.train, tmp_path, CONFIG)
    assert record.epochs == 6
    el2n = np.asarray(record.field("el2n"))
    assert el2n.shape == (6, 120)
    assert ((el2n >= 0) & (el2n <= 2**0.5 + 1e-6)).all()
    correct = record.field("margin") > 0
    assert correct[-1].mean() > correct[0].mean()
    assert el2n[-1].mean() < el2n[0].mean()
    assert 0 < record.seconds(2) < record.seconds() == record.epoch_seconds[-1]


def test_a_finished_observer_is_not_trained_again(betons: Any, tmp_path: Path) -> None:
    (first,) = observe(betons.train, tmp_path, CONFIG, stop_after=2)
    stamp = (first.folder / LOG_NAME).stat().st_mtime_ns
    (again,) = observe(betons.train, tmp_path, CONFIG, stop_after=1)
    assert again.epochs == 2
    assert (first.folder / LOG_NAME).stat().st_mtime_ns == stamp
    (other,) = observe(betons.train, tmp_path, CONFIG.model_copy(update={"seed": 1}), stop_after=1)
    assert other.folder != first.folder


def test_a_run_in_two_parts_equals_one_run(betons: Any, tmp_path: Path) -> None:
    observe(betons.train, tmp_path / "parts", CONFIG, stop_after=2)
    (parts,) = observe(betons.train, tmp_path / "parts", CONFIG)
    (whole,) = observe(betons.train, tmp_path / "whole", CONFIG)
    assert np.array_equal(log(parts.folder), log(whole.folder))


def test_a_record_behind_the_training_is_complete(betons: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, with a checkpoint after every step and an epoch of four."""
    needs = ObserverNeeds(3, tdds=3)
    (whole,) = observe(betons.train, tmp_path / "whole", CONFIG, needs=needs)
    monkeypatch.setitem(STEPS_BEHIND, "cpu", 3)
    for name, seconds in (("behind", 60.0), ("saved", 0.0)):
        (record,) = observe(betons.train, tmp_path / name, CONFIG, needs=needs, checkpoint_seconds=seconds)
        assert np.array_equal(log(record.folder), log(whole.folder))
        assert (record.folder / TDDS_NAME).read_bytes() == (whole.folder / TDDS_NAME).read_bytes()


def test_runs_are_independent_and_share_the_first(betons: Any, tmp_path: Path) -> None:
    (alone,) = observe(betons.train, tmp_path, CONFIG, stop_after=1)
    first, second = observe(betons.train, tmp_path, CONFIG.model_copy(update={"runs": 2}), stop_after=1)
    assert first.folder == alone.folder
    assert not np.array_equal(log(first.folder), log(second.folder))


OBSERVE = """
import sys
from pathlib import Path
from fastdc.observe import ObserverConfig
from fastdc.observe.train_observer import observe
config = ObserverConfig(arch="convnet_w8", epochs=200, batch_size=32, lr=0.05, image_size=28, threads=1)
observe(Path(sys.argv[1]), Path(sys.argv[2]), config, stop_after=int(sys.argv[3]), checkpoint_seconds=0.05)
"""


def test_kill_and_resume_equals_an_undisturbed_run(betons: Any, tmp_path: Path) -> None:
    config = ObserverConfig(arch="convnet_w8", epochs=200, batch_size=32, lr=0.05, image_size=28, threads=1)
    child = subprocess.Popen([sys.executable, "-c", OBSERVE, str(betons.train), str(tmp_path / "killed"), "200"])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list((tmp_path / "killed").glob(f"observers/*/{CHECKPOINT_NAME}")):
        time.sleep(0.02)
    time.sleep(0.3)
    os.kill(child.pid, signal.SIGKILL)
    child.wait(10)
    (folder,) = (tmp_path / "killed" / "observers").iterdir()
    before = load_observation(folder)
    reached = before.epochs if before else 0
    assert reached < 200, "the child finished before it was killed; the test shows nothing"
    (resumed,) = observe(betons.train, tmp_path / "killed", config, stop_after=reached + 3)
    (whole,) = observe(betons.train, tmp_path / "whole", config, stop_after=reached + 3)
    assert resumed.epochs == whole.epochs == reached + 3
    assert np.array_equal(log(resumed.folder), log(whole.folder))


def test_epochs_that_were_complete_before_a_kill_are_unchanged(betons: Any, tmp_path: Path) -> None:
    """A subset may depend on them, and a GPU does not repeat them bit for bit."""
    (record,) = observe(betons.train, tmp_path, CONFIG, stop_after=4)
    marked = log(record.folder)
    marked[:, :, 0] = 0.125
    marked.tofile(record.folder / LOG_NAME)
    (record.folder / CHECKPOINT_NAME).unlink()  # the last checkpoint is older than the last whole epoch
    (longer,) = observe(betons.train, tmp_path, CONFIG, stop_after=5)
    assert longer.epochs == 5
    assert np.array_equal(log(longer.folder)[:4], marked)
    assert longer.epoch_seconds[:4] == record.epoch_seconds
    with pytest.raises(ConfigError, match="stop_after=0"):
        observe(betons.train, tmp_path, CONFIG, stop_after=0)


def test_a_damaged_checkpoint_costs_only_time(betons: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (record,) = observe(betons.train, tmp_path / "damaged", CONFIG, stop_after=2)
    checkpoint = record.folder / CHECKPOINT_NAME
    checkpoint.write_bytes(checkpoint.read_bytes()[:500])
    (longer,) = observe(betons.train, tmp_path / "damaged", CONFIG, stop_after=4)
    assert "starts over" in capsys.readouterr().err
    (whole,) = observe(betons.train, tmp_path / "whole", CONFIG, stop_after=4)
    assert np.array_equal(log(longer.folder), log(whole.folder))


def test_a_checkpoint_without_its_log_is_set_aside(betons: Any, tmp_path: Path) -> None:
    (record,) = observe(betons.train, tmp_path / "lost", CONFIG, stop_after=3)
    (record.folder / INDEX_NAME).unlink()
    (record.folder / LOG_NAME).unlink()
    (again,) = observe(betons.train, tmp_path / "lost", CONFIG, stop_after=4)
    (whole,) = observe(betons.train, tmp_path / "whole", CONFIG, stop_after=4)
    assert np.array_equal(log(again.folder), log(whole.folder))
    assert (record.folder / f"{CHECKPOINT_NAME}.damaged").exists()


def test_an_observer_on_the_cpu_does_not_take_the_machines_gpu(
    betons: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (record,) = observe(betons.train, tmp_path, CONFIG.model_copy(update={"device": "cpu"}), stop_after=1)
    assert record.trained_with["device"] == "cpu"


def test_another_device_is_refused(betons: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trains on cuda, this machine has cpu"):
        observe(betons.train, tmp_path, CONFIG.model_copy(update={"device": "cuda"}), stop_after=1)


def test_a_damaged_record_is_refused(betons: Any, tmp_path: Path) -> None:
    (record,) = observe(betons.train, tmp_path, CONFIG, stop_after=2)
    with (record.folder / LOG_NAME).open("r+b") as handle:
        handle.truncate(100)
    with pytest.raises(ManifestError, match="expected at least"):
        observe(betons.train, tmp_path, CONFIG, stop_after=2)
    (record.folder / INDEX_NAME).write_text("{}")
    with pytest.raises(ManifestError, match="not an observer record"):
        observe(betons.train, tmp_path, CONFIG, stop_after=2)


def test_an_epoch_that_missed_a_sample_is_refused(tmp_path: Path) -> None:
    values = np.zeros((len(FIELDS), 4), np.float32)
    values[:, 2] = np.nan
    with pytest.raises(ManifestError, match="epoch 1 has no dynamics of sample 2"):
        append_epoch(tmp_path, 0, values)
