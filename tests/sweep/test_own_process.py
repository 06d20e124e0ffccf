"""A cell that cannot have its own process runs in the sweep's, with a message."""

from collections.abc import Callable
from typing import Any

import pytest

from fastdc.common.files import prepare_workdir
from fastdc.sweep.cell_runner import CellRunner
from fastdc.sweep.cells import make_plan
from fastdc.sweep.launch.in_process import InProcess
from fastdc.sweep.launch.workers import Ended, Finished, Request
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig
from tests.sweep.instant_sweep import accuracy

Make = Callable[..., SweepConfig]


class NotPicklable:
    """Value that pickle refuses, as in the settings of a plug-in."""

    def __reduce__(self) -> Any:
        raise TypeError("cannot leave its process")


@pytest.mark.parametrize("what", ["no process", "no pickle"])
def test_a_cell_runs_in_the_sweeps_process_with_a_message(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    plan = make_plan(make_config())
    prepare_workdir(plan.config.workdir)
    monkeypatch.setattr(CellRunner, "run", lambda _, cell: accuracy(cell))

    def refuse(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    if what == "no process":
        monkeypatch.setattr("subprocess.Popen", refuse)
    else:
        plan.cells[0].label["method"] = NotPicklable()
    key = plan.cells[0].key
    with Store(plan.store_path) as store:
        here = InProcess(plan, store)
        here.send(here.start(), Request((key,), {}, after_crash=(key,)))
        ended, finished = (event for _, event in here.wait(0))
    assert isinstance(ended, Ended)
    assert ended.result.provenance is not None
    assert finished == Finished()
    reason = "Resource temporarily unavailable)"
    if what == "no pickle":
        reason = "the sweep cannot be sent to another process (TypeError: cannot leave its process); define it"
    assert f"runs here, for a process of its own could not be started ({reason}" in capsys.readouterr().err
