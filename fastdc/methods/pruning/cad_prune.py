"""CAD-Prune: images whose predictions vary at the end of a training as long as the student's (Dey et al. 2026)."""

from typing import ClassVar, Literal

from pydantic import Field

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method_config import Keep, MethodConfig
from fastdc.methods.bases.score_formulas import Scores, cad_prune, cad_prune_el2n
from fastdc.methods.bases.score_methods import Log, RankMethod, ScoreConfig
from fastdc.observe.dynamics_log import Observation

Reading = Literal["true_class", "el2n"]
"""Quantity whose variation is measured. The paper leaves open which of the two it means."""


class CADSettings(MethodConfig):
    """Settings of compute-aware difficulty (CAD).

    Attributes:
        reading: quantity whose variation is measured; the paper leaves it open. `true_class` is the probability of the
            label, and the last window ends with epoch K (inferred). `el2n` is the norm of the error, as third-party
            code reads the paper (github.com/andriotis/ca2d). That code leaves out the window that ends with epoch K,
            as Dyn-Unc's code does.
        last_epoch: K, the last observer epoch that is read, counted from 1. The paper matches K to the student's
            compute, epochs * ipc * C / N; 8 is a reproducer's reading of its ImageNet runs. For a run whose learning
            rate also ends at K, give the observer that many epochs.
        window: J, epochs in a window. 6 is the paper's value for ImageNet; the third-party code takes K - W on small
            sets.
        last_windows: W, number of last windows that are averaged.
    """

    reading: Reading = Field("true_class", description="inferred")
    last_epoch: int = Field(8, ge=2, description="inferred")
    window: int = Field(6, ge=2)
    last_windows: int = Field(2, ge=1)

    @property
    def shortest(self) -> int:
        """Return the epochs that W windows span, plus the window that `el2n` leaves out."""
        # W windows of J epochs, each one epoch later, span J + W - 1 epochs. `el2n` leaves out one more window.
        return self.window + self.last_windows - (self.reading == "true_class")

    def of_run(self, name: str, observation: Observation) -> Scores:
        """Return CAD of every training image in one observer run, float64 [N]; high = hard.

        Args:
            name: name of the method, for messages.

        Raises:
            MethodError: the run is shorter than K, or K is shorter than the windows.
        """
        score = cad_prune if self.reading == "true_class" else cad_prune_el2n
        return score(Log(name, observation, self.last_epoch), self.window, self.last_windows)


class CADConfig(CADSettings, ScoreConfig):
    """Settings of CAD-Prune: those of its score, and those of the ranking.

    Attributes:
        keep: end of the ranking that is kept; `hard` is the paper's. The length of the run, not this setting, matches
            the difficulty to the student.
    """

    later_settings: ClassVar[tuple[str, ...]] = ("reading",)

    keep: Keep = "hard"


class CADPrune(RankMethod[CADConfig]):
    r"""Rank images by how much a prediction varies over the last epochs.

    The observer is trained for as long as the student will be, so that the difficulty fits the student's compute. The
    score is the mean over the last W windows of J epochs of the unbiased standard deviation, averaged over observer
    runs. The setting `reading` chooses the quantity and the last window, because the paper leaves both open.

    $$s_i = \frac{1}{W} \sum_{k=K-J-W+2}^{K-J+1} \mathrm{std}(p^{k..k+J-1}_{i,y_i})$$

    Differences:
        The paper's code is not public. `reading=el2n` follows third-party code (github.com/andriotis/ca2d).
    """

    info = cited("cad_prune", "CAD-Prune", "pruning", "dey2026hard", needs=("dynamics",))

    def observer_epochs(self, config: CADConfig) -> int:
        """Return K, the last epoch that the score reads."""
        return config.last_epoch

    def shortest_log(self, config: CADConfig) -> int:
        """Return the epochs of the windows."""
        return config.shortest

    def run_scores(self, observation: Observation, config: CADConfig) -> Scores:
        """Return compute-aware difficulty in one run, float64 [N]; high = hard."""
        return config.of_run(self.info.name, observation)


METHOD = CADPrune()
