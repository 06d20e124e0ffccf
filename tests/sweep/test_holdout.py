"""`holdout`: a sweep on a split of the training set reads held-out images only for validation."""

import json
import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastdc.beton import load_manifest, verify_beton
from fastdc.cli.main import run as run_command
from fastdc.common.errors import ConfigError, OutputError
from fastdc.report import make_rows
from fastdc.report.page.document import make_page
from fastdc.report.table import plain_table
from fastdc.sweep.cell_result import CellResult
from fastdc.sweep.cells import make_plan
from fastdc.sweep.forecast.preview import preview
from fastdc.sweep.holdout import NAMES, write_holdout
from fastdc.sweep.launch.remote_worker import Home, RemoteWorker, this_fastdc
from fastdc.sweep.launch.workers import Ended, Event, Request
from fastdc.sweep.plan import Plan
from fastdc.sweep.run_cells import run_sweep
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig, load_config

Make = Callable[..., SweepConfig]


def write_split(plan: Plan) -> None:
    assert plan.holdout is not None
    write_holdout(plan.holdout)


GRID: dict[str, Any] = {
    "methods": "random,el2n[last_epoch=2],sre2l,full",
    "set": {"sre2l": {"iterations": 2}},
    "seeds": "0",
    "observer": {"arch": "convnet1_w4", "epochs": 2},
}


def parts_of(config: SweepConfig) -> list[Path]:
    plan = make_plan(config)
    assert plan.holdout is not None
    return [plan.holdout.folder / name for name in NAMES]


def test_a_holdout_equals_a_sweep_on_the_two_parts(make_config: Make, tmp_path: Path) -> None:
    """Keys and results equal those of a sweep on the parts as files."""
    split = make_config(**GRID, val=None, holdout=0.2)
    planned = make_plan(split)
    assert not split.workdir.exists()
    plan, outcome = run_sweep(split, show_progress=False)
    assert outcome.states == {"done": 4}
    train, val = parts_of(split)
    assert [load_manifest(path).counts for path in (train, val)] == [(32,) * 3, (8,) * 3]
    given = make_config(**GRID, train=train, val=val, workdir=tmp_path / "given")
    other, _ = run_sweep(given, show_progress=False)
    assert [cell.key for cell in plan.cells] == [cell.key for cell in planned.cells]
    assert [cell.key for cell in plan.cells] == [cell.key for cell in other.cells]
    with Store(plan.store_path, readonly=True) as one, Store(other.store_path, readonly=True) as two:
        found, expected = one.records(), two.records()
        details = [[(store.detail(each.key) or {})["per_class"] for each in found] for store in (one, two)]
    accuracy = {record.key: (record.summary or {})["top1"] for record in expected}
    assert {record.key: (record.summary or {})["top1"] for record in found} == accuracy
    assert details[0] == details[1]
    assert {record.label.get("holdout") for record in found} == {0.2}
    assert {"holdout" in record.label for record in expected} == {False}
    subsets = [{path.name: path.read_bytes() for path in (config.workdir / "subsets").glob("*.beton")}
               for config in (split, given)]  # fmt: skip
    assert subsets[0] == subsets[1]
    assert len(subsets[0]) == 3


def test_the_table_names_the_validation_images(make_config: Make) -> None:
    config = make_config(seeds="0")
    for each in (config, config.model_copy(update={"val": None, "holdout": 0.2})):
        plan, _ = run_sweep(each, show_progress=False)
    with Store(plan.store_path, readonly=True) as store:
        rows = make_rows(store.records())
    assert [row.holdout for row in rows] == [None, 0.2]  # neither is averaged with the other, nor marked as older
    assert [row.method for row in rows] == ["random", "random"]
    page = make_page(Store(plan.store_path, readonly=True), config.workdir)
    assert "28 px, validated on a held-out 20 % of the training set</h2>" in page
    assert "tiny, 2 images per class, 28 px, 20 % held out</h2>" in page  # another set than in the other table
    assert page.count('<figure class="stored"') == 2
    titles = [block.splitlines()[0] for block in plain_table(rows).split("\n\n")]
    suffix = ", validated on a held-out 20 % of the training set"
    assert titles[0] + suffix == titles[1]


def test_a_finished_sweep_needs_no_parts(make_config: Make, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_config(seeds="0", val=None, holdout=0.2)
    run_sweep(config, show_progress=True)
    assert "24 of 120 images of" in capsys.readouterr().err
    for path in parts_of(config):
        path.unlink()
    _, outcome = run_sweep(config, show_progress=True)
    assert (outcome.states, outcome.ran) == ({"done": 1}, 0)
    assert "holdout" not in capsys.readouterr().err
    assert not any(path.exists() for path in parts_of(config))


@pytest.mark.parametrize("harm", ["cut", "other", "swapped", "gone", "manifest"])
def test_a_damaged_part_is_written_again(make_config: Make, harm: str) -> None:
    config = make_config(val=None, holdout=0.2)
    write_split(make_plan(config))
    train, val = parts_of(config)
    whole = val.read_bytes()
    if harm == "cut":
        val.write_bytes(whole[:-9])
    elif harm == "other":
        val.write_bytes(train.read_bytes())
    elif harm == "swapped":  # sound, but the wrong part: it would validate on training images
        for suffix in (".beton", ".json"):
            val.with_suffix(suffix).write_bytes(train.with_suffix(suffix).read_bytes())
    else:
        (val if harm == "gone" else val.with_suffix(".json")).unlink()
    plan = make_plan(config)
    assert plan.holdout is not None
    assert plan.holdout.bytes_left > 0
    assert [cell.key for cell in plan.cells] == [cell.key for cell in make_plan(config).cells]
    write_split(plan)
    assert val.read_bytes() == whole
    assert not any(verify_beton(path, deep=True) for path in (train, val))


def test_a_training_set_without_manifest_is_split_too(make_config: Make, write_tiny: Any, tmp_path: Path) -> None:
    train = write_tiny(tmp_path / "train.beton", 10, 0)
    train.with_suffix(".json").unlink()
    plan, outcome = run_sweep(make_config(train=train, val=None, holdout=0.3, seeds="0"), show_progress=False)
    assert outcome.states == {"done": 1}
    assert (plan.train.inferred, plan.train.counts, plan.val.counts) == (True, (7, 7, 7), (3, 3, 3))


def test_a_dry_run_writes_nothing_and_plans_every_key(make_config: Make) -> None:
    config = make_config(val=None, holdout=0.2)
    lines = preview(config)
    assert not config.workdir.exists()
    (line,) = [line for line in lines if line.startswith("holdout: ")]
    assert line.startswith(f"holdout: 24 of 120 images of {config.train} (20 % of each class)")
    assert "to be written to" in line
    assert any(re.match(r"disk: .*the two parts of the training set [23]\d\d\.\d kB", line) for line in lines)
    run_sweep(config, show_progress=False)
    assert sum(line.startswith("cached ") for line in preview(config)) == 2
    assert not any("the two parts" in line for line in preview(config))


def test_a_small_disk_is_refused_before_a_byte_is_written(make_config: Make) -> None:
    config = make_config(val=None, holdout=0.2)
    plan = make_plan(config)
    assert plan.holdout is not None
    huge = replace(plan, holdout=replace(plan.holdout, bytes_left=10**18))
    with pytest.raises(OutputError, match=r"take 1,000,000,000.0 GB, and .* GB are free; free space or choose another"):
        write_split(huge)
    assert not any(path.exists() for path in parts_of(config))


WRITE = """
import sys
from pathlib import Path
from fastdc.common import crash_points as faults
from fastdc.sweep.sweep_config import load_config
from fastdc.sweep.holdout import write_holdout
from fastdc.sweep.cells import make_plan

plan = make_plan(load_config(Path(sys.argv[1]), {}))
faults.arm(sys.argv[2] or None)
if plan.holdout.bytes_left:
    write_holdout(plan.holdout)
"""


@pytest.mark.parametrize("point", ["file.written", "file.replaced"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_kill_during_the_write_loses_nothing(
    make_config: Make, write_yaml: Any, python_process: Any, tmp_path: Path, point: str, count: int
) -> None:
    config = make_config(val=None, holdout=0.2)
    grid = write_yaml(config, tmp_path / "grid.yaml")
    killed = python_process(WRITE, str(grid), f"{point}:{count}")
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    write_split(make_plan(config))
    assert not any(verify_beton(path, deep=True) for path in parts_of(config))
    left = {path.name for path in parts_of(config)[0].parent.iterdir() if not path.name.endswith(".lock")}
    assert left == {name for path in parts_of(config) for name in (path.name, path.with_suffix(".json").name)}


def test_two_sweeps_at_once_write_one_split(
    make_config: Make, write_yaml: Any, python_process: Any, tmp_path: Path
) -> None:
    config = make_config(val=None, holdout=0.2)
    grid = write_yaml(config, tmp_path / "grid.yaml")
    processes: list[subprocess.Popen[str]] = [python_process(WRITE, str(grid), "") for _ in range(3)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert not any(verify_beton(path, deep=True) for path in parts_of(config))


def test_pooled_observers_share_a_row(make_config: Make) -> None:
    changes: dict[str, Any] = {"methods": "el2n[last_epoch=2]", "seeds": "0", "val": None, "holdout": 0.2}
    plans = [make_plan(make_config(**changes, pool_observers=True, observer={**GRID["observer"], "seed": seed}))
             for seed in (0, 1)]  # fmt: skip
    assert len({plan.cells[0].key for plan in plans}) == 2
    assert len({plan.cells[0].label["group"] for plan in plans}) == 1


def test_a_worker_runs_on_the_parts(make_config: Make) -> None:
    config = make_config(seeds="0", val=None, holdout=0.2)
    plan = make_plan(config)
    Store(plan.store_path).close()
    home = Home(this_fastdc(), Path.cwd())
    events: list[Event] = []
    worker = RemoteWorker(events.append)
    assert f"{parts_of(config)[0]}: does not exist" in str(worker.open(plan, home))
    write_split(plan)
    assert worker.open(plan, home) is None
    worker.run(Request((plan.cells[0].key,), {}))
    (ended,) = [event for event in events if isinstance(event, Ended)]
    assert isinstance(ended.result, CellResult)


def test_val_is_not_read_and_not_needed(
    make_config: Make, write_yaml: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(holdout=0.2, val=tmp_path / "there-is-none.beton")
    grid = write_yaml(config, tmp_path / "grid.yaml")
    assert make_plan(load_config(grid, {})).holdout is not None
    assert "note: val " in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"--val v.beton: is not read with holdout=0.2, .* \(--holdout 0 turns"):
        load_config(grid, {"val": "v.beton"})
    assert load_config(grid, {"val": "v.beton", "holdout": 0.0}).holdout is None
    with pytest.raises(ConfigError, match="--val is missing; a sweep needs train, val \\(or holdout\\) and workdir"):
        load_config(None, {"train": "t.beton", "workdir": "w"})


@pytest.mark.parametrize("share", [-0.1, 1.0, 20.0])
def test_an_invalid_share_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"--holdout: .*expected a share of each class between 0 and 1, such as 0.2"):
        load_config(None, {"train": "t.beton", "workdir": "w", "holdout": share})


def test_the_command_line(make_config: Make, capsys: pytest.CaptureFixture[str]) -> None:
    config = make_config()
    options = ["--train", str(config.train), "--holdout", "0.25", "--methods", "random", "--ipc", "2", "--quiet"]
    options += ["--protocol", "hard-small*epochs=1", "--arch", "convnet1_w4", "--image-size", "28", "--threads", "1"]
    assert run_command(["sweep", *options, "--workdir", str(config.workdir)]) == 0
    assert "validated on a held-out 25 % of the training set" in capsys.readouterr().out
    assert run_command(["report", str(config.workdir), "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["holdout"] == 0.25
    assert run_command(["sweep", *options, "--val", str(config.val), "--workdir", str(config.workdir)]) == 2
