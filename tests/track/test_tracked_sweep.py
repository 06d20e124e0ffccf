"""A real sweep with TensorBoard: the curves are in its files, and nothing else changes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastdc.cli.main import run
from fastdc.sweep.store.results import Store
from tests.sweep.conftest import make_tiny

pytest.importorskip("tensorboard", reason="the real TensorBoard is an extra: pip install 'fastdc[trackers]'")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TIMES = ("seconds", "train_seconds", "cost")


def write_grid(folder: Path, **changes: Any) -> Path:
    """Write a sweep of two methods and a network on a tiny set as YAML."""
    if not (folder / "train.beton").exists():
        make_tiny(folder / "train.beton", 12, seed=0)
        make_tiny(folder / "val.beton", 6, seed=1)
    values = {"train": f"{folder}/train.beton", "val": f"{folder}/val.beton", "methods": "random,full", "ipc": "2"}
    values |= {"protocols": "hard-small*epochs=3,validate_every=2", "archs": "convnet1_w4", "image_size": 28}
    values |= {"threads": 1, "workdir": f"{folder}/work", **changes}
    path = folder / "grid.yaml"
    path.write_text(json.dumps(values))
    return path


def results(workdir: Path) -> dict[str, Any]:
    """Return the contents of the store, by key, without times."""
    with Store(workdir / "store.sqlite", readonly=True) as store:
        records = store.records()
    return {
        record.key: {name: value for name, value in (record.summary or {}).items() if name not in TIMES}
        for record in records
    }


def test_a_sweep_writes_its_curves_for_tensorboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = write_grid(tmp_path)
    assert run(["sweep", str(grid), "--track", "tensorboard"]) == 0
    captured = capsys.readouterr()
    assert f"TensorBoard: tensorboard --logdir {tmp_path}/work/tensorboard" in captured.err
    assert "warning" not in captured.err
    folders = sorted((tmp_path / "work" / "tensorboard").iterdir())
    assert [folder.name.split("_ipc_")[0] for folder in folders] == ["full", "random"]
    stored = results(tmp_path / "work")
    for attempt in ("missing", "all"):  # a repeated run has one curve
        assert run(["sweep", str(grid), "--track", "tensorboard", "--rerun", attempt, "--quiet"]) == 0
    assert sorted((tmp_path / "work" / "tensorboard").iterdir()) == folders
    with Store(tmp_path / "work" / "store.sqlite", readonly=True) as store:
        seconds = {record.key: record.summary["seconds"] for record in store.records() if record.summary}
    for folder in folders:
        found = EventAccumulator(str(folder)).Reload()
        assert [event.step for event in found.Scalars("train/loss")] == [1, 2, 3]
        assert [event.step for event in found.Scalars("accuracy/top1")] == [1, 3]
        assert min(event.value for event in found.Scalars("speed/images_per_second")) > 0
        (key,) = (key for key in stored if folder.name.endswith(key[:8]))
        assert found.Scalars("accuracy/top1")[-1].value == pytest.approx(stored[key]["top1"])
        assert found.Scalars("result/steps")[0].value == stored[key]["steps"]
        assert found.Scalars("result/seconds")[0].value == pytest.approx(seconds[key])
        assert found.Tensors("state")[0].tensor_proto.string_val == [b"done"]

    assert run(["sweep", str(grid), "--workdir", str(tmp_path / "plain"), "--quiet"]) == 0
    assert results(tmp_path / "plain") == stored  # neither keys nor results depend on trackers


def test_a_finished_sweep_starts_no_tracker(tmp_path: Path) -> None:
    grid = write_grid(tmp_path, methods="random")
    assert run(["sweep", str(grid), "--quiet"]) == 0
    code = f"from fastdc.cli.main import run; run(['sweep', {str(grid)!r}, '--track', 'tensorboard'])"
    code += "; import sys; sys.exit('tensorboard' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, timeout=60).returncode == 0
    assert not (tmp_path / "work" / "tensorboard").exists()


def test_an_unknown_tracker_is_refused_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sweep", str(write_grid(tmp_path)), "--track", "tensorbord"]) == 2
    assert "did you mean 'tensorboard'?" in capsys.readouterr().err
    assert run(["sweep", str(write_grid(tmp_path, track=["tensorboard", 3]))]) == 2
    assert f"{tmp_path}/grid.yaml:1: track" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_the_real_trackers_beside_one_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="pip install 'fastdc[trackers]'")
    pytest.importorskip("mlflow", reason="pip install 'fastdc[trackers]'")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", "/nowhere")
    monkeypatch.setenv("HOME", str(tmp_path))  # without a netrc; wandb keeps its own files there
    write_grid(tmp_path)
    work = tmp_path / "here"
    command = ["evaluate", f"{tmp_path}/train.beton", "--val", f"{tmp_path}/val.beton", "--protocol", "hard-small"]
    command += ["--set", "epochs=2", "--arch", "convnet1_w4", "--threads", "1", "--workdir", str(work), "--json"]
    assert run([*command, "--track", "tensorboard, wandb,mlflow"]) == 0
    captured = capsys.readouterr()
    assert "warning" not in captured.err
    top1 = json.loads(captured.out)["top1"]
    (curve,) = (work / "tensorboard").iterdir()
    assert len(EventAccumulator(str(curve)).Reload().Scalars("train/loss")) == 2

    (metrics,) = (work / "mlruns").glob("*/*/metrics")
    losses = (metrics / "loss").read_text().split("\n")
    assert [line.split()[2] for line in losses if line] == ["1", "2"]
    assert float((metrics / "result.top1").read_text().split()[1]) == pytest.approx(top1)
    assert "hard-small*epochs=2" in (metrics.parent / "params" / "protocol").read_text()
    assert "status: 3" in (metrics.parent / "meta.yaml").read_text()  # finished

    (offline,) = (work / "wandb").glob("offline-run-*/*.wandb")
    assert "wandb sync` sends it" in captured.err
    history = offline.read_bytes()
    assert history.count(b"images_per_second") >= 2
    assert b"convnet1_w4" in history


def test_two_sweeps_that_begin_at_once_share_an_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="pip install 'fastdc[trackers]'")
    from mlflow.tracking import MlflowClient

    from fastdc.track.mlflow_tracker import MLflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    first = MLflow(tmp_path)
    look, looks = MlflowClient.get_experiment_by_name, []

    def too_early(client: MlflowClient, name: str) -> Any:
        looks.append(name)
        return None if len(looks) == 1 else look(client, name)

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", too_early)
    assert MLflow(tmp_path)._experiment == first._experiment
    assert len(looks) == 2
