"""Sweeps on a real Ray cluster of two workers on this host."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastdc.report import make_rows
from fastdc.sweep.config import SweepConfig
from fastdc.sweep.launch_ray import RayLauncher
from fastdc.sweep.run import run_sweep
from fastdc.sweep.store import Store

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'fastdc[ray]'")

Make = Callable[..., SweepConfig]

GRID = {
    "methods": "full,random,el2n,pca",
    "protocols": "hard-small*epochs=6",
    "set": {"full.protocol.epochs": 2},
    "observer": {"arch": "convnet1_w4", "epochs": 12},
}
TIMES = ("seconds", "train_seconds", "cost", "relabel_seconds", "teacher_seconds")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster with room for two runs of one thread."""
    options: dict[str, Any] = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        context = ray.init(address="local", log_to_driver=False, logging_level="ERROR", **options)
        yield str(context.address_info["gcs_address"])
        ray.shutdown()


def results_of(workdir: Path) -> dict[str, Any]:
    """Everything stored of every run but what a clock or the order of events decides."""
    with Store(workdir / "store.sqlite", readonly=True) as store:
        found = {}
        for record in store.records():
            summary = {key: value for key, value in (record.summary or {}).items() if key not in TIMES}
            detail = store.detail(record.key) or {}
            found[record.key] = (record.label, record.state, record.reason, summary, detail.get("per_class"))
    return found


def subset_bytes(workdir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((workdir / "subsets").glob("*.beton"))}


def test_a_sweep_on_two_workers_stores_what_a_local_one_stores(cluster: str, make_config: Make, tmp_path: Path) -> None:
    local, spread = (make_config(**GRID, workdir=tmp_path / name) for name in ("local", "ray"))
    _, expected = run_sweep(local, show_progress=False)
    plan, outcome = run_sweep(spread, show_progress=False, launcher=RayLauncher())
    assert (outcome, outcome.states) == (expected, {"done": 8})
    assert results_of(spread.workdir) == results_of(local.workdir)
    assert subset_bytes(spread.workdir) == subset_bytes(local.workdir)
    with Store(plan.store_path, readonly=True) as store:
        rows = make_rows(store.records())
    assert all(row.observer_seconds for row in rows if row.method in ("el2n", "pca"))
    assert not any((spread.workdir / "checkpoints").glob("*"))
