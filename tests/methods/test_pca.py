"""PCA's parts, each a setting: score, window, order, tiles, and the crops in the hints."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fastdc.common.errors import ConfigError
from fastdc.common.keys import content_key
from fastdc.methods import get_method
from fastdc.methods.bases.method import Compressed
from fastdc.methods.bases.selection import window_of_classes
from fastdc.observe.observer_config import ObserverConfig
from fastdc.observe.record_needs import ObserverNeeds
from tests.methods.observed import Case, make_case
from tests.subsets.requests import subset_identity

KEYS = {
    (): "75ea7988bdff4572022b339fc8a938b5",
    (("grid", 3), ("fit", "crop")): "7ad0c922bf9205810d7bb5646648cf7e",
    (("last_epoch", 5), ("keep", "hard")): "0daeca8e674c56e1f5ddbb35ecb0ddc9",
}
"""Keys of subsets as release 0.1.0 computes them."""


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("observed"))


def picture(index: int) -> NDArray[np.uint8]:
    """Return an image of one colour, so that a mosaic shows its sources."""
    return np.full((10, 12, 3), (index, 255 - index, 7), np.uint8)


def compress(case: Case, ipc: int = 2, seed: int = 0, **settings: Any) -> Compressed:
    method = get_method("pca")
    context = replace(case.context, image=picture, image_size=8)
    return method.compress(context, method.configure(settings), ipc, seed)


@pytest.mark.parametrize("settings", list(KEYS))
def test_settings_of_the_first_release_keep_their_keys(settings: tuple[tuple[str, Any], ...]) -> None:
    observer = ObserverConfig(arch="convnet_w32", epochs=10, image_size=64, threads=1, device="cpu", precision="fp32")
    found = subset_identity("pca", dict(settings), "a" * 32, 10, 0, 64, observer)
    assert content_key(found) == KEYS[settings]
    changed = subset_identity("pca", {**dict(settings), "offset": 5}, "a" * 32, 10, 0, 64, observer)
    assert content_key(changed) != KEYS[settings]


def test_the_version_of_the_score_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    observer = ObserverConfig(arch="convnet_w32", epochs=10, image_size=64, threads=1, device="cpu", precision="fp32")

    def key() -> str:
        return content_key(subset_identity("pca", {"score": "aum"}, "a" * 32, 10, 0, 64, observer))

    before = key()
    monkeypatch.setattr(type(get_method("aum")), "version", 99)
    assert key() != before


def test_an_observer_too_short_for_the_score_is_refused_before_it_trains() -> None:
    pca, scorer = get_method("pca"), get_method("dyn_unc")
    assert pca.shortest_log(pca.configure({"score": "dyn_unc"})) == scorer.shortest_log(scorer.configure({})) > 0
    assert pca.shortest_log(pca.configure({})) == pca.shortest_log(pca.configure({"score": "random"})) == 0


@pytest.mark.parametrize("score", ["aum", "forgetting", "entropy", "cad_prune", "dyn_unc"])
def test_any_score_ranks_the_sources(case: Case, score: str) -> None:
    ranked = get_method(score)
    config = ranked.configure({})
    scores = ranked.scores(case.context, config)
    assert scores is not None
    found = compress(case, score=score)
    for label in range(4):
        members = np.flatnonzero(case.labels == label)
        easiest = members[np.argsort(scores[members], kind="stable")][:8]
        np.testing.assert_array_equal(found.sources[found.labels == label].ravel(), easiest)
    method = get_method("pca")
    assert method.observer_needs(method.configure({"score": score})) == ranked.observer_needs(config)


def test_random_reads_no_observer_and_depends_on_the_seed(case: Case) -> None:
    method = get_method("pca")
    config = method.configure({"score": "random"})
    assert (method.observed(config), method.stochastic(config)) == (False, True)
    assert method.observer_needs(config) == ObserverNeeds()
    blind = replace(case, context=replace(case.context, observations=()))
    first, again, other = (compress(blind, score="random", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.sources, again.sources)
    assert not np.array_equal(first.sources, other.sources)
    assert len(np.unique(first.sources)) == first.sources.size
    for label in range(4):
        assert (case.labels[first.sources[first.labels == label]] == label).all()


def test_settings_that_draw_make_the_method_stochastic() -> None:
    method = get_method("pca")
    for settings, expected in (({}, False), ({"offset": 50}, False), ({"pool": 50}, True), ({"order": "random"}, True)):
        assert method.stochastic(method.configure(settings)) is expected


def window(offset: float, pool: float, keep: Any = "easy", seed: int = 0) -> list[int]:
    """Return the window of one class of 20 images that are scored by number; 4 are needed."""
    scores, labels = np.arange(20.0), np.zeros(20, np.int64)
    (found,) = window_of_classes(scores, labels, 1, 4, keep=keep, offset=offset, pool=pool, seed=seed)
    return found.tolist()


def test_offset_moves_the_window_along_the_ranking() -> None:
    assert window(0, 0) == [0, 1, 2, 3]
    assert window(50, 0) == [10, 11, 12, 13]
    assert window(100, 0) == [16, 17, 18, 19]  # the other end, not past it
    assert window(0, 0, "hard") == [19, 18, 17, 16]
    assert window(100, 0, "hard") == [3, 2, 1, 0]


def test_pool_draws_from_the_window_in_the_order_of_the_ranking() -> None:
    for seed in range(20):
        found = window(20, 50, seed=seed)
        assert found == sorted(found)
        assert len(set(found)) == 4
        assert set(found) <= set(range(4, 14))
    assert len({tuple(window(20, 50, seed=seed)) for seed in range(20)}) > 1
    assert set(window(90, 50)) <= set(range(10, 20))
    assert window(0, 5) == [0, 1, 2, 3]  # narrower than what is needed


def test_order_of_the_sources(case: Case) -> None:
    rank, spread, drawn = (compress(case, ipc=3, order=order).sources for order in ("rank", "spread", "random"))
    one = rank[:3].ravel()
    np.testing.assert_array_equal(spread[:3], np.stack([one[mosaic::3] for mosaic in range(3)]))
    assert set(drawn[:3].ravel()) == set(one)
    assert not np.array_equal(drawn, rank)


def test_hints_record_the_training_crops(case: Case) -> None:
    assert compress(case).hints == {"tile_grid": 2}
    assert compress(case, grid=1).hints == {}
    assert compress(case, grid=1, views=4).hints == {"tile_views": 4}
    found = compress(case, grid=3, ipc=1, whole=0.25, align=0.6, scale_min=0.3, scale_max=0.9, views=2).hints
    assert found == {
        **{"tile_grid": 3, "tile_whole": 0.25, "tile_align": 0.6},
        **{"tile_scale": [0.3, 0.9], "tile_views": 2},
    }
    assert compress(case, scale_min=0.3).hints == {"tile_grid": 2, "tile_scale": [0.3, 1.0]}


@pytest.mark.parametrize(
    ("settings", "name", "why"),
    [
        *(
            ({"score": "random", **{name: value}}, name, "with score=random: sources are drawn from the whole class")
            for name, value in (("offset", 30), ("pool", 20), ("keep", "hard"), ("order", "spread"))
        ),
        ({"score": "random", "first_epoch": 2}, "first_epoch", "with score=random: it is the window of el2n"),
        ({"score": "aum", "last_epoch": 5}, "last_epoch", "with score=aum: it is the window of el2n"),
        ({"score": "teacher", "last_epoch": 5}, "last_epoch", "with score=teacher"),
        ({"teachers": "observer:resnet18"}, "teachers", "with score=el2n: only score=teacher runs networks"),
        ({"pool": 100, "offset": 5}, "offset", "with pool=100, which is the whole class"),
        ({"grid": 1, "order": "spread"}, "order", "with grid=1, where a stored image has one source"),
        *(
            ({"grid": 1, **{name: value}}, name, "with grid 1, whose only tile is the whole image")
            for name, value in (("whole", 0.5), ("align", 0.5), ("scale_min", 0.5))
        ),
        ({"whole": 1, "align": 0.5}, "align", "with whole=1, where no visit crops inside a tile"),
        ({"whole": 1, "scale_min": 0.5}, "scale_min", "with whole=1"),
        ({"augment": "tile:2"}, "augment", "beside pca's own crops: whole, align"),
    ],
    ids=str,
)
def test_settings_without_effect_are_refused(settings: dict[str, Any], name: str, why: str) -> None:
    pca = get_method("pca")
    with pytest.raises(ConfigError, match=f"method pca: {name}=.* changes nothing {why}.*; leave it out"):
        pca.configure(settings)
    default = {**settings, name: pca.configure({}).model_dump()[name]}
    assert pca.configure(default)


def test_ends_of_the_crop_scale_are_checked() -> None:
    pca = get_method("pca")
    with pytest.raises(ConfigError, match=r"scale_max=0\.5 needs scale_min"):
        pca.configure({"scale_max": 0.5})
    with pytest.raises(ConfigError, match=r"scale_min=0\.6 is above scale_max=0\.5"):
        pca.configure({"scale_min": 0.6, "scale_max": 0.5})
    for views in (0, 65):
        with pytest.raises(ConfigError, match=f"views={views}"):
            pca.configure({"views": views})


@pytest.mark.parametrize(
    ("settings", "inferred"),
    [
        ({}, "fit first_epoch grid last_epoch order resize scale_min"),
        ({"score": "aum"}, "fit grid order resize scale_min"),
        ({"score": "random", "grid": 3}, "fit resize scale_min"),
        ({"grid": 1}, "fit first_epoch last_epoch resize"),
        ({"whole": 1, "order": "spread"}, "fit first_epoch grid last_epoch resize"),
    ],
    ids=str,
)
def test_inferred_settings_are_named_when_they_are_read(case: Case, settings: dict[str, Any], inferred: str) -> None:
    pca = get_method("pca")
    names = set(pca.inferred(pca.configure(settings), 64))
    assert names == set(inferred.split())
    assert set(compress(case, ipc=1, **settings).details["inferred"]) == names


@pytest.mark.parametrize(("grid", "edges"), [(2, (0, 4, 8)), (3, (0, 3, 5, 8))])
def test_nearest_equals_torchs(case: Case, grid: int, edges: tuple[int, ...]) -> None:
    """In a grid that does not divide the side, tiles are 3, 2 and 3 px."""
    rng = np.random.default_rng(0)
    images = {index: rng.integers(0, 256, (13, 10, 3), dtype=np.uint8) for index in range(48)}
    method, context = get_method("pca"), replace(case.context, image=images.__getitem__, image_size=8)
    found = method.compress(context, method.configure({"resize": "nearest", "grid": grid}), 1, 0)
    assert found.images is not None
    for mosaic, sources in zip(found.images(), found.sources, strict=True):
        for position, source in enumerate(sources.tolist()):
            tensor = torch.from_numpy(images[source]).permute(2, 0, 1)[None].float()
            row, column = divmod(position, grid)
            tile = mosaic[edges[row] : edges[row + 1], edges[column] : edges[column + 1]]
            expected = torch.nn.functional.interpolate(tensor, tile.shape[:2], mode="nearest")
            np.testing.assert_array_equal(tile, expected[0].permute(1, 2, 0).byte().numpy())


def test_unknown_scores_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="score=herding: ranks no images by a score"):
        get_method("pca").configure({"score": "herding"})
    with pytest.raises(Exception, match="did you mean 'el2n'"):
        get_method("pca").configure({"score": "el3n"})
