"""A plug-in with every kind of wrong output: refused by name, nothing stored, and the sweep continues."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdc.common.errors import MethodError
from fastdc.common.files import prepare_workdir
from fastdc.methods import Compressed, Method, MethodConfig, MethodContext, MethodInfo, _registry
from fastdc.methods.bases.method import Mosaic
from fastdc.subsets.compress import compress_beton
from fastdc.sweep.cells import make_plan
from fastdc.sweep.run_cells import run_plan
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig

Make = Callable[..., SweepConfig]
Change = Callable[[Compressed, MethodContext], Any]


class Plugin(Method):
    """Keep the first images of every class, and change what is returned."""

    info = MethodInfo(name="plugin", title="Plugin", family="pruning", paper="", year=2026, bibtex="")

    def __init__(self, change: Change, scores: Any = None) -> None:
        self.change, self._scores = change, scores

    def scores(self, context: MethodContext, config: MethodConfig) -> Any:
        return self._scores

    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        classes = range(len(context.classes))
        kept = np.concatenate([np.flatnonzero(context.labels == label)[:ipc] for label in classes])
        return self.change(Compressed(context.labels[kept], kept[:, None]), context)  # type: ignore[no-any-return]


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Register a `Plugin` for the test."""

    def register(change: Change = lambda made, _: made, scores: Any = None) -> None:
        monkeypatch.setitem(_registry().methods, "plugin", Plugin(change, scores))

    return register


def made_of(*images: Any) -> Change:
    def images_of() -> Iterator[Any]:
        yield from images

    return lambda made, _: replace(made, images=images_of)


def picture(side: int = 28, dtype: Any = np.uint8) -> Any:
    return np.zeros((side, side, 3), dtype)


def relabel(made: Compressed, _: MethodContext) -> Compressed:
    return replace(made, labels=np.roll(made.labels, 2))


def repeat_first(made: Compressed, _: MethodContext) -> Compressed:
    return Compressed(made.labels, np.repeat(made.sources[::2], 2, axis=0))


def of_two_classes(made: Compressed, context: MethodContext) -> Compressed:
    kept = np.flatnonzero(context.labels < 2)[:6]
    return Compressed(context.labels[kept], kept[:, None])


def set_source(value: int) -> Change:
    def change(made: Compressed, _: MethodContext) -> Compressed:
        sources = made.sources.copy()
        sources[1] = value
        return replace(made, sources=sources)

    return change


WRONG: dict[str, tuple[Change, str]] = {
    "nothing": (lambda made, _: None, "gave NoneType, expected fastdc.Compressed"),
    "too few": (lambda m, _: Compressed(m.labels[:-1], m.sources[:-1]), "gave class 'sand' 1 images, expected 2"),
    "no image": (lambda m, _: Compressed(m.labels[:0], m.sources[:0]), "gave class 'bark' 0 images, expected 2"),
    "a class missing": (of_two_classes, "gave class 'bark' 6 images, expected 2"),
    "twice the same": (repeat_first, "kept image 0 2 times, expected each at most once"),
    "other labels": (relabel, "the label 'sand', which is 'bark' in the training set"),
    "label out of range": (lambda m, _: replace(m, labels=m.labels + 1), "label 3 is out of range, expected 0 to 2"),
    "source out of range": (set_source(120), "source 120 is out of range, expected 0 to 119"),
    "source below zero": (set_source(-1), "source -1 is out of range"),
    "float labels": (lambda m, _: replace(m, labels=m.labels.astype(float)), r"labels are float64 \[6\]"),
    "a list": (lambda m, _: replace(m, labels=m.labels.tolist()), "labels are list, expected integers"),
    "flat sources": (lambda m, _: replace(m, sources=m.sources[:, 0]), r"sources are int64 \[6\], expected integers"),
    "other lengths": (lambda m, _: replace(m, sources=m.sources[:-1]), r"sources are int64 \[5, 1\]"),
    "two sources": (lambda m, _: replace(m, sources=np.repeat(m.sources, 2, 1)), "kept images with 2 sources each"),
    "no function": (lambda m, _: replace(m, images=[picture()]), "images are list, expected a function"),
    "mosaics of one image": (
        lambda m, _: replace(m, images=lambda: iter([picture()] * 6), mosaic=Mosaic(grid=2, fit="crop")),
        "its mosaics have grid 2, 1 sources and encoding jpg",
    ),
    "nan hint": (lambda m, _: replace(m, hints={"tile_grid": float("nan")}), "its hints are not plain data"),
    "object detail": (lambda m, _: replace(m, details={"model": object()}), "its details are not plain data"),
    "small images": (made_of(*[picture(27)] * 6), r"image 0 that the method made is uint8 \[27, 27, 3\]"),
    "float images": (made_of(picture(), picture(dtype=np.float32)), "image 1 that the method made is float32"),
    "too few images": (made_of(*[picture()] * 5), "the method made 5 images, expected 6"),
    "too many images": (made_of(*[picture()] * 7), "the method made more images, expected 6"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_wrong_output_is_refused_and_nothing_is_written(
    plug_in: Callable[..., None], tiny: Path, tmp_path: Path, change: Change, message: str
) -> None:
    plug_in(change)
    with pytest.raises(MethodError, match=message):
        compress_beton("plugin", tiny / "train.beton", tmp_path / "x.beton", ipc=2, image_size=28, workdir=tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.array([0.5] * 119 + [np.nan]), "hold nan for image 119"),
        (np.array([np.inf] * 120), "hold inf for image 0"),
        (np.zeros(119), r"are float64 \[119\], expected numbers \[120\]"),
        ([0.0] * 120, "are list"),
        (np.array([None] * 120), "are object"),
    ],
    ids=["nan", "inf", "too few", "list", "objects"],
)
def test_scores_that_rank_nothing_are_refused(
    plug_in: Callable[..., None], tiny: Path, tmp_path: Path, scores: Any, message: str
) -> None:
    plug_in(scores=scores)
    with pytest.raises(MethodError, match=message):
        compress_beton("plugin", tiny / "train.beton", tmp_path / "x.beton", ipc=2, image_size=28, workdir=tmp_path)


def test_correct_output_passes(plug_in: Callable[..., None], tiny: Path, tmp_path: Path) -> None:
    plug_in(made_of(*[picture()] * 6), np.zeros(120))
    compress_beton("plugin", tiny / "train.beton", tmp_path / "x.beton", ipc=2, image_size=28, workdir=tmp_path)
    assert (tmp_path / "x.beton").exists()


def test_a_sweep_continues_and_calls_it_once(plug_in: Callable[..., None], make_config: Make) -> None:
    calls = []

    def change(made: Compressed, context: MethodContext) -> Compressed:
        calls.append(1)
        return repeat_first(made, context)

    plug_in(change)
    plan = make_plan(make_config(methods="plugin,random", seeds="0-1"))
    prepare_workdir(plan.config.workdir)
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
        outcome = run_plan(plan, store)
        rows = {(record.label["method"], record.state, record.failure) for record in store.records()}
    assert (outcome.exit_code, outcome.states) == (1, {"done": 2, "failed": 2})
    assert rows == {("plugin", "failed", "method"), ("random", "done", None)}
    assert len(calls) == 1  # both seeds need the one subset
    assert not any(path.name.startswith("plugin") for path in plan.config.workdir.glob("subsets/*.beton"))


def test_unplanned_views_are_refused(betons: Any, tmp_path: Path, plug_in: Callable[..., None]) -> None:
    """A sweep counts steps before the set is made."""
    plug_in(lambda made, _: replace(made, hints={"tile_views": 4}))
    options: dict[str, Any] = {"ipc": 2, "image_size": 28, "workdir": tmp_path / "work"}
    with pytest.raises(MethodError, match="its hints set 4 views of an image in an epoch, its training_crop 1"):
        compress_beton("plugin", betons.train, tmp_path / "out.beton", **options)
    own = {"augment": "tile:1+views=4"}  # replaces the method's own hints
    assert compress_beton("plugin", betons.train, tmp_path / "out.beton", settings=own, **options).manifest.hints == {
        "tile_views": 4
    }


def test_crops_in_the_settings_replace_only_those_of_the_method(
    betons: Any, tmp_path: Path, plug_in: Callable[..., None]
) -> None:
    plug_in(lambda made, _: replace(made, hints={"tile_grid": 3, "tile_whole": 0.5, "palette": "grey"}))
    options: dict[str, Any] = {"ipc": 2, "image_size": 28, "workdir": tmp_path / "work"}
    settings = {"augment": "tile:2 + align=0.50"}
    made = compress_beton("plugin", betons.train, tmp_path / "out.beton", settings=settings, **options).manifest
    assert made.hints == {"tile_grid": 2, "tile_align": 0.5, "palette": "grey"}
