"""The training loop: K >= 1 trainings take their batches from one stream, or from several of equal length.

Each gives the result of a loop of its own, because it keeps its own random state. On a CPU they take turns; on a GPU
their steps run at the same time, see `lane`.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import chain
from typing import Any, Protocol, TypeVar

import torch

from fastdc.common.errors import DivergedError
from fastdc.loader import Batch, Loader
from fastdc.loader.batches import VisitDrawer
from fastdc.nn.fit import Fit
from fastdc.nn.lane import Lane, own_lane
from fastdc.nn.step_sizes import step_sizes
from fastdc.nn.visit_program import VisitProgram, Visits

T = TypeVar("T")
Turn = Callable[[Fit], AbstractContextManager[Any]]


class Epochs(Protocol):
    """Source of batches for K trainings, such as a `Loader` of K views."""

    def epoch_views(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, ...]]:
        """Yield the batches of `epoch` from batch `start` on, as tuples with one batch per training."""


class JoinedStreams:
    """Source that joins streams of different images or orders.

    Each tuple has the batches of the first stream's trainings, then those of the next. All batches are equally large.
    """

    def __init__(self, streams: Sequence[Epochs]) -> None:
        self.streams = streams

    def epoch_views(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, ...]]:
        """See `Epochs`."""
        epochs = [stream.epoch_views(epoch, start) for stream in self.streams]
        return (tuple(chain.from_iterable(batches)) for batches in zip(*epochs, strict=True))


def run_fit(fit: Fit, stream: Epochs) -> None:
    """Train one run to the end of its plan.

    Raises:
        DivergedError: a loss or gradient is NaN or infinite; the weights are those before that step.
        CheckpointError: its checkpoint cannot be used.
    """
    (fault,) = run_fits([fit], stream)
    if fault is not None:
        raise fault


def run_fits(fits: Sequence[Fit], stream: Epochs, overlap: bool = True) -> list[DivergedError | None]:
    """Train runs to the end of their plans on one stream of batches; run k takes the k-th batch of each tuple.

    A kill can leave the checkpoints at different places. The stream then starts at the earliest of them. A run that is
    further ahead skips batches until the stream reaches its place.

    Args:
        fits: each is run once.
        overlap: whether several runs compute at once on a GPU, see `fastdc.nn.overlap`; else they take turns.

    Returns:
        For each run None, or the error with which it diverged; a diverged run does not stop the others.

    Raises:
        CheckpointError: a checkpoint cannot be used.
    """
    if len(fits) != 1:
        with _own_lanes(fits) if overlap else nullcontext():
            return _run(fits, stream, Fit.running)
    # A single run keeps its clock and its random state to the end: changing them takes longer than a graph's launch.
    with fits[0].running():
        return _run(fits, stream, nullcontext)


@contextmanager
def _own_lanes(fits: Sequence[Fit]) -> Iterator[None]:
    """Give each run a lane for the block; whatever follows on the device waits for all of them, also after an error."""
    try:
        for fit in fits:
            fit.lane = own_lane(fit.compute.device)
        yield
    finally:
        for fit in fits:
            fit.lane.join()
            fit.lane = Lane(fit.compute.device)


def _run(fits: Sequence[Fit], stream: Epochs, turn: Turn) -> list[DivergedError | None]:
    """Train runs as `run_fits` does; `turn` gives the context in which one of them works."""
    faults: dict[Fit, DivergedError] = {}
    programs = _find_programs(fits, stream)
    for fit in fits:
        with turn(fit):
            fit.resume()
    while going := [fit for fit in fits if fit not in faults and not fit.finished]:
        first = min(fit.epoch for fit in going)
        with _shared_clock([fit for fit in going if fit.epoch == first]):
            _train_epoch(fits, going, stream, programs, faults, turn)
    for fit in fits:
        if fit not in faults:
            with turn(fit):
                fit.end()
    return [faults.get(fit) for fit in fits]


def _train_epoch(
    fits: Sequence[Fit],
    going: Sequence[Fit],
    stream: Epochs,
    programs: Sequence[VisitProgram],
    faults: dict[Fit, DivergedError],
    turn: Turn,
) -> None:
    """Train the earliest epoch that is left to any of the runs `going`."""
    places = {(fit.epoch, fit.batches_done) for fit in going}
    epoch, start = min(places)
    inputs: Iterator[tuple[Batch | Visits, ...]]
    if programs and len(places) == 1:  # a program's steps must not be skipped
        inputs = zip(*(program.epoch(epoch, start) for program in programs), strict=True)
    else:
        inputs = join_lone_sample(stream.epoch_views(epoch, start))

    def training() -> list[Fit]:
        return [fit for fit in going if fit not in faults and fit.epoch == epoch]

    for step, batches in enumerate(_timed(inputs, training) if len(fits) > 1 else inputs, start):
        for fit, batch in zip(fits, batches, strict=True):
            # Finished or diverged runs, and those ahead of the stream, skip this batch.
            if fit not in faults and (fit.epoch, fit.batches_done) == (epoch, step):
                _take(fit, batch, faults, turn)
        # An epoch's end waits for its run. The last steps of the others should run meanwhile.
        for fit in fits:
            if fit not in faults and fit.epoch_trained:
                _attempt(fit, fit.end_epoch, faults, turn)
        if faults.keys() >= set(going):
            break  # nothing is left to train in this epoch, so its other batches need not be made


def _find_programs(fits: Sequence[Fit], stream: Epochs) -> list[VisitProgram]:
    """Return a program for each run that makes its batches on the device; none if they are needed on the host."""
    streams = stream.streams if isinstance(stream, JoinedStreams) else [stream]
    sources = [(each, drawer) for each in streams if isinstance(each, Loader) for drawer in each.drawers]
    if any(fit.plan.targets is not None or fit.recorder.reads_batches for fit in fits) or len(sources) != len(fits):
        return []
    return [_program(fit.lane, *source) for fit, source in zip(fits, sources, strict=True)]


def _program(lane: Lane, stream: Loader, drawer: VisitDrawer) -> VisitProgram:
    with lane.work():  # its memory belongs to the stream that uses it
        return VisitProgram(stream, drawer, lane.work)


def _take(fit: Fit, batch: Batch | Visits, faults: dict[Fit, DivergedError], turn: Turn) -> None:
    if isinstance(batch, Batch):
        fit.lane.receive(batch)
    _attempt(fit, partial(fit.train_batch, batch), faults, turn)


def _attempt(fit: Fit, work: Callable[[], None], faults: dict[Fit, DivergedError], turn: Turn) -> None:
    try:
        with turn(fit):
            work()
    except DivergedError as error:
        faults[fit] = error.with_traceback(None)  # its frames would keep this step's tensors alive


@contextmanager
def _shared_clock(fits: Sequence[Fit]) -> Iterator[None]:
    """Divide the time of an epoch equally among the runs that train in it, if they overlap.

    A turn then only launches work, and the host waits for the work of all.
    """
    with ExitStack() as clocks:
        for fit in fits:
            if fit.lane.overlaps:
                clocks.enter_context(fit.timed(len(fits)))
        yield


def _timed(stream: Iterator[T], training: Callable[[], Sequence[Fit]]) -> Iterator[T]:
    """Pass a stream on, and divide the time spent waiting for it equally among the runs that take turns.

    Args:
        training: returns the runs that wait for the next batch.
    """
    if any(fit.lane.overlaps for fit in training()):
        yield from stream
        return
    while True:
        fits, start = training(), time.monotonic()
        batches = next(stream, None)
        waited = time.monotonic() - start
        for fit in fits:
            fit.seconds += waited / len(fits)
        if batches is None:
            return
        yield batches


def join_lone_sample(stream: Iterable[tuple[Batch, ...]]) -> Iterator[tuple[Batch, ...]]:
    """Merge a last batch of a single sample into the batch before it, and pass all others on unchanged.

    BatchNorm cannot normalise one sample on a 1 x 1 map, and dropping the sample would train on a smaller set. With a
    batch size of 1 every batch stays as it is.

    Args:
        stream: tuples of equally large batches, one per training.
    """
    waiting: tuple[Batch, ...] | None = None  # always one behind: only the end of the stream shows which is last
    for batches in stream:
        if waiting is not None and len(batches[0].labels) == 1 < len(waiting[0].labels):
            batches = tuple(map(_join, waiting, batches))
        elif waiting is not None:
            yield waiting
        waiting = batches
    if waiting is not None:
        yield waiting


def _join(first: Batch, second: Batch) -> Batch:
    return Batch(*(torch.cat(pair) for pair in zip(first, second, strict=True)))


def steps_per_epoch(loader: Loader) -> int:
    """Return the number of batches in an epoch after `join_lone_sample`."""
    return len(step_sizes(loader.num_samples, loader.batch_size))
