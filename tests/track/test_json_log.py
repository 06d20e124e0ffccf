"""--log json: every line on stderr is one JSON object, and stdout is unchanged."""

import json
from pathlib import Path
from typing import Any

import pytest

from fastdc.cli.main import run
from fastdc.common import log as module
from fastdc.common.log import choose_log, log_message, progress, write_json
from fastdc.track import listening, one_run
from tests.sweep.conftest import start_python
from tests.track.test_tracked_sweep import write_grid


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


@pytest.fixture
def json_log(monkeypatch: pytest.MonkeyPatch) -> Any:
    choose_log("json")
    yield
    choose_log("auto")


def test_a_sweep_reports_every_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLAIN_INTERVAL_SECONDS", 0.0)
    grid = write_grid(tmp_path, methods="random,full", set={"full.protocol.lr": 1e30})
    assert run(["sweep", str(grid), "--log", "json"]) == 1
    captured = capsys.readouterr()
    lines = objects(captured.err)
    assert all(isinstance(line["time"], float) and line["event"] for line in lines)
    kinds = [line["event"] for line in lines if line["event"] not in ("progress", "message")]
    assert kinds[0] == "sweep_started"
    assert kinds[-1] == "sweep_ended"
    (random,) = (line for line in lines if line["event"] == "cell_started" and line["labels"]["method"] == "random")
    epochs = [line for line in lines if line["event"] == "epoch" and line["cell"] == random["cell"]]
    assert [(line["epoch"], line["epochs"], line["top1"] is None) for line in epochs] == [
        (1, 3, False),
        (2, 3, True),
        (3, 3, False),
    ]
    assert all(line["loss"] > 0 and line["lr"] > 0 and line["images_per_second"] > 0 for line in epochs)
    (done,) = (line for line in lines if line["event"] == "cell_done")
    assert (done["cell"], done["top1"]) == (random["cell"], epochs[-1]["top1"])
    (failed,) = (line for line in lines if line["event"] == "cell_failed")
    assert failed["outcome"] == "diverged"
    assert "learning rate 1e+30" in failed["reason"]
    steps = [line for line in lines if line["event"] == "progress" and line["unit"] == "steps"]
    assert {line["task"] for line in steps} > {"train convnet1_w4 on train.beton"}
    assert all(line["images_per_second"] > 0 for line in steps)
    assert lines[-1]["text"].startswith("error: 1 run failed")
    assert not any("top-1" in line.get("text", "") for line in lines)  # each plain line has its event
    assert "{" not in captured.out


def test_evaluate_reports_epochs_and_prints_its_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_grid(tmp_path)
    command = ["evaluate", f"{tmp_path}/train.beton", "--val", f"{tmp_path}/val.beton", "--protocol", "hard-small"]
    command += ["--set", "epochs=2", "--arch", "convnet1_w4", "--threads", "1", "--json"]
    assert run([*command, "--log", "json"]) == 0
    captured = capsys.readouterr()
    lines = objects(captured.err)
    assert [line["event"] for line in lines] == ["cell_started", "epoch", "epoch", "cell_done"]
    assert {line["cell"] for line in lines} == {"train hard-small*epochs=2 convnet1_w4 seed 0"}
    assert json.loads(captured.out)["top1"] == lines[-1]["top1"]
    assert run([*command, "--log", "json", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert run(["evaluate", "no.beton", "--val", "no.beton", "--log", "json"]) == 2
    *_, failed, message = objects(capsys.readouterr().err)
    assert (failed["event"], failed["outcome"]) == ("cell_failed", "failed")
    assert message["text"] == f"error: {failed['reason']}"
    assert run([*command, "--bogus", "--log=json"]) == 2
    assert "--bogus" in objects(capsys.readouterr().err)[0]["text"]
    assert run(["evaluate", "no.beton", "--val", "no.beton"]) == 2
    assert capsys.readouterr().err.startswith("error: ")  # the choice ends with the command


def test_a_run_with_an_unexpected_error_is_reported_as_failed() -> None:
    events: list[dict[str, Any]] = []
    with listening(events.append), pytest.raises(ZeroDivisionError), one_run("c", "k", {}):
        1 / 0  # noqa: B018
    assert [event["event"] for event in events] == ["cell_started", "cell_failed"]
    assert events[-1]["outcome"] == "failed"


def test_json_progress_equals_plain_progress(
    json_log: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLAIN_INTERVAL_SECONDS", 0.0)
    with progress("write x", 10, "images") as bar:
        bar.advance(5, "class a")
    assert log_message('hostile \x1b[31m "name"\nin {two} lines')
    first, last, message = objects(capsys.readouterr().err)
    assert (first["event"], first["task"], first["done"], first["total"]) == ("progress", "write x", 5, 10)
    assert first["per_second"] > 0
    assert first["seconds_left"] >= 0
    assert last["done"] == 5
    assert message["text"] == 'hostile ?[31m "name" in {two} lines'


WARNS = """
import warnings
from fastdc.cli import main as cli
from fastdc.common.log import choose_log
def run() -> int:
    choose_log("json")
    warnings.warn("odd\\nthings")
    return 0
cli.run = run
cli.main()
"""


def test_a_librarys_warning_is_one_object() -> None:
    process = start_python(WARNS)
    _, captured = process.communicate(timeout=60)
    assert [line["text"] for line in objects(captured)] == ["warning: UserWarning: odd things"]


def test_non_finite_numbers_become_null(capsys: pytest.CaptureFixture[str]) -> None:
    assert write_json({"loss": float("nan"), "deep": [{"x": (float("inf"), 1.5)}], "path": Path("a")})
    assert objects(capsys.readouterr().err) == [{"loss": None, "deep": [{"x": [None, 1.5]}], "path": "a"}]
