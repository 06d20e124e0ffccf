"""Define races as plain data: contenders, the goal against each peer, and the meaning of results."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Outcome:
    """Result of one repetition, as a contender reports it.

    Attributes:
        count: units done (images, cells, mosaics, ...); 1 if the time itself is the result.
        seconds: the time to report; None for the wall time of the call.
        facts: returns what was delivered, for the record; called after the clock has stopped.
    """

    count: float
    seconds: float | None = None
    facts: Callable[[], dict[str, Any]] | None = None


class Runner(Protocol):
    """Code of a contender, which runs in its own process.

    `prepare` may be called again with another number of workers; it must then close what it opened before. `repeat`
    does one repetition, or about `share` of one during trials of worker counts.
    """

    def prepare(self, workers: int) -> None:
        """Open files and start everything that outlives a repetition."""

    def repeat(self, share: float) -> Outcome:
        """Do one repetition."""

    def check(self) -> dict[str, Any]:
        """Check the work after all repetitions and return facts; {"error": why} makes the contender fail."""


@dataclass(frozen=True)
class Contender:
    """One side of a race.

    Attributes:
        name: displayed name.
        factory: "module:Class" of a `Runner`, with `arguments` (JSON) for its constructor.
        workers: worker counts to try, of which the best runs; a single one is used without a trial.
        trial: name of the trial; contenders with equal names share its result, so that only the first runs it.
        compiles: whether the first repetition after `prepare` compiles code, so that a trial needs two.
        environment: environment variables of its process.
        timeout: seconds after which a command counts as hanging.
        note: remark shown beside its figures.
    """

    name: str
    factory: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    workers: tuple[int, ...] = (1,)
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 120.0
    note: str = ""
    trial: str = ""
    compiles: bool = False


@dataclass(frozen=True)
class Peer:
    """Contender that ours is compared with.

    Attributes:
        goal: target for how many times better ours is; None without a goal.
        limit: physical limit of the ratio, in words.
        wall: name of another contender of the race whose figure, measured in the same run, is that limit.
    """

    contender: Contender
    goal: float | None = None
    limit: str = ""
    wall: str = ""


@dataclass(frozen=True)
class Race:
    """One piece of work, done in turn by ours and by peers.

    Attributes:
        work: displayed name of the work.
        unit: unit of the figures, for example "images/s" or "ms".
        kind: "rate" (count / seconds, more is better) or "time" (seconds / count x `scale`, less is better).
        scale: factor from seconds to `unit`, for times.
        most: largest value of ours that still meets the goal (for times), in `unit`.
        note: remark shown beside every row.
    """

    work: str
    unit: str
    ours: Contender
    peers: tuple[Peer, ...]
    kind: Literal["rate", "time"] = "rate"
    scale: float = 1.0
    most: float | None = None
    note: str = ""

    def value(self, count: float, seconds: float) -> float:
        """Return a repetition's figure in `unit`."""
        return count / seconds if self.kind == "rate" else seconds / count * self.scale

    def ratio(self, ours: float, theirs: float) -> float:
        """Return how many times better ours is."""
        return ours / theirs if self.kind == "rate" else theirs / ours
