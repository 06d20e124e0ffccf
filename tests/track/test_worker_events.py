"""Epochs of a worker in another process reach the sweep's process, for trackers and logs."""

import os
import pickle
from pathlib import Path

from fastdc.sweep.cells import make_plan
from fastdc.sweep.launch.remote_worker import Home, RemoteWorker, this_fastdc
from fastdc.sweep.launch.workers import Event, Request, Tracked
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import load_config
from fastdc.track import listening
from tests.track.test_tracked_sweep import write_grid


def test_epochs_of_a_worker_are_reported(tmp_path: Path) -> None:
    plan = make_plan(load_config(write_grid(tmp_path, methods="full"), {}))
    plan.config.workdir.mkdir()
    with Store(plan.store_path):
        pass
    reported: list[Event] = []
    worker = RemoteWorker(reported.append)
    assert worker.open(plan, Home(this_fastdc(), Path(os.getcwd()))) is None
    here: list[object] = []
    with listening(here.append):  # a worker has its own process; here it shares this one
        worker.run(Request((plan.cells[0].key,), {}))
    tracked = [event for event in pickle.loads(pickle.dumps(reported)) if isinstance(event, Tracked)]
    assert [event.event for event in tracked] == here
    events = [(event["event"], event["cell"], event["epoch"]) for (event,) in tracked]
    assert events == [("epoch", plan.cells[0].name, epoch) for epoch in (1, 2, 3)]
