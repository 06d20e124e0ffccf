"""Compression with methods that run networks: dependencies, costs and leftovers."""

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from fastdc.common.errors import OutputError
from fastdc.methods import Compressed, MethodConfig, MethodContext, MethodInfo, _registry
from fastdc.methods.bases.teacher_methods import TeacherMethod
from fastdc.observe import ObserverConfig, load_observation
from fastdc.observe.record_needs import ObserverNeeds
from fastdc.subsets.compress import CompressResult, compress_beton

OBSERVER = ObserverConfig(arch="convnet_w8", epochs=3, batch_size=32, lr=0.05, image_size=28, threads=1)


class Painter(TeacherMethod):
    """Store grey images; read one epoch of the observer, and record the arguments."""

    info: ClassVar[MethodInfo] = MethodInfo(
        name="painter", title="Painter", family="distillation", paper="", year=0, bibtex="", needs=("teacher",)
    )
    threads: ClassVar[list[int]] = []

    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        self.threads.append(torch.get_num_threads())
        labels = np.repeat(np.arange(len(context.classes)), ipc)
        grey = np.full((context.image_size, context.image_size, 3), 99, np.uint8)
        return Compressed(labels, np.zeros((len(labels), 0), np.int64), lambda: iter([grey] * len(labels)))


class Reader(Painter):
    """Do the same, and read an epoch of the observer's log."""

    info: ClassVar[MethodInfo] = MethodInfo(
        name="painter", title="Painter", family="distillation", paper="", year=0, bibtex="", needs=("dynamics",)
    )

    def observer_needs(self, config: MethodConfig) -> ObserverNeeds:
        return ObserverNeeds(1)


@pytest.fixture(autouse=True)
def painter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(_registry().methods, "painter", Painter())
    Painter.threads.clear()
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def paint(betons: Any, tmp_path: Path, method: str = "painter", **changes: Any) -> CompressResult:
    options = {"ipc": 2, "image_size": 28, "workdir": tmp_path / "work", "observer": OBSERVER, "force": True, **changes}
    return compress_beton(method, betons.train, tmp_path / "out.beton", **options)


def test_a_method_computes_equally_with_a_new_or_stored_teacher(betons: Any, tmp_path: Path) -> None:
    for _ in range(2):
        paint(betons, tmp_path, threads=2)
    assert Painter.threads == [2, 2]


def test_the_list_of_an_earlier_subset_is_removed(betons: Any, tmp_path: Path) -> None:
    paint(betons, tmp_path, "random")
    assert (tmp_path / "out.list.tsv").exists()
    paint(betons, tmp_path)
    assert not (tmp_path / "out.list.tsv").exists()


def test_a_waiting_process_reuses_the_subset(betons: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused, seconds = [], []

    def second() -> None:
        try:
            paint(betons, tmp_path, force=False)
        except OutputError as error:
            refused.append(str(error))

    class Slow(Painter):
        def compress(self, *args: Any) -> Compressed:
            seconds.append(Thread(target=second))
            seconds[-1].start()
            seconds[-1].join(1.0)
            assert seconds[-1].is_alive()
            return super().compress(*args)

    monkeypatch.setitem(_registry().methods, "painter", Slow())
    paint(betons, tmp_path, force=False)
    seconds[0].join(60)
    assert len(seconds) == len(refused) == 1
    assert "exists already" in refused[0]
    assert not list((tmp_path / "work" / "making").iterdir())


def test_an_observer_of_several_runs_is_counted_once(
    betons: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_registry().methods, "painter", Reader())
    cost = paint(betons, tmp_path, observer=OBSERVER.model_copy(update={"runs": 3})).seconds
    records = [load_observation(path) for path in sorted((tmp_path / "work" / "observers").iterdir())]
    first, *others = sorted((record for record in records if record), key=lambda record: record.identity["run"])
    assert len(others) == 2
    expected = first.seconds() + sum(record.seconds(1) for record in others)
    assert cost["observer"] + cost["teacher"] == pytest.approx(expected)


def test_another_teacher_is_counted_beside_the_observer(
    betons: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Final(Reader):
        def observer_needs(self, config: MethodConfig) -> ObserverNeeds:
            return ObserverNeeds(final=True)

    monkeypatch.setitem(_registry().methods, "painter", Final())
    cost = paint(betons, tmp_path, settings={"teachers": "observer+observer:convnet_w4"}).seconds
    records = [record for path in (tmp_path / "work" / "observers").iterdir() if (record := load_observation(path))]
    (observer,) = [record for record in records if not record.extra]
    expected = sum(record.seconds() for record in records) + observer.final.seconds
    assert cost["observer"] + cost["teacher"] == pytest.approx(expected)
