"""Base of SRe2L's family: the methods that optimise images against frozen teachers. Imports no torch.

Each method of the family is a file of its own that declares its differences from SRe2L. These are its `presets` (the
numbers of its paper per stored size), its `layout`, and the hooks below that it needs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import TypeVar

from fastdc.methods.bases.method import Compressed, Encoding, MethodContext
from fastdc.methods.bases.recovery_starts import Start
from fastdc.methods.bases.teacher_losses import teaching_of
from fastdc.methods.bases.teacher_methods import TeacherConfig, TeacherMethod
from fastdc.recover.recovery_recipe import (
    Layout,
    MatchingSpec,
    Paper,
    Presets,
    Recipe,
    RecipeT,
    StatisticsSpec,
    paper_at,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fastdc.recover.recovery_job import BatchStart, RecoverJob

Preset = Literal["auto", "paper224", "paper64", "paper32", "cpu"]
SHARED = ("iterations", "learning_rate", "matching_weight", "crop_min", "jitter", "batch_size")
"""Settings of the family that every script sets."""
CONVOLUTIONS_FACTOR = 4.0
"""Estimated cost of matching every convolution, relative to matching BatchNorms alone.

FADRM's table gives 17.28 s an image on a 4090, against SRe2L's 2.52 s with BatchNorms alone. The four networks explain
the rest of the difference.
"""
CPU_ITERATIONS = 100
"""Iterations of the preset `cpu`: enough for a teacher of small images to recognise nearly all of them."""


class RecoverConfig(TeacherConfig):
    """Settings of every method of the family. A setting that is not given takes its preset's value.

    Attributes:
        fit: how a start image becomes S x S; not available where a method starts from noise or patches.
        preset: source of the numbers: the paper's at 224, 64 or 32 px. `auto` chooses by the stored size (from 128 px,
            33 to 127 px, up to 32 px). `cpu` is `auto` with 100 iterations, for tests and demos at about 28 px. (At
            64 px, SRe2L's images need some 300 iterations until their teacher recognises all of them.)
        iterations: optimiser steps of every image.
        learning_rate: Adam's learning rate at the first step.
        matching_weight: weight of the statistics loss beside the cross entropy.
        variance_weight: weight of the variances inside the statistics loss; the means have weight 1.
        crop_min: smallest area of the shared crop, as a share of the image's area. It replaces a preset's margin.
        jitter: largest roll of the view, in pixels.
        batch_size: images that are optimised together. A smaller batch needs less memory, but also changes the images,
            because a batch shares statistics.
    """

    reads_fit: ClassVar[bool] = False
    """Whether the method starts from whole images, which `fit` makes square; without them `fit` is refused."""

    preset: Preset = "auto"
    iterations: int | None = Field(None, ge=1)
    learning_rate: float | None = Field(None, gt=0)
    matching_weight: float | None = Field(None, ge=0)
    variance_weight: float | None = Field(None, ge=0)
    crop_min: float | None = Field(None, gt=0, le=1)
    jitter: int | None = Field(None, ge=0)
    batch_size: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _fit_is_read(self) -> Self:
        self.refuse_unread({} if self.reads_fit else {"fit": "without whole images as starts"})
        return self


RecoverT = TypeVar("RecoverT", bound=RecoverConfig, default=RecoverConfig)


class RecoverMethod(TeacherMethod[RecoverT], Generic[RecoverT, RecipeT]):
    """Base of the family's methods: a recipe, and the hooks by which a method departs from SRe2L.

    Attributes:
        presets: the paper's numbers per stored size.
        layout: which images share a batch; see `fastdc.recover.finished_batches.batch_positions`.
        encoding: format in which the paper stores its images.
        paper_teachers: number of networks that the scripts recover from, by preset; 1 for presets not listed.
        reducible: numbers of the recipe that count as reduced below the paper's value, with their names in words.
        batch_norm: whether a teacher without BatchNorm is refused. Methods that also match convolutions accept it.
    """

    quick_settings = MappingProxyType({"iterations": 4})
    presets: Presets[RecipeT]
    layout: ClassVar[Layout] = "across"
    encoding: ClassVar[Encoding] = "jpg"
    paper_teachers: ClassVar[Mapping[Paper, int]] = MappingProxyType({})
    reducible: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"iterations": "iterations", "batch_size": "images a batch"}
    )
    batch_norm: ClassVar[bool] = True

    # ---- hooks -----------------------------------------------------------------------------------------------------

    def start(self, context: MethodContext, config: RecoverT, ipc: int, seed: int) -> Start | None:
        """Return the images to start from, or None for N(0, 1) noise."""
        return None

    def matching(self, recipe: RecipeT) -> MatchingSpec:
        """Return the statistics loss; by default it matches the teacher's running statistics."""
        return MatchingSpec(variance_weight=recipe.variance_weight)

    def statistics(self, config: RecoverT, recipe: RecipeT, image_size: int) -> StatisticsSpec | None:
        """Return what `matching` needs beside the running statistics; it is measured on the training set.

        None by default.
        """
        return None

    def networks(self, teachers: "Sequence[nn.Module]", batch: "BatchStart", recipe: RecipeT) -> "Sequence[nn.Module]":
        """Return the networks against which a batch is optimised; the teachers themselves by default."""
        return teachers

    def extra_loss(self, images: "Tensor", labels: "Tensor", recipe: RecipeT) -> "Tensor | None":
        """Return a further loss term of the view [B, 3, S, S] and its labels [B], or None."""
        return None

    # ---- the method, built from the hooks --------------------------------------------------------------------------

    def images_needed(self, config: RecoverT, ipc: int, image_size: int) -> int:
        """Return 0, because images start as noise by default; a method with a real start overrides this."""
        return 0

    def network_visits(self, config: RecoverT, images: int, train_images: int, image_size: int, classes: int) -> float:
        """Count every image once per iteration, the statistics' pass over the training set, and the start."""
        recipe, teachers = self.recipe(config, image_size), len(self.teachers(config))
        iterations = recipe.iterations * (CONVOLUTIONS_FACTOR if self.matching(recipe).convolutions else 1)
        measured = 0 if self.statistics(config, recipe, image_size) is None else teachers * train_images / 3
        start = self.start_visits(config, images, train_images, image_size, classes)
        return float(iterations * images + measured + start)

    def start_visits(self, config: RecoverT, images: int, train_images: int, image_size: int, classes: int) -> float:
        """Estimate the visits of teachers that choosing the start takes; see `network_visits`. None by default."""
        return 0.0

    def recipe(self, config: RecoverT, image_size: int) -> RecipeT:
        """Return the preset's numbers, overridden by the settings that are given.

        Args:
            image_size: side of the stored images in pixels, on which presets depend.
        """
        recipe = self.preset(config, image_size)
        # A setting overrides the recipe's field of the same name.
        names = {field.name for field in fields(recipe)} & set(type(config).model_fields)
        given = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
        # Crops and a margin are alternative views of the image, so an explicit crop switches a preset's margin off.
        return replace(recipe, **given | ({"margin": 0} if "crop_min" in given else {}))

    def presets_for(self, config: RecoverT) -> Presets[RecipeT]:
        """Return the presets under these settings; a method overrides this if they depend on the settings."""
        return self.presets

    def preset(self, config: RecoverT, image_size: int) -> RecipeT:
        """Return the numbers of the preset that the settings name."""
        recipe = self.presets_for(config).named(_paper(config, image_size))
        return replace(recipe, iterations=CPU_ITERATIONS) if config.preset == "cpu" else recipe

    def inferred(self, config: RecoverT, image_size: int) -> tuple[str, ...]:
        """Return inferred settings, with the preset's numbers that neither a public script nor the settings give."""
        names = self.presets_for(config).inferred.get(_paper(config, image_size), ())
        return super().inferred(config, image_size) + tuple(name for name in names if getattr(config, name) is None)

    def reductions(self, config: RecoverT, image_size: int) -> tuple[str, ...]:
        """Describe the `reducible` numbers, and the number of teachers, that are below the paper's at this size."""
        recipe, paper = self.recipe(config, image_size), self.presets_for(config).at(image_size)
        pairs = [(getattr(recipe, name), getattr(paper, name), words) for name, words in self.reducible.items()]
        pairs.append((len(self.teachers(config)), self.paper_teachers.get(paper_at(image_size), 1), "teachers"))
        return tuple(f"{found:,} instead of {expected:,} {what}" for found, expected, what in pairs if found < expected)

    def job(self, context: MethodContext, config: RecoverT, ipc: int, seed: int, start: Start | None) -> "RecoverJob":
        """Return the recovery as a job for the engine."""
        from fastdc.recover.measure_statistics import teacher_statistics
        from fastdc.recover.recovery_job import RecoverJob

        recipe = self.recipe(config, context.image_size)
        spec, teaching = self.statistics(config, recipe, context.image_size), teaching_of(context, self.info.name)
        return RecoverJob(
            method=self.info.name,
            classes=len(context.classes),
            ipc=ipc,
            image_size=context.image_size,
            seed=seed,
            recipe=recipe,
            layout=self.layout,
            matching=self.matching(recipe),
            settings=config.model_dump(mode="json"),
            statistics=() if spec is None else teacher_statistics(teaching, len(context.classes), spec),
            start=None if start is None else start.images,
            networks=lambda teachers, batch: self.networks(teachers, batch, recipe),
            extra_loss=lambda images, labels: self.extra_loss(images, labels, recipe),
        )

    def compress(self, context: MethodContext, config: RecoverT, ipc: int, seed: int) -> Compressed:
        """Recover `ipc` images of every class.

        Raises:
            MethodError: a teacher has no BatchNorm; a batch does not fit into memory.
            DivergedError: a loss is not finite.
        """
        from fastdc.recover.engine import recover
        from fastdc.teachers.network import require_batch_norm

        teaching = teaching_of(context, self.info.name)
        for teacher in teaching.teachers if self.batch_norm else ():
            require_batch_norm(teacher)
        start = self.start(context, config, ipc, seed)
        job = self.job(context, config, ipc, seed, start)
        recovered = recover(job, teaching)
        return Compressed(
            labels=job.labels,
            sources=np.empty((len(job.labels), 0), np.int64) if start is None else start.sources,
            images=recovered.images,
            details=self._details(job.recipe, recovered.facts, self.inferred(config, context.image_size)),
            encoding=self.encoding,
        )

    def _details(self, recipe: Recipe, facts: Mapping[str, float], inferred: Sequence[str]) -> dict[str, Any]:
        # Lists instead of tuples, as JSON reads them back.
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(recipe).items()}
        marked = {"inferred": {name: plain[name] for name in inferred}} if inferred else {}
        return {"recipe": plain, "layout": self.layout, **marked, **facts}


def _paper(config: RecoverConfig, image_size: int) -> Paper:
    return paper_at(image_size) if config.preset == "auto" or config.preset == "cpu" else config.preset
