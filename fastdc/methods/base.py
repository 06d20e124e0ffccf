"""What a method is: metadata, a typed config and one `compress` function. No torch, no files."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fastdc.beton.hints import PROTOCOL, TileCrop, tile_crop
from fastdc.errors import ConfigError, MethodError
from fastdc.methods.config import Fit as Fit
from fastdc.methods.config import MethodConfig as MethodConfig
from fastdc.methods.config import inferred_settings as inferred_settings
from fastdc.methods.config import plain_value
from fastdc.nn.teaching import Teaching
from fastdc.observe.needs import OBSERVED, ObserverNeeds
from fastdc.observe.needs import WHOLE_SCHEDULE as WHOLE_SCHEDULE  # methods return it
from fastdc.observe.record import Observation
from fastdc.settings import Settings, parse_settings

Family = Literal["reference", "pruning", "distillation", "combination"]
Need = Literal["dynamics", "features", "outputs", "tdds", "teacher", "bn_statistics"]
Keep = Literal["easy", "hard"]
Resize = Literal["antialias", "nearest"]
Encoding = Literal["jpg", "png"]
StoredImage = NDArray[np.uint8] | bytes
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]*")
STORED_QUALITY = 75
"""JPEG quality of stored images, 4:2:0, the same for every method so that accuracy per byte compares like with like."""

VARIANT_PATTERN = re.compile(r"(?P<name>[^\[\]]+)(?:\[(?P<settings>[^\[\]]*)\])?")


class MethodInfo(Settings):
    """What a method is called, where it comes from and what it needs.

    Attributes:
        name: registry name, lower case.
        title: the method's name as its paper prints it.
        family: which kind of compression it is; `reference` marks rows that compress nothing.
        paper: title of the paper.
        year: year of publication.
        bibtex: one BibTeX entry, or "" where there is nothing to cite.
        needs: what must be observed first; empty for methods that need only labels.
        class_balanced: whether every class keeps the same number of images.
        stochastic: whether the subset seed changes the subset.
        whole_set: whether the result is the training set itself, so that nothing is stored again.
        published: published top-1 in percent, keyed "imagenet1k/resnet18/hard/ipc10".
    """

    name: str
    title: str
    family: Family
    paper: str
    year: int
    bibtex: str
    needs: tuple[Need, ...] = ()
    class_balanced: bool = True
    stochastic: bool = False
    whole_set: bool = False
    published: dict[str, float] = Field(default_factory=dict)

    @property
    def observed(self) -> bool:
        """Whether the method reads an observer's record."""
        return any(need in OBSERVED for need in self.needs)


class Lists(Protocol):
    """Reads files that rank the training images; see `fastdc.list_scores`."""

    def images(self, path: Path) -> NDArray[np.int64]:
        """Return the training images that a list names, in its order, int64 [M]."""

    def scores(self, path: Path) -> NDArray[np.float64]:
        """Return the score of every training image, high = hard, float64 [N]."""


@dataclass(frozen=True)
class MethodContext:
    """What a method may look at.

    Attributes:
        labels: int64 [N], the class of every training image.
        classes: class names; `labels` index them.
        image_size: side S of the images that will be stored, in pixels.
        image: decodes training image i to RGB uint8 [H, W, 3].
        observations: one record per observer run; empty unless the method reads them.
        scores: the method's own scores, float64 [N], where they were computed already.
        teaching: networks to run, for a method whose `teachers` names some; else None.
        lists: reads files that rank the training images.
    """

    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    image_size: int
    image: Callable[[int], NDArray[np.uint8]]
    observations: tuple[Observation, ...] = ()
    scores: NDArray[np.float64] | None = None
    teaching: Teaching | None = None
    lists: Lists | None = None

    @property
    def counts(self) -> list[int]:
        """Training images of every class."""
        return [int(count) for count in np.bincount(self.labels, minlength=len(self.classes))]


class Mosaic(Settings):
    """How whole images were tiled into each stored one, which is all that a list needs to make them again.

    Attributes:
        grid: tiles per side; a stored image has grid**2 sources, tiles in row-major order.
        fit: how a source fills its tile.
        resize: how it is shrunk: with antialiasing, or by its nearest pixels.
        view: what of a source is shrunk. A number v: its shorter side is resized to round(v * S) first, antialiased,
            and the central S x S pixels are taken, as validation does with v = 256 / 224. None: the source itself.
        side: side of the mosaic in pixels; None takes the side S of every stored image.
        max_bytes: each mosaic is a JPEG of the highest quality that fits so many bytes; None stores it as every image
            is stored.
    """

    grid: int = Field(ge=1, le=8)
    fit: Fit
    resize: Resize = "antialias"
    view: float | None = Field(None, ge=1)
    side: int | None = Field(None, ge=8, le=32768)
    max_bytes: int | None = Field(None, ge=1)


@dataclass(frozen=True)
class Compressed:
    """A compressed set as plain data, before it is written.

    Attributes:
        labels: int64 [M], class of every stored image.
        sources: int64 [M, K], the training images that each stored image is made of, or optimised from (K = 1 for
            pruning, 0 for images that start as noise).
        images: makes the stored images anew at each call, in order, as RGB uint8 [S, S, 3] or as JPEG files of S x S
            pixels (S is `mosaic.side` where given); None keeps the source images (K = 1), fitted to S x S when stored.
        hints: what training must know about the images, for example {"tile_grid": 2}.
        details: facts for the manifest (score range, high = hard, ...), JSON-able.
        encoding: how the images are stored: `jpg` (q75 4:2:0), or `png` where the method's paper does so. A beton has
            no PNG: such images lie in it as raw pixels, and count with the bytes of their PNG.
        mosaic: how the sources were tiled, where the stored images are mosaics of whole images and nothing else.
    """

    labels: NDArray[np.int64]
    sources: NDArray[np.int64]
    images: Callable[[], Iterator[StoredImage]] | None = None
    hints: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    encoding: Encoding = "jpg"
    mosaic: Mosaic | None = None


class Method(ABC):
    """One compression method; a subclass is one file in `fastdc/methods` or a plug-in.

    `version` enters every cache key: raise it whenever the same settings give another subset.
    """

    info: ClassVar[MethodInfo]
    config_class: ClassVar[type[MethodConfig]] = MethodConfig
    version: ClassVar[int] = 1

    def configure(self, settings: Mapping[str, Any]) -> MethodConfig:
        """Typed settings from plain values.

        Raises:
            ConfigError: unknown setting (with the closest valid one) or a value out of range.
        """
        config = self.config_class.make(settings, f"method {self.info.name}")
        if self.info.whole_set and config.augment is not None:
            raise ConfigError(
                f"method {self.info.name}: augment={config.augment} is stored with a set, and the whole set is none; "
                f"give it to every set with --augment {config.augment}"
            )
        return config

    def training_crop(self, config: MethodConfig) -> TileCrop:
        """Return the crops that training takes of the stored images, known before they are made.

        A method whose sets carry hints of their own, the number of views above all, returns the same here.
        """
        return tile_crop(config.augment or PROTOCOL, {})

    def images_needed(self, config: MethodConfig, ipc: int) -> int:
        """Source images per class that `ipc` takes; the sweep checks it before any work."""
        return ipc

    def class_balanced(self, config: MethodConfig) -> bool:
        """Whether every class must have `images_needed` images, or only the set as a whole."""
        return self.info.class_balanced

    def observed(self, config: MethodConfig) -> bool:
        """Return whether the method reads an observer's record under these settings."""
        return self.info.observed

    def stochastic(self, config: MethodConfig) -> bool:
        """Return whether the subset seed changes the subset under these settings."""
        return self.info.stochastic

    def observer_epochs(self, config: MethodConfig) -> int:
        """Last observer epoch (counted from 1) that the method reads, or `WHOLE_SCHEDULE`; 0 when it needs none.

        A method that reads the final pass alone needs the whole schedule, because that is where the pass is made.
        """
        return WHOLE_SCHEDULE if {"features", "outputs"} & set(self.info.needs) else 0

    def teachers(self, config: MethodConfig) -> tuple[str, ...]:
        """The networks that the method runs, as `fastdc.observe.teacher` names them; none by default."""
        return ()

    def reductions(self, config: MethodConfig, image_size: int) -> tuple[str, ...]:
        """In words, how the settings fall short of the paper's ("100 iterations instead of 4000"); shown with rows.

        Args:
            image_size: side of the stored images in pixels, on which presets depend.
        """
        return ()

    def inferred(self, config: MethodConfig, image_size: int) -> tuple[str, ...]:
        """Name the settings whose value is our inference, not published; shown with rows.

        Args:
            image_size: side of the stored images in pixels, on which presets depend.
        """
        default = type(config)()
        return tuple(n for n in inferred_settings(type(config)) if getattr(config, n) == getattr(default, n))

    def network_visits(
        self, config: MethodConfig, images: int, train_images: int, image_size: int, classes: int
    ) -> float:
        """Images that go forward and backward through a teacher while a set is made; for the estimate of a dry run.

        An image that goes forward only counts as a third.

        Args:
            images: stored images of the set. train_images: images of the training set. classes: of both.
            image_size: side of the stored images in pixels.
        """
        return 0.0

    def shortest_log(self, config: MethodConfig) -> int:
        """Epochs below which the method cannot score at all, for example those of one window."""
        return 0

    def observer_needs(self, config: MethodConfig) -> ObserverNeeds:
        """The parts of an observer's record that the method reads."""
        needs, epochs = self.info.needs, self.observer_epochs(config)
        return ObserverNeeds(
            epochs=epochs if "dynamics" in needs else 0,
            final="features" in needs or "outputs" in needs,
            outputs="outputs" in needs,
            tdds=epochs if "tdds" in needs else 0,
        )

    def scores(self, context: MethodContext, config: MethodConfig) -> NDArray[np.float64] | None:
        """What the method ranks the training images by, float64 [N], high = hard; None where it has no ranking.

        Asked for before `compress`, which finds it in `context.scores`, so that a list can name each image's score and
        the ledger can tell scoring from choosing.
        """
        return None

    @abstractmethod
    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        """Choose or make the stored images.

        Raises:
            MethodError: a class has fewer images than `images_needed`, or the scores are unusable.
        """


def budget_problem(
    method: Method, config: MethodConfig, classes: Sequence[str], counts: Sequence[int], ipc: int
) -> str | None:
    """Why a training set cannot serve `ipc` images per class, or None.

    Args:
        classes, counts: names and sizes of the training set's classes.
    """
    needed = method.images_needed(config, ipc)
    if not method.class_balanced(config):
        asked = needed * len(classes)
        return f"ipc={ipc} needs {asked} images, the set has {sum(counts)}" if sum(counts) < asked else None
    smallest = min(range(len(counts)), key=lambda label: counts[label])
    if counts[smallest] >= needed:
        return None
    return f"ipc={ipc} needs {needed} images of every class, class '{classes[smallest]}' has {counts[smallest]}"


def check_budget(method: Method, config: MethodConfig, classes: Sequence[str], counts: Sequence[int], ipc: int) -> None:
    """Refuse a budget that the training set cannot serve.

    Raises:
        MethodError: names the class, its size and the number needed.
    """
    problem = budget_problem(method, config, classes, counts, ipc)
    if problem is not None:
        raise MethodError(f"method {method.info.name}: {problem}; lower --ipc or add images")


def parse_variant(text: str) -> tuple[str, dict[str, Any]]:
    """`"el2n[keep=hard]"` -> `("el2n", {"keep": "hard"})`.

    Raises:
        ConfigError: the text is not of the form name or name[key=value,...].
    """
    match = VARIANT_PATTERN.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"method '{text}': expected name or name[key=value,key=value]")
    inside = match["settings"]
    return match["name"].strip(), parse_settings(inside.split(",")) if inside else {}


def variant_name(name: str, settings: Mapping[str, Any]) -> str:
    """The display name of a method under `settings`, keys sorted: `el2n[keep=hard]`, or just `el2n`."""
    if not settings:
        return name
    return f"{name}[{','.join(f'{key}={plain_value(settings[key])}' for key in sorted(settings))}]"
