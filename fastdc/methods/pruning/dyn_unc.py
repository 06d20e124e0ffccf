"""Dyn-Unc: how much an image's predicted probability varies during training (He et al. 2024)."""

from pydantic import Field

from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method_config import Keep
from fastdc.methods.bases.score_formulas import Scores, dyn_unc
from fastdc.methods.bases.score_methods import LogConfig, LogScore
from fastdc.observe.dynamics_log import Observation


class DynUncConfig(LogConfig):
    """Settings of Dyn-Unc.

    Attributes:
        window: J, epochs in a window.
        keep: end of the ranking that is kept; `hard` is the paper's. The low end mixes easy images with those that are
            always wrong (top-1 below chance on Imagenette at IPC 10).
    """

    keep: Keep = "hard"
    window: int = Field(10, ge=2)


class DynUnc(LogScore[DynUncConfig]):
    r"""Rank images by the variation of their label's probability.

    The variation is taken in every window of J epochs and averaged over the windows. High means hard in the sense of
    undecided: images that are always right and images that are always wrong both score low. The paper keeps the high
    end.

    $$s_i = \frac{10}{T - J + 1} \sum_{k=0}^{T-J} \mathrm{std}(p^{k..k+J-1}_{i,y_i})$$

    Differences:
        * A probability of exactly 0 counts as 0. The authors' code treats it as missing.
        * The window that ends with the last epoch is read too. The authors' code leaves it out, DUAL's does not.
    """

    info = cited("dyn_unc", "Dyn-Unc", "pruning", "he2024large", needs=("dynamics",))

    def shortest_log(self, config: DynUncConfig) -> int:
        """Return the epochs of one window."""
        return config.window

    def run_scores(self, observation: Observation, config: DynUncConfig) -> Scores:
        """Return dynamic uncertainty in one run, float64 [N]; high = hard."""
        return dyn_unc(self.seen(observation, config), config.window)


METHOD = DynUnc()
