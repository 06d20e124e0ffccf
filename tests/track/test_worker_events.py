"""What a worker away from the sweep's process hears comes back with its answer, for trackers and logs."""

import os
import pickle
from pathlib import Path

from fastdc.sweep.cells import make_plan
from fastdc.sweep.launch.worker import CellWorker, Home, this_fastdc
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import load_config
from fastdc.track import listening
from tests.track.test_tracked_sweep import write_grid


def test_epochs_of_a_worker_come_with_its_answer(tmp_path: Path) -> None:
    plan = make_plan(load_config(write_grid(tmp_path, methods="full"), {}))
    plan.config.workdir.mkdir()
    with Store(plan.store_path):
        pass
    worker = CellWorker()
    assert worker.open(plan, Home(this_fastdc(), Path(os.getcwd()))) is None
    here: list[object] = []
    with listening(here.append):  # a worker is a process of its own; here it shares ours
        answer = worker.run([plan.cells[0].key], {})
    assert answer.events == tuple(enumerate(here))
    told = [(event["event"], event["cell"], event["epoch"]) for _, event in pickle.loads(pickle.dumps(answer)).events]
    assert told == [("epoch", plan.cells[0].name, epoch) for epoch in (1, 2, 3)]
