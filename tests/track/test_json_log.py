"""--log json: every line on stderr is one JSON object, stdout stays what it is."""

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


def told(text: str) -> list[dict[str, Any]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


@pytest.fixture
def json_log(monkeypatch: pytest.MonkeyPatch) -> Any:
    choose_log("json")
    yield
    choose_log("auto")


def test_a_sweep_tells_every_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLAIN_INTERVAL_SECONDS", 0.0)
    grid = write_grid(tmp_path, methods="random,full", set={"full.protocol.lr": 1e30})
    assert run(["sweep", str(grid), "--log", "json"]) == 1
    said = capsys.readouterr()
    lines = told(said.err)
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
    assert lines[-1]["text"].startswith("error: 1 runs failed")
    assert not any("top-1" in line.get("text", "") for line in lines)  # people's lines have their events
    assert "{" not in said.out


def test_evaluate_tells_epochs_and_prints_its_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_grid(tmp_path)
    command = ["evaluate", f"{tmp_path}/train.beton", "--val", f"{tmp_path}/val.beton", "--protocol", "hard-small"]
    command += ["--set", "epochs=2", "--arch", "convnet1_w4", "--threads", "1", "--json"]
    assert run([*command, "--log", "json"]) == 0
    said = capsys.readouterr()
    lines = told(said.err)
    assert [line["event"] for line in lines] == ["cell_started", "epoch", "epoch", "cell_done"]
    assert {line["cell"] for line in lines} == {"train hard-small*epochs=2 convnet1_w4 seed 0"}
    assert json.loads(said.out)["top1"] == lines[-1]["top1"]
    assert run([*command, "--log", "json", "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    assert run(["evaluate", "no.beton", "--val", "no.beton", "--log", "json"]) == 2
    *_, failed, message = told(capsys.readouterr().err)
    assert (failed["event"], failed["outcome"]) == ("cell_failed", "failed")
    assert message["text"] == f"error: {failed['reason']}"
    assert run([*command, "--bogus", "--log=json"]) == 2
    assert "--bogus" in told(capsys.readouterr().err)[0]["text"]
    assert run(["evaluate", "no.beton", "--val", "no.beton"]) == 2
    assert capsys.readouterr().err.startswith("error: ")  # the choice ends with its command


def test_a_run_that_ends_in_an_unexpected_error_is_told_as_failed() -> None:
    heard: list[dict[str, Any]] = []
    with listening(heard.append), pytest.raises(ZeroDivisionError), one_run("c", "k", {}):
        1 / 0  # noqa: B018
    assert [event["event"] for event in heard] == ["cell_started", "cell_failed"]
    assert heard[-1]["outcome"] == "failed"


def test_progress_says_in_json_what_it_says_in_words(
    json_log: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLAIN_INTERVAL_SECONDS", 0.0)
    with progress("write x", 10, "images") as bar:
        bar.advance(5, "class a")
    assert log_message('hostile \x1b[31m "name"\nin {two} lines')
    first, last, message = told(capsys.readouterr().err)
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


def test_a_librarys_warning_is_a_line_like_any_other() -> None:
    process = start_python(WARNS)
    _, said = process.communicate(timeout=60)
    assert [line["text"] for line in told(said)] == ["warning: UserWarning: odd things"]


def test_numbers_that_json_lacks_become_null(capsys: pytest.CaptureFixture[str]) -> None:
    assert write_json({"loss": float("nan"), "deep": [{"x": (float("inf"), 1.5)}], "path": Path("a")})
    assert told(capsys.readouterr().err) == [{"loss": None, "deep": [{"x": [None, 1.5]}], "path": "a"}]
