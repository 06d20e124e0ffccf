"""Sharpness: keep the images with the strongest edges. An example of a method in a package of its own."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fastdc.methods import Compressed, Method, MethodConfig, MethodContext, MethodInfo, select


class SharpnessConfig(MethodConfig):
    """Settings of sharpness.

    Attributes:
        step: distance in pixels over which grey levels are compared.
    """

    step: int = Field(1, ge=1, le=8)


class Sharpness(Method[SharpnessConfig]):
    """Keep the images whose neighbouring pixels differ most, the same number of every class."""

    info = MethodInfo(name="sharpness", title="Sharpness", family="pruning", paper="", year=2026, bibtex="")
    version = 1

    def scores(self, context: MethodContext, config: SharpnessConfig) -> NDArray[np.float64]:
        """Return minus the mean difference of neighbouring levels, float64 [N]; low = sharp, so that sharp is easy."""
        return np.array([-edges(context.image(index), config.step) for index in range(context.labels.size)])

    def compress(self, context: MethodContext, config: SharpnessConfig, ipc: int, seed: int) -> Compressed:
        """Keep the `ipc` sharpest images of every class."""
        scores = self.scores(context, config) if context.scores is None else context.scores
        kept = select(scores, context.labels, ipc, keep="easy", balanced=True)
        return Compressed(labels=context.labels[kept], sources=kept[:, None])


def edges(image: NDArray[np.uint8], step: int) -> float:
    """Return the mean absolute difference of grey levels `step` pixels apart, 0 to 255."""
    grey = image.astype(np.float64).mean(axis=2)
    return float(np.abs(grey[:, step:] - grey[:, :-step]).mean())


METHOD = Sharpness()
