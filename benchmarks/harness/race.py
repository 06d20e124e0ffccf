"""What is raced: contenders, the goal against each peer, and how a result is read. Plain data, nothing runs here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Outcome:
    """What a contender says of one repetition.

    Attributes:
        count: units done (images, cells, mosaics, ...); 1 where the time itself is the result.
        seconds: the time to report, where it is not the wall time of the whole call.
        facts: called after the clock has stopped; what was delivered, for the record.
    """

    count: float
    seconds: float | None = None
    facts: Callable[[], dict[str, Any]] | None = None


class Runner(Protocol):
    """The code of a contender, living in a process of its own.

    `prepare` may be called again with another number of workers; what it opened before is then its own business to
    close. `repeat` does one repetition, or about `share` of one when worker counts are tried out.
    """

    def prepare(self, workers: int) -> None:
        """Open files and start what outlives a repetition."""

    def repeat(self, share: float) -> Outcome:
        """One repetition."""

    def check(self) -> dict[str, Any]:
        """After all repetitions: whether the work was right. {"error": why} makes the contender fail."""


@dataclass(frozen=True)
class Contender:
    """One side of a race.

    Attributes:
        name: as shown.
        factory: "module:Class" of a `Runner`, with `arguments` (JSON) for its constructor.
        workers: counts to try, the best of which runs; a single one is taken as it is.
        trial: name of the trial; contenders of one name share its result, so that only the first of them runs it.
        compiles: whether its first repetition after `prepare` is not like the others, so that trials need two.
        environment: variables of its process.
        timeout: seconds after which one command of it counts as hanging.
        note: said beside its figures.
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
    """A contender that ours is compared with.

    Attributes:
        goal: how many times better ours is to be; None where there is no goal.
        limit: the wall that the ratio cannot pass, in words.
        wall: name of another contender of the race whose figure, measured in the same run, is that wall.
    """

    contender: Contender
    goal: float | None = None
    limit: str = ""
    wall: str = ""


@dataclass(frozen=True)
class Race:
    """One piece of work, done by ours and by peers in turn.

    Attributes:
        work: what is done, as shown.
        unit: of the figures, "images/s" or "ms".
        kind: "rate" (count / seconds, more is better) or "time" (seconds x `scale`, less is better).
        most: highest value of ours that still meets the goal (for times), in `unit`.
        note: said beside every row.
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
        """A repetition's figure in `unit`."""
        return count / seconds if self.kind == "rate" else seconds / count * self.scale

    def ratio(self, ours: float, theirs: float) -> float:
        """How many times better ours is."""
        return ours / theirs if self.kind == "rate" else theirs / ours
