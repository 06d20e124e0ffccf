"""Parts of an observer's record that methods need. Imports no torch."""

from dataclasses import dataclass

WHOLE_SCHEDULE = -1
"""Value of `ObserverNeeds.epochs` and `tdds` for all epochs of the observer's schedule."""

OBSERVED = ("dynamics", "features", "outputs", "tdds")
"""Names of the needs, among those that a method declares, that the observer serves."""


@dataclass(frozen=True)
class ObserverNeeds:
    """Parts of an observer's record.

    Attributes:
        epochs: number of epochs of the log, or `WHOLE_SCHEDULE`; 0 for none.
        final: the pass at the end of the schedule, with scalars of the outputs and penultimate features.
        outputs: that pass also with every probability, float16 [N, C].
        tdds: number of epochs, from the first on, with TDDS's distances between consecutive epochs, or
            `WHOLE_SCHEDULE`; 0 for none.
        weights: the weights at the end of the schedule, for a teacher.
        exact: that pass as of fastdc 0.2, with scalars in full precision and `EXACT_FIELDS`.
    """

    epochs: int = 0
    final: bool = False
    outputs: bool = False
    tdds: int = 0
    weights: bool = False
    exact: bool = False

    def __or__(self, other: "ObserverNeeds") -> "ObserverNeeds":
        """Combine two needs into one that covers both."""
        return ObserverNeeds(
            _longer(self.epochs, other.epochs),
            self.final or other.final,
            self.outputs or other.outputs,
            _longer(self.tdds, other.tdds),
            self.weights or other.weights,
            self.exact or other.exact,
        )

    def last_epoch(self, schedule: int) -> int:
        """Return how many epochs of a schedule of `schedule` epochs must be trained."""
        return schedule if self.final or self.weights else max(self.log_epochs(schedule), self.tdds_epochs(schedule))

    def log_epochs(self, schedule: int) -> int:
        """Return how many epochs of a schedule of `schedule` epochs must be in the log."""
        return schedule if self.epochs == WHOLE_SCHEDULE else min(self.epochs, schedule)

    def tdds_epochs(self, schedule: int) -> int:
        """Return how many epochs of a schedule of `schedule` epochs must have TDDS's distances."""
        return schedule if self.tdds == WHOLE_SCHEDULE else min(self.tdds, schedule)


def _longer(first: int, second: int) -> int:
    """Return the longer of two numbers of epochs, of which `WHOLE_SCHEDULE` is the longest."""
    return WHOLE_SCHEDULE if WHOLE_SCHEDULE in (first, second) else max(first, second)
