"""The recovery: optimise images until frozen networks recognise their class and training statistics in them.

It implements SRe2L (Yin, Xing, Shen, NeurIPS 2023) and, through its recipe and hooks, the methods that build on it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from fastdc.common.errors import DivergedError, MethodError, is_out_of_memory
from fastdc.common.keys import derive_seed
from fastdc.common.log import Progress, progress
from fastdc.nn.device import no_scale_left
from fastdc.recover.finished_batches import BatchStore, StartFile, batch_positions
from fastdc.recover.pixels import PixelBatch, join_groups, noise_start, to_levels
from fastdc.recover.recovery_job import BatchStart, RecoverJob
from fastdc.recover.recovery_recipe import Recipe
from fastdc.recover.shared_view import draw_view
from fastdc.recover.statistics_matching import Matching
from fastdc.teachers.network import Teacher, device_of

if TYPE_CHECKING:
    from fastdc.teachers.resources import Teaching

CHECK_EVERY = 100
"""Iterations between two checks of whether the loss is finite; each check waits for the device."""


@dataclass(frozen=True)
class Recovered:
    """A finished recovery.

    Attributes:
        images: yields all images at each call, RGB uint8 [S, S, 3], class-major.
        facts: means over the images, on the full frame and against the unmodified teachers: "loss_start", "loss_end"
            (cross entropy plus statistics loss) and "recognised", percent that the first teacher classifies correctly.
    """

    images: Callable[[], Iterator[NDArray[np.uint8]]]
    facts: dict[str, float]


def recover(job: RecoverJob, teaching: "Teaching") -> Recovered:
    """Run a recovery, reusing the batches that an earlier run finished.

    Raises:
        DivergedError: a loss is not finite; names method, batch, iteration.
        MethodError: a teacher does not accept images of this side; a batch does not fit into memory.
    """
    check_sides(job, teaching.teachers)
    recipe = job.recipe
    batches = batch_positions(job.layout, job.classes, job.ipc, recipe.batch_size)
    key = job.key([teacher.identity for teacher in teaching.teachers], teaching.compute.key)
    shape = (job.image_size, job.image_size, 3)
    store = BatchStore(teaching.scratch / f"recover_{key}", shape)
    start = StartFile(store.folder / "start.npy", (job.classes * job.ipc, *shape), job.start) if job.start else None
    total = len(batches) * recipe.iterations
    with progress(f"{job.method}: recover", total, "iterations") as bar:
        for number, positions in enumerate(batches):
            if store.finished(number, len(positions)):
                bar.skip(recipe.iterations)
                continue
            with _located_errors(job, f"batch {number + 1} of {len(batches)}"):
                run = BatchRun(job, teaching, number, positions, start)
                store.save(number, *run.run(bar))
    # Facts are read from the store, so that a resumed recovery averages over all of its batches.
    weights = np.array([len(positions) for positions in batches])
    facts = [store.facts(number) for number in range(len(batches))]
    means = {name: float(np.average([fact[name] for fact in facts], weights=weights)) for name in facts[0]}
    return Recovered(lambda: store.images(batches), means)


@torch.no_grad()
def check_sides(job: RecoverJob, teachers: Sequence[Teacher]) -> None:
    """Check that every teacher accepts images of the sides that the recovery works at.

    Raises:
        MethodError: a teacher does not (the message names it and both sides), or memory does not suffice for one image.
    """
    for side in sorted(set(job.recipe.stage_sides(job.image_size).values())):
        for teacher in teachers:
            try:  # a forward pass is the only general test of an architecture
                teacher.model(torch.zeros(1, 3, side, side, device=device_of(teacher.model)))
            except (AssertionError, RuntimeError) as error:
                if is_out_of_memory(error):
                    raise MethodError(
                        f"method {job.method}: not even one image of {side} px fits into memory with teacher "
                        f"{teacher.name}; free memory, or take a smaller teacher"
                    ) from error
                raise MethodError(
                    f"method {job.method}: teacher {teacher.name} ({teacher.arch}) takes no images of {side} px, "
                    f"it was trained at {teacher.image_size}; take that --image-size, or a teacher with global pooling"
                ) from error


@contextmanager
def _located_errors(job: RecoverJob, where: str) -> Iterator[None]:
    """Add the method and the batch to errors of a batch."""
    try:
        yield
    except DivergedError as error:
        raise DivergedError(f"method {job.method}: {where}: {error}; finished batches are kept") from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise MethodError(
            f"method {job.method}: {where} does not fit into memory with batch_size={job.recipe.batch_size}; "
            "lower batch_size; finished batches are kept"
        ) from error


class BatchRun:
    """One batch from its start to its last iterate.

    Args:
        job: the recovery.
        teaching: its teachers and the compute to run them on.
        number: of the batch; views depend on it.
        positions: of its images, int64 [B].
        start: the start images; None for noise.
    """

    def __init__(
        self, job: RecoverJob, teaching: "Teaching", number: int, positions: NDArray[np.int64], start: StartFile | None
    ) -> None:
        self.job, self.teaching, self.number = job, teaching, number
        self.compute = teaching.compute
        self.seed = derive_seed(job.seed, "recover views")
        self.labels = torch.from_numpy(job.labels[positions]).to(self.compute.device)
        self.start = self._first_images(positions, start)
        groups, self.recipe = joining(job.recipe, job.ipc, positions)
        self.pixels = PixelBatch(self.start, self.labels, groups, self.recipe)
        self.bad = torch.full((), -1, device=self.compute.device)

    def run(self, bar: Progress) -> tuple[NDArray[np.uint8], dict[str, float]]:
        """Optimise the batch.

        Returns:
            The images, uint8 [B, S, S, 3], and the values that `Recovered.facts` averages.

        Raises:
            DivergedError: the loss or the images became NaN or infinite.
        """
        teachers = [teacher.model for teacher in self.teaching.teachers]
        before, _ = self._full_frame(teachers, self.start)
        self._optimise(self._networks(teachers), bar)
        # `joining` may have shortened this batch.
        bar.skip(self.job.recipe.iterations - self.recipe.iterations)
        images = self.pixels.result()
        if not torch.isfinite(images).all():  # the last loss was finite, but its gradient was not
            raise DivergedError("the last iteration left images that are not finite; lower learning_rate, or use fp32")
        levels = to_levels(images)
        after, recognised = self._full_frame(teachers, self.compute.images(torch.from_numpy(levels)))
        return levels, {"loss_start": before, "loss_end": after, "recognised": recognised}

    def _first_images(self, positions: NDArray[np.int64], start: StartFile | None) -> torch.Tensor:
        if start is not None:
            return self.compute.images(torch.from_numpy(start.read(positions)))
        seed = derive_seed(self.job.seed, "recover start")
        return noise_start(positions.tolist(), self.job.image_size, seed).to(self.compute.device)

    def _networks(self, teachers: Sequence[nn.Module]) -> Sequence[nn.Module]:
        if self.job.networks is None:
            return teachers
        view = draw_view(self.recipe, self.seed, self.number, 0, self.start.shape[2])
        return self.job.networks(teachers, BatchStart(self.start, self.labels, view, self.compute))

    def _matching(self, stack: ExitStack, networks: Sequence[nn.Module], *, whole: bool = False) -> list[Matching]:
        """Return the statistics losses, with hooks attached until `stack` closes; moving averages start with the batch.

        Args:
            whole: whether every layer counts, even if the method leaves out some at random.
        """
        statistics = self.job.statistics or (None,) * len(networks)
        matchings = []
        for number, (network, known) in enumerate(zip(networks, statistics, strict=True)):
            seed = None if whole else derive_seed(self.job.seed, "left out", batch=self.number, network=number)
            matchings.append(stack.enter_context(Matching(network, self.job.matching, known, seed)))
        return matchings

    def _optimise(self, networks: Sequence[nn.Module], bar: Progress) -> None:
        scaler = self.compute.scaler()  # passes everything through unless the precision is fp16
        with ExitStack() as stack:
            matchings = self._matching(stack, networks)
            for iteration in range(self.recipe.iterations):
                turn = iteration % len(networks)  # several teachers take turns
                images = self.pixels.at(iteration)
                loss = self._loss(networks[turn], matchings[turn], images, iteration)
                self.pixels.optimizer.zero_grad(set_to_none=True)
                scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                scaler.step(self.pixels.optimizer)
                scaler.update()
                self.pixels.clamp()
                self._note(loss.detach(), iteration, scaler, bar)

    def _loss(self, network: nn.Module, matching: Matching, images: torch.Tensor, iteration: int) -> torch.Tensor:
        view = draw_view(self.recipe, self.seed, self.number, iteration, self.pixels.side)(images, self.pixels.side)
        labels = self.pixels.labels()
        logits = self.compute.logits(network, view.contiguous(memory_format=torch.channels_last))
        loss = functional.cross_entropy(logits, labels)
        loss = loss + self.recipe.matching_weight * matching.loss(labels)
        extra = None if self.job.extra_loss is None else self.job.extra_loss(view, labels)
        return loss if extra is None else loss + extra

    def _note(self, loss: torch.Tensor, iteration: int, scaler: torch.amp.GradScaler, bar: Progress) -> None:
        """Record the first loss that is not finite; read it, and the scale, from the device only now and then."""
        # Stays on the device: an `if` on the loss would wait for it in every iteration.
        first = (self.bad < 0) & ~torch.isfinite(loss)
        self.bad = torch.where(first, iteration, self.bad)
        last = iteration + 1 == self.recipe.iterations
        if last or iteration % CHECK_EVERY == 0:
            bad = int(self.bad)
            if bad >= 0:
                raise DivergedError(
                    f"the loss is not finite in iteration {bad + 1} of {self.recipe.iterations}; "
                    "lower learning_rate, or use precision fp32"
                )
            if no_scale_left(scaler):
                raise DivergedError(
                    f"the gradients are not finite at any scale up to iteration {iteration + 1} of "
                    f"{self.recipe.iterations}; lower learning_rate, or use precision fp32"
                )
            bar.note = f"batch {self.number + 1}, loss {float(loss):.3f}"
        bar.advance(1, bar.note)

    @torch.no_grad()
    def _full_frame(self, teachers: Sequence[nn.Module], images: torch.Tensor) -> tuple[float, float]:
        """Return the mean loss over the teachers, and the percentage of images that the first one recognises."""
        losses, right = [], []
        with ExitStack() as stack:
            for network, matching in zip(teachers, self._matching(stack, teachers, whole=True), strict=True):
                logits = self.compute.logits(network, images.contiguous(memory_format=torch.channels_last))
                matched = self.recipe.matching_weight * matching.loss(self.labels)
                losses.append(float(functional.cross_entropy(logits, self.labels) + matched))
                right.append(float((logits.argmax(1) == self.labels).float().mean()))
        mean = sum(losses) / len(losses)
        if not math.isfinite(mean):
            raise DivergedError("a teacher's loss on whole images is not finite; check its weights, or use fp32")
        return mean, 100 * right[0]


def joining(recipe: Recipe, ipc: int, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], Recipe]:
    """Return the group of every image of a batch, and the recipe of that batch.

    A batch without images of the first groups starts when its first group joins, and has fewer iterations accordingly.
    """
    groups = join_groups(ipc, positions, min(recipe.rounds, recipe.iterations))
    first = int(groups.min())
    left = replace(recipe, iterations=recipe.iterations - first * recipe.join_every, rounds=recipe.rounds - first)
    return groups - first, left
