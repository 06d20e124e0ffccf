"""A full disk: one line that names the file; stored results stay, and the same command continues."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastdc.common.errors import OutputError
from fastdc.sweep.forecast import preview as preview_module
from fastdc.sweep.forecast.preview import preview
from fastdc.sweep.store.results import Store
from fastdc.sweep.store.transitions import Planned
from fastdc.sweep.sweep_config import SweepConfig
from tests.faults.real_sweep import table
from tests.faults.test_crash_points import GRID, Run, leftovers, run_real, subsets

__all__ = ["run_real"]  # a fixture
Make = Callable[..., SweepConfig]


def test_full_at_a_file_of_a_real_sweep(
    run_real: Run, make_config: Make, write_yaml: Callable[[SweepConfig, Path], Path], tmp_path: Path
) -> None:
    whole = write_yaml(make_config(**GRID, workdir=tmp_path / "whole"), tmp_path / "whole.yaml")
    assert run_real(whole, None) == 0
    config = write_yaml(make_config(**GRID, workdir=tmp_path / "work"), tmp_path / "grid.yaml")
    work = tmp_path / "work"
    assert run_real(config, "file.written:1:full") == 2
    with Store(work / "store.sqlite", readonly=True) as store:
        assert set(store.states().values()) <= {"interrupted", "pending"}
    assert leftovers(work) == []
    assert run_real(config, None) == 0
    assert (table(work), subsets(work)) == (table(tmp_path / "whole"), subsets(tmp_path / "whole"))


LIMITED = """
import resource, signal, sys
from pathlib import Path
from fastdc.common.errors import FastDCError
from fastdc.sweep.store.results import Store

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Store(Path(sys.argv[1])) as store:
    lease = store.claim("k0")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        print(store.finish(lease, "done", summary={}, detail={"curve": ["x" * 100] * 30_000}))
    except FastDCError as error:
        print(type(error).__name__, error)
"""


def test_full_while_a_result_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.register([Planned("k0", "a0", {"seed": 0, "group": "g"})])
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(f"StoreError {path}: disk I/O error: the disk is full"), done.stdout + done.stderr
    with Store(path) as store:
        assert store.states() == {"k0": "running"}  # neither half a result nor a finished run
        lease = store.claim("k0")
        assert lease is not None
        assert store.finish(lease, "done", summary={"top1": 1.0})
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_dry_run_warns_before_anything_is_written(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    enough = preview(make_config())
    estimate = preview_module.estimate
    monkeypatch.setattr(preview_module, "estimate", lambda *given: estimate(*given)._replace(free_bytes=1))
    assert not any(line.startswith("warning: the disk is too small") for line in enough)
    assert "warning: the disk is too small; free space or choose another --workdir" in preview(make_config())


def test_the_message_names_the_file(tmp_path: Path) -> None:
    from fastdc.common import crash_points as faults
    from fastdc.common.files import write_atomic

    (tmp_path / "x.json").write_text("old")
    faults.arm("file.written:1:full")
    try:
        with pytest.raises(OutputError, match=r"x\.json: disk full \(No space left on device\); free"):
            write_atomic(tmp_path / "x.json", b"new")
    finally:
        faults.arm(None)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x.json", "old")]
