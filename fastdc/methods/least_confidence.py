"""Least confidence: how sure the trained observer is of its best guess (Coleman et al. 2020)."""

import numpy as np
from numpy.typing import NDArray

from fastdc.methods.base import MethodConfig, MethodInfo
from fastdc.methods.scored import ScoreMethod, final_field
from fastdc.methods.uncertainty import BIBTEX, PAPER
from fastdc.observe.record import Observation


class LeastConfidence(ScoreMethod):
    """Score = -max_c p_c of the trained observer in eval mode, mean over observer runs.

    Negated, so that high = hard. Probabilities, as published; DeepCore takes logits. The label plays no part.
    """

    info = MethodInfo(
        name="least_confidence",
        title="Least confidence",
        family="pruning",
        paper=PAPER,
        year=2020,
        bibtex=BIBTEX,
        needs=("features",),
    )

    def run_scores(self, observation: Observation, config: MethodConfig) -> NDArray[np.float64]:
        """The negated confidence of one run, float64 [N], -1 to 0; high = hard."""
        return -final_field(observation, "p_max")


METHOD = LeastConfidence()
