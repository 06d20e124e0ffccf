"""Weights of an observer: stored at the end of its schedule or added later, with equal bytes."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from fastdc.beton import Manifest
from fastdc.nn.weights_facts import FACTS_KEY, Facts, read_facts
from fastdc.observe import ObserverConfig, choose_observer, load_observation
from fastdc.observe.dynamics_log import INDEX_NAME, LOG_NAME, WEIGHTS_NAME
from fastdc.observe.record_needs import WHOLE_SCHEDULE, ObserverNeeds
from fastdc.observe.train_observer import CHECKPOINT_NAME, complete_records, observe

WEIGHTS = ObserverNeeds(WHOLE_SCHEDULE, weights=True)


def test_weights_are_kept_at_the_end_of_the_schedule_and_not_before(
    betons: Any, tmp_path: Path, observer: ObserverConfig
) -> None:
    (record,) = observe(betons.train, tmp_path, observer, stop_after=2)
    assert record.weights is None
    (record,) = observe(betons.train, tmp_path, observer)
    assert record.weights == record.folder / WEIGHTS_NAME
    state = torch.load(record.folder / CHECKPOINT_NAME, weights_only=True)["state"]["model"]
    kept = safetensors.torch.load_file(record.weights)
    assert kept.keys() == state.keys()
    assert all(torch.equal(kept[name], state[name]) for name in state)


def test_the_file_records_its_network(observed: Path, manifest: Manifest) -> None:
    (file,) = observed.glob(f"observers/*/{WEIGHTS_NAME}")
    assert read_facts(file) == Facts("convnet_w8", manifest.classes, 28)
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    assert list(metadata) == [FACTS_KEY]
    assert metadata[FACTS_KEY] == json.dumps(json.loads(metadata[FACTS_KEY]), sort_keys=True)


def test_equal_trainings_write_equal_files(
    betons: Any, tmp_path: Path, observed: Path, observer: ObserverConfig
) -> None:
    (record,) = observe(betons.train, tmp_path, observer)
    (first,) = observed.glob(f"observers/*/{WEIGHTS_NAME}")
    assert record.weights is not None
    assert record.weights.read_bytes() == first.read_bytes()


@pytest.mark.parametrize("checkpoint", [True, False], ids=["from its checkpoint", "trained again"])
def test_weights_are_added_to_an_observer_of_an_older_fastdc(
    betons: Any, tmp_path: Path, observer: ObserverConfig, checkpoint: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    (record,) = observe(betons.train, tmp_path, observer)
    assert record.weights is not None
    whole, log = record.weights.read_bytes(), (record.folder / LOG_NAME).read_bytes()
    record.weights.unlink()
    index = json.loads((record.folder / INDEX_NAME).read_text())
    del index["extra"]
    (record.folder / INDEX_NAME).write_text(json.dumps(index))
    if not checkpoint:
        (record.folder / CHECKPOINT_NAME).unlink()
    (again,) = observe(betons.train, tmp_path, observer, needs=WEIGHTS)
    assert again.weights is not None
    assert again.weights.read_bytes() == whole
    assert (again.folder / LOG_NAME).read_bytes() == log
    assert again.epoch_seconds == record.epoch_seconds, "the ledger keeps what the first training took"
    assert ("its checkpoint is gone" in capsys.readouterr().err) is not checkpoint


def test_another_teacher_does_not_become_the_default_observer(
    betons: Any, tmp_path: Path, observer: ObserverConfig, manifest: Manifest
) -> None:
    other = observer.model_copy(update={"arch": "convnet_w4"})
    complete_records(betons.train, tmp_path, other, WEIGHTS, for_teacher=True, extra=True)
    observe(betons.train, tmp_path, observer, stop_after=1)
    chosen = choose_observer(betons.train, manifest.content_hash, tmp_path)
    assert chosen.arch == observer.arch
    (own,) = observe(betons.train, tmp_path, other)  # by its own name, as an ordinary observer
    assert not own.extra
    found = load_observation(own.folder)
    assert found is not None
    assert not found.extra
    assert choose_observer(betons.train, manifest.content_hash, tmp_path).arch == observer.arch  # but not as the first


def test_a_teacher_is_the_first_of_several_runs(betons: Any, tmp_path: Path, observer: ObserverConfig) -> None:
    several = observer.model_copy(update={"runs": 2})
    (record,) = complete_records(betons.train, tmp_path, several, WEIGHTS, for_teacher=True)
    assert record.identity["run"] == 0
    assert record.runs == 2
