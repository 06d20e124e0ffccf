"""Both engines give the same batches for any file, view, batch size, order of epochs and number of workers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fastdc.common.choices import EngineChoice
from fastdc.loader import Batch, EvalView, Loader, TrainView, open_loader
from tests.loader.conftest import SAMPLES, Shelf

VIEWS = {
    "train": TrainView(32),
    "tiles": TrainView(24, scale=(0.2, 0.9), tile_grid=2),
    "mixture": TrainView(24, tile_grid=3, tile_whole=0.3, tile_align=0.5, tile_scale=(0.5, 1.0)),
    "noflip": TrainView(90, scale=(0.9, 1.0), ratio=(1.0, 1.0), flip=False),
    "eval": EvalView(28),
}
ENGINES: tuple[EngineChoice, ...] = ("resident", "ffcv")


def joined(loader: Loader, epoch: int) -> Batch:
    """Return all batches of an epoch as one."""
    batches = list(loader.epoch(epoch))
    return Batch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


def assert_equal(first: Batch, second: Batch) -> None:
    for name, left, right in zip(Batch._fields, first, second, strict=True):
        assert torch.equal(left, right), name


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", Shelf._fields)
@pytest.mark.parametrize(("workers", "batch_size"), [(1, 7), (2, 1), (2, 1000)])
def test_ffcv_equals_resident(shelf: Shelf, name: str, view: str, workers: int, batch_size: int) -> None:
    path = getattr(shelf, name)
    with (
        open_loader(path, VIEWS[view], batch_size=5, seed=3, shuffle=True, engine="resident", workers=1) as resident,
        open_loader(
            path, VIEWS[view], batch_size=batch_size, seed=3, shuffle=True, engine="ffcv", workers=workers
        ) as ffcv,
    ):
        for epoch in (4, 0, 4):
            assert_equal(joined(ffcv, epoch), joined(resident, epoch))


@pytest.mark.parametrize("batch_size", [1, 7, SAMPLES - 1, SAMPLES, SAMPLES + 1])
@pytest.mark.parametrize("workers", [1, 2, 500])
@pytest.mark.parametrize("engine", ENGINES)
def test_views_do_not_depend_on_batch_size_and_workers(
    shelf: Shelf, engine: EngineChoice, workers: int, batch_size: int
) -> None:
    view = TrainView(200)  # large enough that the resident engine shares a batch among threads
    with (
        open_loader(shelf.raw, view, batch_size=batch_size, shuffle=True, engine=engine, workers=workers) as loader,
        open_loader(shelf.raw, view, batch_size=4, shuffle=True, engine="resident", workers=1) as reference,
    ):
        assert_equal(joined(loader, 1), joined(reference, 1))


def test_a_stock_ffcv_file_gives_equal_batches(tmp_path: Path) -> None:
    program = f"""
import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.writer import DatasetWriter
class Images:
    def __len__(self): return 12
    def __getitem__(self, i):
        return np.random.default_rng(i).integers(0, 256, (20 + i, 30 - i, 3), dtype=np.uint8), 5 * i
fields = {{"image": RGBImageField("proportion"), "label": IntField()}}
DatasetWriter({str(tmp_path / "stock.beton")!r}, fields, num_workers=1).from_indexed_dataset(Images())
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)
    view = TrainView(16)
    with (
        open_loader(tmp_path / "stock.beton", view, batch_size=5, engine="ffcv") as ffcv,
        open_loader(tmp_path / "stock.beton", view, batch_size=5, engine="resident") as resident,
    ):
        assert_equal(joined(ffcv, 0), joined(resident, 0))
        assert joined(ffcv, 0).labels.tolist() == [5 * i for i in range(12)]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_last_short_batch_is_kept(shelf: Shelf, engine: EngineChoice) -> None:
    with open_loader(shelf.jpeg, TrainView(8), batch_size=11, engine=engine) as loader:
        assert [len(batch.images) for batch in loader.epoch(0)] == [11, 11, 1]
        assert (loader.num_samples, loader.batches_per_epoch, loader.engine) == (SAMPLES, 3, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_batches_have_the_promised_types(shelf: Shelf, engine: EngineChoice) -> None:
    with open_loader(shelf.mixed, TrainView(8), batch_size=11, engine=engine) as loader:
        batch = next(loader.epoch(0))
    assert batch.images.shape == (11, 8, 8, 3)
    assert (batch.images.dtype, batch.labels.dtype, batch.indices.dtype) == (torch.uint8, torch.int64, torch.int64)


@pytest.mark.parametrize("engine", ENGINES)
def test_labels_and_indices_belong_to_the_samples(shelf: Shelf, engine: EngineChoice) -> None:
    with open_loader(shelf.jpeg, TrainView(8), batch_size=4, shuffle=True, engine=engine) as loader:
        epoch = joined(loader, 2)
    assert sorted(epoch.indices.tolist()) == list(range(SAMPLES))
    assert torch.equal(epoch.labels, epoch.indices % 3)


@pytest.mark.parametrize("engine", ENGINES)
def test_indices_choose_samples_and_their_order(shelf: Shelf, engine: EngineChoice) -> None:
    chosen = np.array([7, 3, 20])
    with (
        open_loader(shelf.jpeg, TrainView(8), batch_size=2, indices=chosen, engine=engine) as some,
        open_loader(shelf.jpeg, TrainView(8), batch_size=2, engine=engine) as whole,
    ):
        assert_equal(joined(some, 5), Batch(*(part[chosen] for part in joined(whole, 5))))


@pytest.mark.parametrize("engine", ENGINES)
def test_seed_and_epoch_change_every_training_view(shelf: Shelf, engine: EngineChoice) -> None:
    with (
        open_loader(shelf.jpeg, TrainView(16), batch_size=50, seed=0, engine=engine) as first,
        open_loader(shelf.jpeg, TrainView(16), batch_size=50, seed=1, engine=engine) as second,
    ):
        views = [joined(first, 0), joined(first, 1), joined(second, 0), joined(second, 1)]
    for left in range(4):
        for right in range(left):
            same = (views[left].images == views[right].images).flatten(1).all(1)
            assert not same.any()


@pytest.mark.parametrize("engine", ENGINES)
def test_overlapping_epochs_do_not_disturb_each_other(shelf: Shelf, engine: EngineChoice) -> None:
    with open_loader(shelf.jpeg, TrainView(16), batch_size=3, shuffle=True, engine=engine) as loader:
        apart = [list(loader.epoch(0)), list(loader.epoch(1))]
        together = list(zip(loader.epoch(0), loader.epoch(1), strict=True))
    for number, pair in enumerate(together):
        for epoch in (0, 1):
            assert_equal(pair[epoch], apart[epoch][number])


@pytest.mark.parametrize("engine", ENGINES)
def test_batches_are_owned_by_the_caller(shelf: Shelf, engine: EngineChoice) -> None:
    """FFCV's own batches are overwritten while later ones are made."""
    with open_loader(shelf.jpeg, TrainView(16), batch_size=2, engine=engine) as loader:
        copies, kept = [], []
        for batch in loader.epoch(0):
            kept.append(batch)
            copies.append(Batch(*(part.clone() for part in batch)))
        for batch in loader.epoch(1):
            batch.images.zero_()  # the caller may write, too
        for batch, copy in zip(kept, copies, strict=True):
            assert_equal(batch, copy)
        assert_equal(joined(loader, 0), Batch(*(torch.cat(parts) for parts in zip(*copies, strict=True))))


@pytest.mark.parametrize("engine", ENGINES)
def test_writing_to_a_validation_batch_does_not_reach_the_cache(shelf: Shelf, engine: EngineChoice) -> None:
    with open_loader(shelf.jpeg, EvalView(16), batch_size=50, engine=engine) as loader:
        before = joined(loader, 0)
        for batch in loader.epoch(0):
            for part in batch:
                part.zero_()
        assert_equal(joined(loader, 0), before)


@pytest.mark.parametrize("engine", ENGINES)
def test_validation_views_are_the_same_in_every_epoch(shelf: Shelf, engine: EngineChoice) -> None:
    with open_loader(shelf.jpeg, EvalView(16), batch_size=5, engine=engine) as loader:
        assert_equal(joined(loader, 0), joined(loader, 9))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_second_next_after_the_end_stops_again(shelf: Shelf, engine: EngineChoice) -> None:
    with open_loader(shelf.jpeg, TrainView(8), batch_size=50, engine=engine) as loader:
        iterator = loader.epoch(0)
        next(iterator)
        for _ in range(3):
            with pytest.raises(StopIteration):
                next(iterator)
