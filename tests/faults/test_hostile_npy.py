"""Foreign arrays in the workdir: nothing in them is executed, and each is refused or made again."""

import io
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fastdc.common.errors import CheckpointError
from fastdc.common.files import prepare_workdir
from fastdc.methods.bases import teacher_losses
from fastdc.nn.checkpoint import load_checkpoint, save_checkpoint
from fastdc.recover.finished_batches import BatchStore, StartFile
from fastdc.sweep.cells import make_plan
from fastdc.sweep.run_cells import run_plan
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig

Make = Callable[..., SweepConfig]
GRID: dict[str, Any] = {"methods": "el2n[last_epoch=2]", "seeds": "0", "observer": {"arch": "convnet1_w4", "epochs": 2}}


class Bomb:
    """Write a file when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def pickled_array(mark: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def plain_pickle(mark: Path) -> bytes:
    return pickle.dumps(Bomb(mark))


def garbage(_: Path) -> bytes:
    return b"\x93NUMPY\x01\x00\xff\xff" + b"{" * 100


def empty(_: Path) -> bytes:
    return b""


def other_numbers(_: Path) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((1, 2), np.float32))
    return buffer.getvalue()


def archive(_: Path) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, np.zeros(3))
    return buffer.getvalue()


FILES = [pickled_array, plain_pickle, garbage, empty, other_numbers, archive]


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_foreign_leftovers_of_a_recovery_are_made_again(make: Callable[[Path], bytes], tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    starts = StartFile(tmp_path / "starts.npy", images.shape, lambda: iter(images))
    starts.path.write_bytes(make(mark))
    assert np.array_equal(starts.read(np.array([1, 0])), images[::-1])
    batches = BatchStore(tmp_path, (4, 4, 3))
    batches.save(0, images, {"loss": 1.0})
    assert batches.finished(0, 2)
    batches.path(0).write_bytes(make(mark))
    assert not batches.finished(0, 2)
    assert not mark.exists()


def test_damaged_losses_of_a_killed_method_are_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    def view_losses(_: Any, samples: Any, *__: Any, **___: Any) -> Any:
        measured.append(len(samples))
        return samples[:, None] * 0.5

    teaching = SimpleNamespace(scratch=tmp_path / "scratch", train=None, compute=None)
    context: Any = SimpleNamespace(image_size=4)
    monkeypatch.setattr("fastdc.teachers.view_losses.view_losses", view_losses)
    monkeypatch.setattr(teacher_losses, "teaching_of", lambda *_: teaching)

    def losses() -> list[float]:
        found = teacher_losses.scored_once(context, np.array([3, 1]), list, ["whole"], [], 2, "test")
        return [float(value) for value in found[:, 0]]

    assert losses() == losses() == [1.5, 0.5]
    assert measured == [2]
    (path,) = teaching.scratch.iterdir()
    for count, make in enumerate(FILES):
        path.write_bytes(make(tmp_path / "executed"))
        assert losses() == [1.5, 0.5]
        assert len(measured) == count + 2
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_with_changed_bytes_is_a_damaged_one(tmp_path: Path) -> None:
    path, draws = tmp_path / "checkpoint.pt", random.Random(0)
    save_checkpoint(path, "run", {"step": 3, "model": {"weight": torch.zeros(10)}})
    whole, refused = path.read_bytes(), 0
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(draws.choice((1, 10, 100))):
            changed[draws.randrange(len(changed))] = draws.randrange(256)
        path.write_bytes(changed)
        try:
            load_checkpoint(path, "run")
        except CheckpointError:
            refused += 1  # and nothing else is raised
    assert refused > 200
    torch.save({"identity": "run", "state": [1, 2]}, path)
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        load_checkpoint(path, "run")


@pytest.mark.parametrize("make", [pickled_array, plain_pickle, garbage, empty], ids=lambda make: make.__name__)
def test_foreign_files_of_the_observer(make: Callable[[Path], bytes], make_config: Make, tmp_path: Path) -> None:
    plan = make_plan(make_config(**GRID))
    prepare_workdir(plan.config.workdir)
    mark = tmp_path / "executed"

    def sweep() -> dict[str, int]:
        with Store(plan.store_path) as store:
            store.register((cell.planned() for cell in plan.cells), "failed")
            return run_plan(plan, store).states

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
        outcome = run_plan(larger, store)
        (reason,) = [record.reason for record in store.records() if record.label["ipc"] == 3]
    assert outcome.states == {"done": 1} or (reason and "\n" not in reason), reason
    assert "unexpected" not in (reason or "")
    assert not mark.exists()
