"""One stream for several consumers: each gets the batches of a separate loader, bit for bit."""

from typing import Any

import numpy as np
import pytest
import torch

from fastdc.common.errors import ConfigError, LoaderError
from fastdc.loader import Batch, EvalView, LoaderRequest, TrainView, ViewRequest, open_loader, open_stream
from tests.loader.conftest import Shelf

REQUESTS = (
    ViewRequest(TrainView(20), 1),
    ViewRequest(EvalView(16), 3),
    ViewRequest(TrainView(20), 2),
    ViewRequest(TrainView(33, scale=(0.3, 0.9), tile_grid=2), 2),
    ViewRequest(TrainView(20), 1),
    ViewRequest(EvalView(16), 4),
)


def assert_equal(first: Batch, second: Batch) -> None:
    for name, left, right in zip(Batch._fields, first, second, strict=True):
        assert torch.equal(left, right), name


@pytest.mark.parametrize("engine", ["ffcv", "resident"])
@pytest.mark.parametrize("output", ["uint8", "float32"])
@pytest.mark.parametrize("name", ["jpeg", "mixed"])
def test_each_batch_equals_that_of_a_separate_loader(shelf: Shelf, name: str, output: Any, engine: Any) -> None:
    path, common = getattr(shelf, name), {"batch_size": 6, "shuffle": True, "order_seed": 9, "output": output}
    with open_stream(LoaderRequest(path, REQUESTS, engine=engine, workers=2, **common)) as shared:
        alone = [open_loader(path, r.view, seed=r.seed, engine="resident", **common) for r in REQUESTS]
        for epoch in (0, 3):
            for made, *expected in zip(
                shared.epoch_views(epoch), *(loader.epoch(epoch) for loader in alone), strict=True
            ):
                for batch, other in zip(made, expected, strict=True):
                    assert_equal(batch, other)
        for loader in alone:
            loader.close()
        assert (shared.engine, shared.batches_per_epoch) == (engine, -(-shared.num_samples // 6))


@pytest.mark.parametrize("engine", ["ffcv", "resident"])
def test_equal_requests_share_one_tensor(shelf: Shelf, engine: Any) -> None:
    with open_stream(LoaderRequest(shelf.jpeg, REQUESTS, batch_size=6, order_seed=0, engine=engine)) as shared:
        batches = next(shared.epoch_views(0))
    places = [batch.images.data_ptr() for batch in batches]
    assert places[0] == places[4]
    assert places[1] == places[5]
    assert len(set(places)) == 4


@pytest.mark.parametrize("engine", ["ffcv", "resident"])
def test_an_epoch_can_start_at_any_batch(shelf: Shelf, engine: Any) -> None:
    with open_stream(
        LoaderRequest(shelf.jpeg, REQUESTS[:2], batch_size=6, order_seed=0, shuffle=True, engine=engine)
    ) as shared:
        whole = list(shared.epoch_views(1))
        rest = list(shared.epoch_views(1, 2))
        assert len(rest) == len(whole) - 2
        for made, expected in zip(rest, whole[2:], strict=True):
            for batch, other in zip(made, expected, strict=True):
                assert_equal(batch, other)


def test_the_order_seed_alone_determines_the_order(shelf: Shelf) -> None:
    def order(**seeds: Any) -> list[int]:
        with open_loader(shelf.jpeg, TrainView(8), batch_size=50, shuffle=True, engine="resident", **seeds) as loader:
            return next(loader.epoch(0)).indices.tolist()

    assert order(seed=1, order_seed=5) == order(seed=2, order_seed=5) == order(seed=5)
    assert order(seed=1, order_seed=5) != order(seed=1)
    assert order(seed=1, order_seed=np.int64(5)) == order(seed=5)


def test_the_order_seed_does_not_change_the_views(shelf: Shelf) -> None:
    made = {}
    for order_seed in (3, 4):
        loader = open_loader(shelf.jpeg, TrainView(8), batch_size=50, seed=1, order_seed=order_seed, shuffle=True)
        batch = next(loader.epoch(0))
        made[order_seed] = batch.images[batch.indices.argsort()]
        loader.close()
    assert torch.equal(made[3], made[4])


def test_no_requests_and_two_kinds_of_views_on_a_device(shelf: Shelf) -> None:
    with pytest.raises(ConfigError, match="requests are empty"):
        LoaderRequest(shelf.jpeg, (), batch_size=4, order_seed=0)
    with pytest.raises(
        ConfigError, match=r"training views or one validation view, found \d training and \d validation"
    ):
        LoaderRequest(shelf.jpeg, REQUESTS, batch_size=4, order_seed=0, engine="device")


def test_a_closed_stream_is_refused(shelf: Shelf) -> None:
    shared = open_stream(LoaderRequest(shelf.jpeg, REQUESTS, batch_size=4, order_seed=0))
    shared.close()
    with pytest.raises(LoaderError, match="was closed"):
        shared.epoch_views(0)
