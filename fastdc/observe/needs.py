"""What a method, or several, must have observed before it can choose. Imports no torch."""

from dataclasses import dataclass

WHOLE_SCHEDULE = -1
"""Instead of a number of epochs: all that the observer's schedule has."""

OBSERVED = ("dynamics", "features", "outputs", "tdds")
"""Needs of a method that the observer serves."""


@dataclass(frozen=True)
class ObserverNeeds:
    """Parts of an observer's record.

    Attributes:
        epochs: epochs of the log that are read, or `WHOLE_SCHEDULE`; 0 reads none.
        final: the pass at the end of the schedule: outputs' scalars and penultimate features.
        exact: that pass as fastdc 0.2 makes it: scalars in full precision, `EXACT_FIELDS` among them.
        outputs: in that pass also every probability, float16 [N, C].
        tdds: TDDS's distance between consecutive epochs, for these many epochs; 0 for none.
        weights: the weights at the end of the schedule, for a teacher.
    """

    epochs: int = 0
    final: bool = False
    outputs: bool = False
    tdds: int = 0
    weights: bool = False
    exact: bool = False

    def __or__(self, other: "ObserverNeeds") -> "ObserverNeeds":
        """What both need."""
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
        """The epoch up to which a schedule of `schedule` epochs has to be trained."""
        if self.final or self.weights or self.epochs == WHOLE_SCHEDULE:
            return schedule
        return min(max(self.epochs, self.tdds), schedule)
