"""Full: the whole training set, the reference that every compressed set is measured against."""

import numpy as np

from fastdc.methods.base import Compressed, Method, MethodConfig, MethodContext, MethodInfo


class Full(Method):
    """Keeps every image as it is; ipc and seed do not matter."""

    info = MethodInfo(
        name="full",
        title="Full set",
        family="reference",
        paper="",
        year=0,
        bibtex="",
        class_balanced=False,
        whole_set=True,
    )

    def images_needed(self, config: MethodConfig, ipc: int) -> int:
        """One image of each class is enough: the whole set has no budget."""
        return 1

    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        """All N images, in their order."""
        return Compressed(labels=context.labels, sources=np.arange(context.labels.size, dtype=np.int64)[:, None])


METHOD = Full()
