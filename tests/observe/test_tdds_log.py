"""TDDS's trajectory: equal to that of all probabilities, and unchanged by a kill."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastdc.common.errors import ManifestError, MethodError
from fastdc.kernels.scores.fields import FIELDS
from fastdc.loader import Batch
from fastdc.nn.fit import Fit
from fastdc.observe import ObserverConfig, load_observation
from fastdc.observe.dynamics_log import LOG_NAME, TDDS_NAME
from fastdc.observe.dynamics_recorder import DynamicsRecorder
from fastdc.observe.record_needs import ObserverNeeds
from fastdc.observe.tdds_log import ROLLING_NAMES, TddsRecorder
from fastdc.observe.train_observer import FOLLOWING_CHECKPOINT_NAME, observe

CONFIG = ObserverConfig(arch="convnet_w8", epochs=5, batch_size=32, lr=0.05, image_size=28, threads=1)


def needs(epochs: int) -> ObserverNeeds:
    return ObserverNeeds(tdds=epochs)


def test_distances_are_those_of_full_probabilities(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 50, 7, generator=generator) * 12  # some probabilities far below what 16 bits hold
    recorder = TddsRecorder(tmp_path, 50, 7)
    for epoch in range(4):
        for indices in np.array_split(np.random.default_rng(epoch).permutation(50), 3):
            recorder.batch(epoch, logits[epoch, indices], indices)
        recorder.epoch_end(epoch)
    found = np.fromfile(tmp_path / TDDS_NAME, "<f4").reshape(3, 50)
    log_p = torch.log_softmax(logits.double(), dim=2).numpy()
    expected = np.abs(np.exp(log_p[1:]) * (log_p[1:] - log_p[:-1])).sum(axis=2)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)  # the earlier epoch is kept in 16 bits


def test_a_sample_that_was_not_seen_is_named(tmp_path: Path) -> None:
    recorder = TddsRecorder(tmp_path, 3, 2)
    recorder.batch(0, torch.zeros(3, 2), np.arange(3))
    recorder.epoch_end(0)
    recorder.batch(1, torch.zeros(2, 2), np.array([0, 2]))
    with pytest.raises(ManifestError, match="no TDDS distance for sample 1"):
        recorder.epoch_end(1)


def files(folder: Path) -> tuple[bytes, bytes]:
    return (folder / TDDS_NAME).read_bytes(), (folder / LOG_NAME).read_bytes()


@pytest.fixture(scope="module")
def whole(betons: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (record,) = observe(betons.train, tmp_path_factory.mktemp("whole"), CONFIG, needs=needs(5))
    assert record.tdds_epochs == record.epochs == 5
    assert record.tdds.shape == (4, 120)
    return record.folder


def test_a_continued_run_has_the_same_distances(betons: Any, tmp_path: Path, whole: Path) -> None:
    (part,) = observe(betons.train, tmp_path, CONFIG, needs=needs(3))
    assert (part.epochs, part.tdds_epochs) == (3, 3)
    assert (part.folder / ROLLING_NAMES[0]).exists()
    (record,) = observe(betons.train, tmp_path, CONFIG, needs=ObserverNeeds(epochs=5))  # continues to log
    assert record.tdds_epochs == 5
    assert files(record.folder) == files(whole)
    assert not (record.folder / ROLLING_NAMES[0]).exists()


def test_it_is_added_to_a_finished_training_by_training_again(betons: Any, tmp_path: Path, whole: Path) -> None:
    (before,) = observe(betons.train, tmp_path, CONFIG)
    with pytest.raises(MethodError, match="were not kept"):
        _ = before.tdds
    log = np.fromfile(before.folder / LOG_NAME, "<f4").reshape(5, len(FIELDS), 120)
    (after,) = observe(betons.train, tmp_path, CONFIG, needs=needs(4))
    assert (after.tdds_epochs, after.epochs) == (4, 5)
    assert np.array_equal(np.fromfile(after.folder / LOG_NAME, "<f4").reshape(log.shape), log)
    expected = np.fromfile(whole / TDDS_NAME, "<f4").reshape(4, 120)
    assert np.array_equal(after.tdds, expected[:3])


class KilledError(Exception):
    """Simulated kill."""


@pytest.mark.parametrize("stop", [(0, 2), (1, 0), (3, 1), (3, 3)])
def test_a_killed_run_resumes_bit_equal(
    betons: Any, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, stop: tuple[int, int]
) -> None:
    original = DynamicsRecorder.batch

    def dying(self: DynamicsRecorder, batch: Batch, logits: torch.Tensor) -> None:
        original(self, batch, logits)
        assert isinstance(self.fit, Fit)
        if (self.fit.epoch, self.fit.batches_done) == stop:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(DynamicsRecorder, "batch", dying)
        with pytest.raises(KilledError):
            observe(betons.train, tmp_path, CONFIG, needs=needs(5), checkpoint_seconds=1e9)
    (record,) = observe(betons.train, tmp_path, CONFIG, needs=needs(5))
    assert files(record.folder) == files(whole)


def test_a_training_without_distances_is_kept(betons: Any, tmp_path: Path) -> None:
    observe(betons.train, tmp_path, CONFIG, stop_after=4)
    (record,) = observe(betons.train, tmp_path, CONFIG, needs=needs(2))
    stamp = (record.folder / FOLLOWING_CHECKPOINT_NAME).stat().st_mtime_ns
    (record,) = observe(betons.train, tmp_path, CONFIG, needs=ObserverNeeds(final=True))
    assert (record.epochs, record.tdds_epochs) == (5, 2)
    assert (record.folder / FOLLOWING_CHECKPOINT_NAME).stat().st_mtime_ns == stamp  # two epochs were not trained again
    (record,) = observe(betons.train, tmp_path, CONFIG, needs=needs(5))  # continues after the second
    assert record.tdds_epochs == 5
    assert not list(record.folder.glob("*.damaged"))


@pytest.mark.parametrize("lost", [*ROLLING_NAMES, FOLLOWING_CHECKPOINT_NAME])
def test_a_lost_file_restarts_the_training(
    betons: Any, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    (part,) = observe(betons.train, tmp_path, CONFIG, needs=needs(4))
    (part.folder / lost).unlink()
    original = DynamicsRecorder.epoch_end

    def dying(self: DynamicsRecorder, epoch: int, loss: float, lr: float) -> None:
        original(self, epoch, loss, lr)
        if epoch == 1:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(DynamicsRecorder, "epoch_end", dying)
        with pytest.raises(KilledError):
            observe(betons.train, tmp_path, CONFIG, needs=needs(5))
    (record,) = observe(betons.train, tmp_path, CONFIG, needs=needs(5))
    assert files(record.folder) == files(whole)


def test_a_log_that_is_too_short_is_named(betons: Any, tmp_path: Path) -> None:
    (record,) = observe(betons.train, tmp_path, CONFIG, needs=needs(2))
    (record.folder / TDDS_NAME).write_bytes(b"")
    with pytest.raises(ManifestError, match=r"tdds\.f32: 0 bytes, expected at least 480"):
        load_observation(record.folder)
