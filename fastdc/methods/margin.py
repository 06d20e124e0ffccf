"""Margin: how close the trained observer's two best guesses are (Coleman et al. 2020)."""

import numpy as np
from numpy.typing import NDArray

from fastdc.methods.base import MethodConfig, MethodInfo
from fastdc.methods.scored import ScoreMethod, final_field
from fastdc.methods.uncertainty import BIBTEX, PAPER
from fastdc.observe.record import Observation


class Margin(ScoreMethod):
    """Score = -(largest - second largest probability) of the trained observer in eval mode, mean over runs.

    Negated, so that high = hard. The label plays no part.
    """

    info = MethodInfo(
        name="margin",
        title="Margin",
        family="pruning",
        paper=PAPER,
        year=2020,
        bibtex=BIBTEX,
        needs=("features",),
    )

    def run_scores(self, observation: Observation, config: MethodConfig) -> NDArray[np.float64]:
        """The negated margin of one run, float64 [N], -1 to 0; high = hard."""
        return final_field(observation, "p_second") - final_field(observation, "p_max")


METHOD = Margin()
