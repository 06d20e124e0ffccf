"""The interface of a method: metadata, a typed config and one `compress` function.

Imports no torch and opens no files.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Literal, Protocol, cast, get_args, get_origin

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import TypeVar

from fastdc.beton.hints import PROTOCOL, TileCrop, tile_crop
from fastdc.common.errors import ConfigError, MethodError
from fastdc.common.settings import Settings
from fastdc.methods.bases.method_config import Fit, MethodConfig, Resize, inferred_settings
from fastdc.methods.bases.method_info import MethodInfo, Need
from fastdc.observe.dynamics_log import Observation
from fastdc.observe.record_needs import OBSERVED, WHOLE_SCHEDULE, ObserverNeeds
from fastdc.teachers.resources import Teaching

Encoding = Literal["jpg", "png"]
StoredImage = NDArray[np.uint8] | bytes
ConfigT = TypeVar("ConfigT", bound=MethodConfig, default=MethodConfig)
"""Settings of a method."""


class Lists(Protocol):
    """Reader of files that rank the training images; see `fastdc.subsets.list_scores`."""

    def images(self, path: Path) -> NDArray[np.int64]:
        """Return the training images that a list names, in its order, int64 [M]."""

    def scores(self, path: Path, column: str | None = None) -> NDArray[np.float64]:
        """Return the score of every training image, high = hard, float64 [N]; by default the file's only score."""


@dataclass(frozen=True)
class MethodContext:
    """Inputs of a method.

    Attributes:
        labels: int64 [N], the class of every training image.
        classes: class names; `labels` index them.
        image_size: side S of the stored images, in pixels.
        image: decodes training image i to RGB uint8 [H, W, 3].
        observations: one record per observer run; empty unless the method reads them.
        scores: the method's own scores, float64 [N], if they are already computed; else None.
        teaching: networks to run, for a method whose `teachers` names some; else None.
        lists: reader of files that rank the training images.
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
        """Return the number of training images of every class."""
        return [int(count) for count in np.bincount(self.labels, minlength=len(self.classes))]


class Mosaic(Settings):
    """Layout by which whole images are tiled into each stored image.

    With this layout and a list of sources, the stored images can be made again.

    Attributes:
        grid: tiles per side. A stored image has grid**2 sources, in row-major order.
        fit: how a source fills its tile.
        resize: how a source is shrunk: with antialiasing, or by nearest pixels.
        view: part of a source that is shrunk. None takes the whole source. With a number v, the shorter side is first
            resized to round(v * S) with antialiasing. Then the central S x S pixels are cut, as in validation, where
            v = 256 / 224.
        side: side of the mosaic in pixels; None takes the side S of every stored image.
        max_bytes: largest size of a mosaic. Each is a JPEG of the highest quality that fits. None stores mosaics like
            any other image.
    """

    grid: int = Field(ge=1, le=8)
    fit: Fit
    resize: Resize = "antialias"
    view: float | None = Field(None, ge=1)
    side: int | None = Field(None, ge=8, le=32768)
    max_bytes: int | None = Field(None, ge=1)


@dataclass(frozen=True)
class Compressed:
    """Compressed set as plain data, before it is written.

    Attributes:
        labels: int64 [M], class of every stored image.
        sources: int64 [M, K], the training images that each stored image is made of, or optimised from. K is 1 for
            pruning and 0 for images that start as noise.
        images: function that makes the stored images anew at each call, in order. They are RGB uint8 [S, S, 3] or JPEG
            files of S x S pixels; S is `mosaic.side` if given. None keeps the source images (K = 1), which are fitted
            to S x S when stored.
        hints: rules for training on the images, for example {"tile_grid": 2}.
        details: facts for the manifest, such as the score range (high = hard); JSON-serialisable.
        encoding: format of the stored images: `jpg` (q75 4:2:0), or `png` where the method's paper uses it. A beton
            cannot hold PNG, so such images are raw pixels in it. Their size is counted as that of the PNG.
        mosaic: layout of the sources, if the stored images are mosaics of whole images and nothing else.
    """

    labels: NDArray[np.int64]
    sources: NDArray[np.int64]
    images: Callable[[], Iterator[StoredImage]] | None = None
    hints: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    encoding: Encoding = "jpg"
    mosaic: Mosaic | None = None


class Method(ABC, Generic[ConfigT]):
    """Base class of compression methods; each subclass is one file in `fastdc/methods`, or a plug-in.

    `class Mine(Method[MineConfig])` names the class of the settings; a plain `Method` has those of `MethodConfig`.
    `version` enters every cache key. Raise it whenever the same settings would give a different subset.
    `quick_settings` are those under which `fastdc check` runs a method whose defaults take longer than a minute.
    """

    info: ClassVar[MethodInfo]
    config_class: ClassVar[type[MethodConfig]] = MethodConfig
    version: ClassVar[int] = 1
    quick_settings: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def __init_subclass__(cls) -> None:
        """Take `config_class` from the first argument of the generic base, unless the class sets it itself."""
        super().__init_subclass__()
        for base in vars(cls).get("__orig_bases__", ()) if "config_class" not in vars(cls) else ():
            if issubclass(get_origin(base) or object, Method):
                argument = get_args(base)[0]
                # A type variable, as in a base class for several methods, stands for the class that it is bound to.
                cls.config_class = getattr(argument, "__bound__", argument)

    def configure(self, settings: Mapping[str, Any]) -> ConfigT:
        """Return typed settings from plain values.

        Raises:
            ConfigError: a setting is unknown (the message suggests the closest one), a value is out of range, or
                `augment` is given for the whole set.
        """
        config = cast("ConfigT", self.config_class.make(settings, f"method {self.info.name}"))
        if self.info.whole_set and config.augment is not None:
            raise ConfigError(
                f"method {self.info.name}: augment={config.augment} is stored with a set, and the whole set is none; "
                f"give it to every set with --augment {config.augment}"
            )
        return config

    def training_crop(self, config: ConfigT) -> TileCrop:
        """Return the crops that training takes of the stored images, before the images exist.

        A method whose sets carry their own hints must return the same rule here; of a grid that is chosen with the
        set, the smallest. `check_compressed` compares the number of views, on which a plan depends.
        """
        return tile_crop(config.augment or PROTOCOL, {})

    def images_needed(self, config: ConfigT, ipc: int, image_size: int) -> int:
        """Return the number of source images per class that `ipc` takes; a sweep checks it before any work.

        Args:
            image_size: side of the stored images in pixels, on which the number of tiles may depend.
        """
        return ipc

    def class_balanced(self, config: ConfigT) -> bool:
        """Return whether every class must have `images_needed` images, or only the set as a whole."""
        return self.info.class_balanced

    def observed(self, config: ConfigT) -> bool:
        """Return whether the method reads an observer's record under these settings."""
        return self.info.observed

    def needs_of(self, config: ConfigT) -> tuple[Need, ...]:
        """Return the inputs that must exist before the method runs under these settings."""
        observed = self.observed(config)
        return tuple(need for need in self.info.needs if observed or need not in OBSERVED)

    def stochastic(self, config: ConfigT) -> bool:
        """Return whether the subset seed changes the subset under these settings."""
        return self.info.stochastic

    def observer_epochs(self, config: ConfigT) -> int:
        """Return the last observer epoch that the method reads, counted from 1; 0 if it reads none.

        `WHOLE_SCHEDULE` stands for all epochs. A method that reads only the final pass also returns it, because the
        pass follows the last epoch.
        """
        return WHOLE_SCHEDULE if {"features", "outputs"} & set(self.info.needs) else 0

    def teachers(self, config: ConfigT) -> tuple[str, ...]:
        """Return the networks that the method runs, as `fastdc.teachers.names` names them; none by default."""
        return ()

    def reductions(self, config: ConfigT, image_size: int) -> tuple[str, ...]:
        """Describe where the settings fall short of the paper's ("100 iterations instead of 4000"); shown with rows.

        Args:
            image_size: side of the stored images in pixels, on which presets depend.
        """
        return ()

    def inferred(self, config: ConfigT, image_size: int) -> tuple[str, ...]:
        """Return the names of settings whose value is inferred, not published; shown with rows.

        Args:
            image_size: side of the stored images in pixels, on which presets depend.
        """
        # A value that differs from the default is the user's choice, not an inference.
        default = type(config)()
        return tuple(n for n in inferred_settings(type(config)) if getattr(config, n) == getattr(default, n))

    def network_visits(self, config: ConfigT, images: int, train_images: int, image_size: int, classes: int) -> float:
        """Estimate the forward and backward passes of images through teachers, for a dry run.

        An image that only goes forward counts as a third.

        Args:
            images: number of stored images in the set.
            train_images: number of images in the training set.
            image_size: side of the stored images in pixels.
            classes: number of classes, the same in both sets.
        """
        return 0.0

    def shortest_log(self, config: ConfigT) -> int:
        """Return the fewest epochs from which the method can score, for example those of one window."""
        return 0

    def observer_needs(self, config: ConfigT) -> ObserverNeeds:
        """Return the parts of an observer's record that the method reads."""
        needs, epochs = self.info.needs, self.observer_epochs(config)
        return ObserverNeeds(
            epochs=epochs if "dynamics" in needs else 0,
            final="features" in needs or "outputs" in needs,
            outputs="outputs" in needs,
            tdds=epochs if "tdds" in needs else 0,  # counted in epochs, although a step lies between two
        )

    def scores(self, context: MethodContext, config: ConfigT) -> NDArray[np.float64] | None:
        """Return the score that ranks the training images, float64 [N], high = hard; None if there is no ranking.

        `fastdc.subsets` calls this before the method's `compress`, which finds the result in `context.scores`. Lists
        can then name each image's score, and the ledger can time scoring and choosing apart.
        """
        return None

    @abstractmethod
    def compress(self, context: MethodContext, config: ConfigT, ipc: int, seed: int) -> Compressed:
        """Choose or make the stored images.

        Raises:
            MethodError: a class has fewer images than `images_needed`, or the scores are unusable.
        """


def budget_problem(
    method: Method[ConfigT], config: ConfigT, classes: Sequence[str], counts: Sequence[int], ipc: int, image_size: int
) -> str | None:
    """Return the reason why a training set cannot serve `ipc` images per class, or None if it can.

    Args:
        classes: names of the training set's classes.
        counts: number of training images of each class.
        image_size: side of the stored images in pixels.
    """
    # Plug-ins made for fastdc 0.3 or before take no side.
    sided = len(signature(method.images_needed).parameters) > 2
    arguments: tuple[Any, ...] = (config, ipc, image_size) if sided else (config, ipc)
    needed = method.images_needed(*arguments)
    return shortage(classes, counts, ipc, needed, method.class_balanced(config))


def shortage(classes: Sequence[str], counts: Sequence[int], ipc: int, needed: int, balanced: bool) -> str | None:
    """Return the reason why classes have too few images for a budget, or None if they have enough.

    Args:
        classes, counts, ipc: see `budget_problem`.
        needed: source images per class that `ipc` takes.
        balanced: whether every class must have them, or only the set as a whole.
    """
    if not balanced:
        total = needed * len(classes)
        return f"ipc={ipc} needs {total} images, the set has {sum(counts)}" if sum(counts) < total else None
    smallest = min(range(len(counts)), key=lambda label: counts[label])
    if counts[smallest] >= needed:
        return None
    return f"ipc={ipc} needs {needed} images of every class, class '{classes[smallest]}' has {counts[smallest]}"


def check_budget(
    method: Method[ConfigT], config: ConfigT, classes: Sequence[str], counts: Sequence[int], ipc: int, image_size: int
) -> None:
    """Refuse a budget that the training set cannot serve; see `budget_problem`.

    Raises:
        MethodError: a class, or the set as a whole, has fewer images than needed.
    """
    problem = budget_problem(method, config, classes, counts, ipc, image_size)
    if problem is not None:
        raise MethodError(f"method {method.info.name}: {problem}; lower --ipc or add images")
