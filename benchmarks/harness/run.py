"""Run a race: try worker counts, warm up, then repeat in turn: A B C A B C ..."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness.process import ContenderError, ContenderProcess
from harness.race import Contender, Race

TRIAL_SHARE = 0.25
_TRIALS: dict[str, tuple[int, dict[int, float], str]] = {}
"""Trials of this process by name: best number of workers, figures, race."""
PAUSE_SECONDS = 0.1  # by then the last contender's spinning threads have gone to sleep


@dataclass
class Record:
    """Record of one contender in a race.

    Attributes:
        contender: its description. workers: number of workers it ran with.
        trials: figure by number of workers, if several were tried; tried_in: race and unit of the trial.
        values: figure of each timed repetition. repetitions: the complete answers, in the same order.
        first_seconds: time of opening and the warm-up repetition, compilation included; also imports, if no trial
            preceded it.
        peak_bytes: largest memory during the warm-up repetition.
        checked: facts of its check. failure: why it failed, or "".
    """

    contender: Contender
    workers: int
    trials: dict[int, float] = field(default_factory=dict)
    tried_in: str = ""
    values: list[float] = field(default_factory=list)
    repetitions: list[dict[str, Any]] = field(default_factory=list)
    first_seconds: float = 0.0
    peak_bytes: int = 0
    checked: dict[str, Any] = field(default_factory=dict)
    failure: str = ""


def run_race(race: Race, repetitions: int, say: Callable[[str], None] = print) -> list[Record]:
    """Run all contenders of `race`; return our record first, then those of the peers in their order.

    If a contender fails or hangs, its record names the failure, and the others continue.
    """
    contenders = [race.ours, *(peer.contender for peer in race.peers)]
    records = [Record(contender, contender.workers[0]) for contender in contenders]
    with _processes(contenders) as processes:
        sides = list(zip(records, processes, strict=True))
        for record, process in sides:
            _attempt(record, partial(_warm_up, race, record, process))
            say(f"    {record.contender.name}: {_first_words(record)}")
        for _ in range(repetitions):
            for record, process in sides:
                _attempt(record, partial(_repeat, race, record, process))
        for record, process in sides:
            _attempt(record, partial(_check, record, process))
    return records


@contextmanager
def _processes(contenders: list[Contender]) -> Iterator[list[ContenderProcess]]:
    processes: list[ContenderProcess] = []
    try:
        for contender in contenders:
            processes.append(ContenderProcess(contender))
        yield processes
    finally:
        for process in processes:
            process.close()


def _attempt(record: Record, step: Callable[[], None]) -> None:
    """Run a step of a contender, unless it has failed before; record a new failure."""
    if record.failure:
        return
    try:
        step()
    except ContenderError as error:
        record.failure = str(error)


def _warm_up(race: Race, record: Record, process: ContenderProcess) -> None:
    if len(record.contender.workers) > 1:
        _choose_workers(race, record, process)
    start = time.perf_counter()
    process.prepare(record.workers)
    process.repeat(sample_memory=True)
    record.first_seconds = time.perf_counter() - start
    record.peak_bytes = process.peak_bytes


def _choose_workers(race: Race, record: Record, process: ContenderProcess) -> None:
    """Choose the best number of workers from an earlier trial of that name or from a new one."""
    name = record.contender.trial
    if name not in _TRIALS or not name:  # contenders without a name share no trial
        figures = _try_workers(race, process, record.contender.workers)
        best = max(figures, key=lambda count: race.ratio(figures[count], 1.0))
        _TRIALS[name] = best, figures, f"{race.work}, {race.unit}"
    record.workers, record.trials, record.tried_in = _TRIALS[name]


def _try_workers(race: Race, process: ContenderProcess, counts: tuple[int, ...]) -> dict[int, float]:
    """Return the figure by number of workers; counts with which the contender fails are left out.

    Raises:
        ContenderError: it failed with all of them.
    """
    figures: dict[int, float] = {}
    refused: ContenderError | None = None
    for count in counts:
        try:
            process.prepare(count)
            if process.contender.compiles:
                process.repeat(TRIAL_SHARE)
            answer = process.repeat(TRIAL_SHARE)
        except ContenderError as error:
            refused = error
            continue
        figures[count] = race.value(answer["count"], answer["seconds"])
    if not figures:
        assert refused is not None
        raise refused
    return figures


def _repeat(race: Race, record: Record, process: ContenderProcess) -> None:
    time.sleep(PAUSE_SECONDS)
    answer = process.repeat()
    record.values.append(race.value(answer["count"], answer["seconds"]))
    record.repetitions.append(answer)


def _check(record: Record, process: ContenderProcess) -> None:
    record.checked = process.check()


def _first_words(record: Record) -> str:
    if record.failure:
        return record.failure
    shown = ", ".join(f"{count}: {value:.4g}" for count, value in record.trials.items())
    tried = f" (tried: {shown})" if record.trials else ""
    return f"{record.workers} worker(s){tried}; ready after {record.first_seconds:.1f} s"
