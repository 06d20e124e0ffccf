"""The final pass: outputs of the trained observer for every image, checked against the network itself."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastdc.common.errors import ManifestError, MethodError
from fastdc.common.keys import derive_seed
from fastdc.kernels.scores.fields import FINAL_FIELDS
from fastdc.loader import EvalView, open_loader
from fastdc.nn.device import choose_compute
from fastdc.nn.models import build_model
from fastdc.observe import ObserverConfig
from fastdc.observe.dynamics_log import LOG_NAME, TDDS_NAME, WEIGHTS_NAME
from fastdc.observe.final_outputs import (
    EXACT_NAME,
    FEATURES_NAME,
    INDEX_NAME,
    OUTPUTS_NAME,
    SCALARS_NAME,
    FinalPass,
    commit_final,
    load_final,
)
from fastdc.observe.record_needs import WHOLE_SCHEDULE, ObserverNeeds
from fastdc.observe.train_observer import CHECKPOINT_NAME, observe

CONFIG = ObserverConfig(arch="convnet_w8", epochs=3, batch_size=32, lr=0.05, image_size=28, threads=1)
FINAL = ObserverNeeds(final=True, outputs=True)


def trained(folder: Path) -> torch.nn.Module:
    """Load the network from its last checkpoint."""
    model = build_model("convnet_w8", 3, 28, derive_seed(0, "observer", run=0))
    state = torch.load(folder / CHECKPOINT_NAME, weights_only=True)["state"]["model"]
    model.load_state_dict(state)
    return model.eval()


def test_a_system_that_cannot_allocate_files_ahead_keeps_the_same_record(
    betons: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = ObserverNeeds(final=True, tdds=WHOLE_SCHEDULE)
    (usual,) = observe(betons.train, tmp_path / "usual", CONFIG, needs=needs)
    monkeypatch.delattr(os, "posix_fallocate")  # as on macOS
    (record,) = observe(betons.train, tmp_path / "without", CONFIG, needs=needs)
    assert (record.tdds_epochs, record.final.num_samples) == (3, 120)
    for name in (TDDS_NAME, SCALARS_NAME, FEATURES_NAME):
        assert (record.folder / name).read_bytes() == (usual.folder / name).read_bytes()


def test_every_value_equals_that_of_the_network(betons: Any, tmp_path: Path) -> None:
    (record,) = observe(betons.train, tmp_path, CONFIG, needs=FINAL)
    final, model = record.final, trained(record.folder)
    features: list[torch.Tensor] = []
    last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
    last.register_forward_pre_hook(lambda _layer, inputs: features.append(inputs[0]))
    with open_loader(betons.train, EvalView(28), batch_size=256) as loader, torch.no_grad():
        (batch,) = loader.epoch(0)
        p = model(choose_compute("fp32", 1).images(batch.images)).double().softmax(1).numpy()
    h, y, n = features[0].flatten(1).double().numpy(), batch.labels.numpy(), np.arange(120)
    ranked = np.sort(p, axis=1)
    assert (final.epoch, final.num_samples, final.num_classes, final.width) == (3, 120, 3, h.shape[1])
    expected = {
        "p_y": p[n, y],
        "p_max": ranked[:, -1],
        "p_second": ranked[:, -2],
        "p_rest": 1 - ranked[:, -1],
        "gap": ranked[:, -1] - ranked[:, -2],
        "entropy": -(p * np.log(p)).sum(1),
        "el2n": np.linalg.norm(p - np.eye(3)[y], axis=1),
        "feature_norm": np.linalg.norm(h, axis=1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(final.field(name), values, rtol=2e-4, atol=2e-5, err_msg=name)
    np.testing.assert_allclose(final.features(), h, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(final.outputs(), p, rtol=1e-3, atol=1e-3)
    assert ((final.field("margin") > 0) == (p.argmax(1) == y)).all()
    assert final.seconds > 0


def test_a_pass_is_added_to_a_finished_training(betons: Any, tmp_path: Path) -> None:
    (before,) = observe(betons.train, tmp_path, CONFIG)
    assert load_final(before.folder) is None
    with pytest.raises(MethodError, match="has no final pass"):
        _ = before.final
    (after,) = observe(betons.train, tmp_path, CONFIG, needs=ObserverNeeds(final=True))
    assert after.epoch_seconds == before.epoch_seconds  # no epoch was trained
    assert not after.final.has_outputs
    with pytest.raises(ManifestError, match="were not kept"):
        after.final.outputs()
    features = np.array(after.final.features())
    (again,) = observe(betons.train, tmp_path, CONFIG, needs=FINAL)
    assert again.final.has_outputs
    assert np.array_equal(again.final.features(), features)


def as_the_first_release_left_it(folder: Path) -> None:
    """Rewrite the final pass as the first release did: eight scalars in one file."""
    content = json.loads((folder / INDEX_NAME).read_text())
    (folder / INDEX_NAME).write_text(json.dumps({**content, "fields": content["fields"][:8]}))
    (folder / EXACT_NAME).unlink()


def test_a_pass_with_other_fields_is_refused_by_its_index(tmp_path: Path) -> None:
    commit_final(FinalPass(tmp_path, 3, 0.0, num_samples=2, width=4, num_classes=3, has_outputs=False))
    content = json.loads((tmp_path / INDEX_NAME).read_text())
    (tmp_path / INDEX_NAME).write_text(json.dumps({**content, "fields": ["p_y"]}))
    with pytest.raises(ManifestError, match=r"final\.json: has fields \('p_y',\), expected \('p_y', 'p_other', "):
        load_final(tmp_path)


def test_a_pass_of_the_first_release_serves_its_methods(betons: Any, tmp_path: Path) -> None:
    (record,) = observe(betons.train, tmp_path, CONFIG, needs=FINAL)
    before = {name: np.array(record.final.field(name)) for name in FINAL_FIELDS}
    as_the_first_release_left_it(record.folder)
    found = record.final
    assert (found.exact, found.has_outputs) == (False, True)
    assert all(np.array_equal(found.field(name), values) for name, values in before.items())
    with pytest.raises(ManifestError, match=r"final pass is of fastdc 0\.1 and lacks p_rest"):
        found.field("p_rest")
    made = (record.folder / FEATURES_NAME).stat().st_mtime_ns
    observe(betons.train, tmp_path, CONFIG, needs=FINAL)
    assert (record.folder / FEATURES_NAME).stat().st_mtime_ns == made
    assert not record.final.exact


@pytest.mark.parametrize("kept", ["weights and checkpoint", "weights alone", "checkpoint alone"])
def test_a_pass_of_the_first_release_is_repeated_without_training(betons: Any, tmp_path: Path, kept: str) -> None:
    (record,) = observe(betons.train, tmp_path, CONFIG, needs=FINAL)
    names = (SCALARS_NAME, EXACT_NAME, FEATURES_NAME, OUTPUTS_NAME, LOG_NAME)
    whole = {name: (record.folder / name).read_bytes() for name in names}
    as_the_first_release_left_it(record.folder)
    if kept == "weights alone":
        (record.folder / CHECKPOINT_NAME).unlink()
    if kept == "checkpoint alone":
        (record.folder / WEIGHTS_NAME).unlink()
    (again,) = observe(betons.train, tmp_path, CONFIG, needs=ObserverNeeds(final=True, exact=True))
    assert again.final.exact
    assert again.final.has_outputs  # scalars of the earlier pass stay
    assert again.epoch_seconds == record.epoch_seconds
    assert (record.folder / CHECKPOINT_NAME).exists() == (
        kept != "weights alone"
    )  # a training would leave a checkpoint
    assert {name: (record.folder / name).read_bytes() for name in names} == whole


def test_without_weights_and_checkpoint_a_line_explains_the_training(
    betons: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (record,) = observe(betons.train, tmp_path, CONFIG, needs=FINAL)
    scalars, log = (record.folder / EXACT_NAME).read_bytes(), (record.folder / LOG_NAME).read_bytes()
    as_the_first_release_left_it(record.folder)
    (record.folder / CHECKPOINT_NAME).unlink()
    (record.folder / WEIGHTS_NAME).unlink()
    observe(betons.train, tmp_path, CONFIG, needs=ObserverNeeds(final=True, exact=True))
    assert "its checkpoint is gone; the training is repeated, the log stays" in capfd.readouterr().err
    assert (record.folder / EXACT_NAME).read_bytes() == scalars
    assert (record.folder / LOG_NAME).read_bytes() == log


def test_the_pass_needs_the_whole_schedule(betons: Any, tmp_path: Path) -> None:
    observe(betons.train, tmp_path, CONFIG, stop_after=1)
    (record,) = observe(betons.train, tmp_path, CONFIG, needs=ObserverNeeds(epochs=1, final=True))
    assert (record.epochs, record.final.epoch) == (3, 3)
    alone, dynamics = record.cost(ObserverNeeds(final=True), 3), record.cost(ObserverNeeds(epochs=1), 3)
    assert alone == pytest.approx(record.seconds() + record.final.seconds)
    assert dynamics == record.seconds(1)


def test_a_damaged_record_is_named(betons: Any, tmp_path: Path) -> None:
    (record,) = observe(betons.train, tmp_path, CONFIG, needs=ObserverNeeds(final=True))
    whole = (record.folder / FEATURES_NAME).read_bytes()
    (record.folder / FEATURES_NAME).write_bytes(whole[:-2])
    with pytest.raises(ManifestError, match=rf"{FEATURES_NAME}: {len(whole) - 2} bytes, expected {len(whole)}"):
        load_final(record.folder)
    (record.folder / FEATURES_NAME).write_bytes(whole)
    content = json.loads((record.folder / INDEX_NAME).read_text())
    for broken in ({**content, "width": "x"}, {"width": 3}, [1], "x"):
        (record.folder / INDEX_NAME).write_text(json.dumps(broken))
        with pytest.raises(ManifestError):
            load_final(record.folder)


def test_a_network_without_a_linear_layer_is_refused(betons: Any, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"arch": "squeezenet1_1", "image_size": 32, "epochs": 1})
    with pytest.raises(MethodError, match="has no linear layer"):
        observe(betons.train, tmp_path, config, needs=ObserverNeeds(final=True))


def test_a_killed_pass_keeps_an_earlier_one(betons: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (record,) = observe(betons.train, tmp_path, CONFIG, needs=ObserverNeeds(final=True))
    features = (record.folder / FEATURES_NAME).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("fastdc.observe.final_pass.batch_final", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            observe(betons.train, tmp_path, CONFIG, needs=FINAL)
    assert load_final(record.folder) is not None
    assert (record.folder / FEATURES_NAME).read_bytes() == features
    (again,) = observe(betons.train, tmp_path, CONFIG, needs=FINAL)
    assert again.final.has_outputs
    assert not list(record.folder.glob("*.part"))


def test_a_finished_pass_is_not_made_again(betons: Any, tmp_path: Path) -> None:
    (first,) = observe(betons.train, tmp_path, CONFIG, needs=ObserverNeeds(final=True))
    (then,) = observe(betons.train, tmp_path, CONFIG, needs=ObserverNeeds(final=True, tdds=2))
    assert (then.tdds_epochs, then.epochs) == (2, 3)  # two epochs for TDDS, not the schedule
    assert then.final == first.final


def test_needs_are_combined() -> None:
    both = ObserverNeeds(epochs=10, tdds=4) | ObserverNeeds(epochs=3, outputs=True, final=True, tdds=7)
    assert both == ObserverNeeds(10, True, True, 7)
    assert both.last_epoch(60) == 60
    assert (ObserverNeeds(epochs=WHOLE_SCHEDULE) | both).epochs == WHOLE_SCHEDULE
    whole = ObserverNeeds(tdds=WHOLE_SCHEDULE)
    assert (whole | ObserverNeeds()).tdds == (both | whole).tdds == WHOLE_SCHEDULE
    assert (whole.last_epoch(60), whole.log_epochs(60)) == (60, 0)
    assert [ObserverNeeds(epochs=5, tdds=9).last_epoch(n) for n in (3, 60)] == [3, 9]
