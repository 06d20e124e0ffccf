"""Arrays that a stranger put in the workdir: nothing in them is executed, and each is refused or made anew."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdc.sweep.cell import CellRunner
from fastdc.sweep.config import SweepConfig
from fastdc.sweep.plan import make_plan
from fastdc.sweep.run import prepare_workdir, run_plan
from fastdc.sweep.store import Store

Make = Callable[..., SweepConfig]
GRID: dict[str, Any] = {"methods": "el2n[last_epoch=2]", "seeds": "0", "observer": {"arch": "convnet1_w4", "epochs": 2}}


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def pickled_array(mark: Path) -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def plain_pickle(mark: Path) -> bytes:
    return pickle.dumps(Bomb(mark))


def garbage(_: Path) -> bytes:
    return b"\x93NUMPY\x01\x00\xff\xff" + b"{" * 100


def empty(_: Path) -> bytes:
    return b""


@pytest.mark.parametrize("make", [pickled_array, plain_pickle, garbage, empty], ids=lambda make: make.__name__)
def test_files_of_the_observer_that_are_not_its_own(
    make: Callable[[Path], bytes], make_config: Make, tmp_path: Path
) -> None:
    plan = make_plan(make_config(**GRID))
    prepare_workdir(plan.config.workdir)
    mark = tmp_path / "executed"

    def sweep() -> dict[str, int]:
        with Store(plan.store_path) as store:
            store.register((cell.planned() for cell in plan.cells), "failed")
            return run_plan(plan, store, CellRunner(plan, store).run, show_progress=False).states

    assert sweep() == {"done": 1}
    (folder,) = [path for path in (plan.config.workdir / "observers").iterdir() if path.is_dir()]
    arrays = [path for path in folder.iterdir() if path.suffix in (".npy", ".bin", ".pt", ".safetensors", ".log")]
    assert arrays
    for path in arrays:
        path.write_bytes(make(mark))
    for path in plan.config.workdir.glob("subsets/*"):
        path.unlink()
    larger = make_plan(make_config(**{**GRID, "ipc": "3"}))
    with Store(larger.store_path) as store:
        store.register(cell.planned() for cell in larger.cells)
        outcome = run_plan(larger, store, CellRunner(larger, store).run, show_progress=False)
        (reason,) = [record.reason for record in store.records() if record.label["ipc"] == 3]
    assert outcome.states == {"done": 1} or (reason and "\n" not in reason), reason
    assert "unexpected" not in (reason or "")
    assert not mark.exists()
