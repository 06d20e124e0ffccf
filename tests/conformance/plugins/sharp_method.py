"""A method in a package of its own: keep the images with the strongest edges."""

import numpy as np
from numpy.typing import NDArray

from fastdc.methods import Compressed, Method, MethodConfig, MethodContext, MethodInfo, select


class Sharp(Method):
    """Keep the images whose neighbouring pixels differ most, the same number of every class."""

    info = MethodInfo(name="sharp", title="Sharp", family="pruning", paper="", year=2026, bibtex="")

    def scores(self, context: MethodContext, config: MethodConfig) -> NDArray[np.float64]:
        """Return minus the mean difference of neighbouring levels, float64 [N]; low = sharp."""
        images = map(context.image, range(len(context.labels)))
        return np.array([-float(np.abs(np.diff(image.astype(float), axis=1)).mean()) for image in images])

    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        """Keep the `ipc` sharpest images of every class."""
        scores = self.scores(context, config) if context.scores is None else context.scores
        kept = select(scores, context.labels, ipc, keep="easy", balanced=True)
        return Compressed(labels=context.labels[kept], sources=kept[:, None])


METHOD = Sharp()
