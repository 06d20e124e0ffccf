"""Several views of an image in one epoch: the same visits for any engine, batch size, workers and start."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.common.errors import ConfigError
from fastdc.kernels.views.view_batches import draw_view, place_view
from fastdc.loader import LoaderRequest, TrainView, ViewRequest, open_loader, open_stream
from fastdc.loader.batches import SampleOrder
from fastdc.loader.stream import ViewPlan
from fastdc.loader.view_settings import view_numbers
from fastdc.nn.fit_loop import steps_per_epoch
from tests.loader.conftest import SAMPLES, Shelf, picture
from tests.loader.test_engines import assert_equal, joined

VIEW = TrainView(20, scale=(0.2, 0.9), tile_grid=2)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.booleans(), st.integers(0, 5), st.integers(0, 5))
def test_each_round_of_an_epoch_visits_every_sample_once(
    count: int, views: int, shuffle: bool, seed: int, epoch: int
) -> None:
    samples = np.arange(count) * 2
    order = SampleOrder(samples, seed, shuffle, views, 2 * count)
    visits = order.epoch(epoch)
    assert len(order) == len(visits) == count * views
    rounds = visits.reshape(views, count)
    np.testing.assert_array_equal(rounds // (2 * count), np.arange(views)[:, None].repeat(count, 1))
    np.testing.assert_array_equal(np.sort(rounds % (2 * count), axis=1), np.tile(samples, (views, 1)))
    np.testing.assert_array_equal(rounds[0], SampleOrder(samples, seed, shuffle).epoch(epoch))


def test_an_epoch_may_be_a_numpy_integer(shelf: Shelf) -> None:
    with open_loader(shelf.jpeg, VIEW, batch_size=4) as loader:
        np.testing.assert_array_equal(loader.visits(np.int64(1)), loader.visits(1))  # type: ignore[arg-type]


def test_each_round_has_its_own_order() -> None:
    orders = SampleOrder(np.arange(30), 0, True, 5, 30).epoch(2).reshape(5, 30) % 30
    assert len(set(map(tuple, orders))) == 5


@pytest.mark.parametrize("name", ["jpeg", "raw", "mixed"])
@pytest.mark.parametrize(("engine", "workers", "batch_size"), [("ffcv", 2, 7), ("ffcv", 1, 500), ("resident", 2, 7)])
def test_visits_do_not_depend_on_engine_workers_and_batch_size(
    shelf: Shelf, name: str, engine: Any, workers: int, batch_size: int
) -> None:
    common: dict[str, Any] = {"seed": 3, "shuffle": True, "views": 3}
    with (
        open_loader(getattr(shelf, name), VIEW, batch_size=5, engine="resident", workers=1, **common) as reference,
        open_loader(
            getattr(shelf, name), VIEW, batch_size=batch_size, engine=engine, workers=workers, **common
        ) as loader,
    ):
        assert_equal(joined(loader, 2), joined(reference, 2))
        assert loader.num_samples == reference.num_samples == 3 * len(reference.decodes)
        assert loader.batches_per_epoch == len(list(loader.epoch(0))) == -(-loader.num_samples // batch_size)


@pytest.mark.parametrize("engine", ["ffcv", "device"])
@pytest.mark.parametrize("output", ["uint8", "float32"])
def test_other_engines_make_the_batches_of_the_resident_one(shelf: Shelf, engine: Any, output: Any) -> None:
    common: dict[str, Any] = {"batch_size": 6, "seed": 4, "shuffle": True, "views": 4, "output": output}
    with (
        open_loader(shelf.jpeg, VIEW, engine=engine, **common) as one,
        open_loader(shelf.jpeg, VIEW, engine="resident", **common) as other,
    ):
        for first, second in zip(one.epoch(1), other.epoch(1), strict=True):
            assert_equal(first, second)


def test_a_visit_draws_by_its_number_and_shows_its_sample(shelf: Shelf) -> None:
    """Pixels by the kernels of one image, at the key (seed, epoch, sample + round * N)."""
    plan = ViewPlan([ViewRequest(VIEW, 3)], delivery=_uint8())
    with open_loader(shelf.raw, VIEW, batch_size=500, seed=3, shuffle=True, views=3, engine="resident") as loader:
        batch, visits = joined(loader, 5), loader.order.epoch(5)
    assert batch.indices.tolist() == (visits % SAMPLES).tolist()
    assert batch.labels.tolist() == (visits % SAMPLES % 3).tolist()
    place, expected = np.zeros(9, np.int64), np.zeros((20, 20, 3), np.uint8)
    for visit, image in zip(visits.tolist(), batch.images.numpy(), strict=True):
        source = picture(48, 64, visit % SAMPLES)
        place_view(view_numbers(VIEW), int(plan.seeds[0]), 5, visit, (48, 64), 20, place)
        draw_view(source, 0, place, 20, np.zeros((2, 0), np.float32), expected.reshape(-1))
        np.testing.assert_array_equal(image, expected)
    shown = {image.tobytes() for image in batch.images.numpy()}
    assert len(shown) == 3 * SAMPLES


def _uint8() -> Any:
    from fastdc.loader.stream import Delivery

    return Delivery()


@pytest.mark.parametrize("engine", ["ffcv", "resident"])
def test_one_view_is_the_first_round_of_several(shelf: Shelf, engine: Any) -> None:
    common: dict[str, Any] = {"batch_size": 4, "seed": 1, "shuffle": True, "engine": engine}
    with open_loader(shelf.jpeg, VIEW, **common) as one, open_loader(shelf.jpeg, VIEW, views=2, **common) as two:
        first, both = joined(one, 3), joined(two, 3)
        assert all(torch.equal(left, right[:SAMPLES]) for left, right in zip(first, both, strict=True))
        assert sorted(both.indices[SAMPLES:].tolist()) == list(range(SAMPLES))


@pytest.mark.parametrize("engine", ["ffcv", "resident", "device"])
def test_an_epoch_can_start_in_any_round(shelf: Shelf, engine: Any) -> None:
    with open_loader(shelf.jpeg, VIEW, batch_size=6, shuffle=True, views=3, engine=engine) as loader:
        whole = list(loader.epoch(1))
        for start in (3, 4, 8, len(whole)):  # batch 3 holds the end of one round and the beginning of the next
            for found, expected in zip(loader.epoch(1, start), whole[start:], strict=True):
                assert_equal(found, expected)


@pytest.mark.parametrize("engine", ["ffcv", "resident"])
def test_consumers_of_a_shared_stream_have_their_own_visits(shelf: Shelf, engine: Any) -> None:
    requests = (ViewRequest(VIEW, 1), ViewRequest(TrainView(16), 2))
    common: dict[str, Any] = {"batch_size": 6, "shuffle": True, "order_seed": 9}
    with open_stream(LoaderRequest(shelf.mixed, requests, engine=engine, workers=2, visits=3, **common)) as shared:
        alone = [open_loader(shelf.mixed, r.view, seed=r.seed, engine="resident", views=3, **common) for r in requests]
        for made, *expected in zip(shared.epoch_views(2), *(loader.epoch(2) for loader in alone), strict=True):
            for batch, other in zip(made, expected, strict=True):
                assert_equal(batch, other)
        for loader in alone:
            loader.close()


@pytest.mark.parametrize(("views", "batch_size", "steps"), [(1, 11, 2), (2, 11, 5), (2, 15, 3), (3, 23, 3), (4, 7, 13)])
def test_steps_count_every_visit(shelf: Shelf, views: int, batch_size: int, steps: int) -> None:
    """Two rounds of 23 are 46 = 3 * 15 + 1: the last one joins the batch before it."""
    with open_loader(shelf.jpeg, VIEW, batch_size=batch_size, views=views, engine="resident") as loader:
        assert steps_per_epoch(loader) == steps


def test_fewer_than_one_view_is_refused(shelf: Shelf) -> None:
    for views in (0, -1):
        with pytest.raises(ConfigError, match=f"views={views}: expected at least 1"):
            open_loader(shelf.jpeg, VIEW, batch_size=4, views=views)
        with pytest.raises(ConfigError, match=f"views={views}: expected at least 1"):
            LoaderRequest(shelf.jpeg, (ViewRequest(VIEW),), batch_size=4, order_seed=0, visits=views)
