"""Parts of an observer's record that methods need. Imports no torch."""

from dataclasses import dataclass

WHOLE_SCHEDULE = -1
"""Value of `ObserverNeeds.epochs` for all epochs of the observer's schedule."""

OBSERVED = ("dynamics", "features", "outputs", "tdds")
"""Names of the needs, among those that a method declares, that the observer serves."""


@dataclass(frozen=True)
class ObserverNeeds:
    """Parts of an observer's record.

    Attributes:
        epochs: number of epochs of the log, or `WHOLE_SCHEDULE`; 0 for none.
        final: the pass at the end of the schedule, with scalars of the outputs and penultimate features.
        outputs: that pass also with every probability, float16 [N, C].
        tdds: number of epochs, from the first on, with TDDS's distances between consecutive epochs; 0 for none.
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
        whole = WHOLE_SCHEDULE in (self.epochs, other.epochs)
        return ObserverNeeds(
            WHOLE_SCHEDULE if whole else max(self.epochs, other.epochs),
            self.final or other.final,
            self.outputs or other.outputs,
            max(self.tdds, other.tdds),
            self.weights or other.weights,
            self.exact or other.exact,
        )

    def last_epoch(self, schedule: int) -> int:
        """Return how many epochs of a schedule of `schedule` epochs must be trained."""
        if self.final or self.weights or self.epochs == WHOLE_SCHEDULE:
            return schedule
        return min(max(self.epochs, self.tdds), schedule)
