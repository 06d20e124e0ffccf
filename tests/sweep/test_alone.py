"""Where a cell cannot have a process of its own: it runs in the sweep's, and that is said."""

from collections.abc import Callable
from typing import Any

import pytest

from fastdc.sweep.cells import make_plan
from fastdc.sweep.launch.own_process import Alone
from fastdc.sweep.run_cells import prepare_workdir
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig

Make = Callable[..., SweepConfig]


class NotPicklable:
    """Part of a plug-in's settings, say."""

    def __reduce__(self) -> Any:
        raise TypeError("cannot leave its process")


@pytest.mark.parametrize("what", ["no process", "no pickle"])
def test_it_is_told(
    make_config: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    plan = make_plan(make_config())
    prepare_workdir(plan.config.workdir)

    def refuse(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    if what == "no process":
        monkeypatch.setattr("subprocess.Popen", refuse)
    else:
        plan.cells[0].label["method"] = NotPicklable()
    with Store(plan.store_path) as store:
        assert Alone(plan, store)(plan.cells[0]) is None
    reason = "Resource temporarily unavailable" if what == "no process" else "TypeError: cannot leave its process"
    assert f"runs here, for a process of its own could not be started ({reason})" in capsys.readouterr().err
