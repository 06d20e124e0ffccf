"""Full: the whole training set, the reference for every compressed set."""

import numpy as np

from fastdc.methods.bases.method import Compressed, Method, MethodContext
from fastdc.methods.bases.method_config import MethodConfig
from fastdc.methods.bases.method_info import MethodInfo
from fastdc.methods.bases.selection import kept_images


class Full(Method):
    """Keep every image as it is; ipc and seed have no effect.

    The row shows what a network reaches on the whole training set under the same protocol. It is the reference for
    every compressed set. The set is not stored again.

    $$S = D$$
    """

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

    def images_needed(self, config: MethodConfig, ipc: int, image_size: int) -> int:
        """Return 1: the whole set has no budget."""
        return 1

    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        """Return all N images, in their order."""
        return kept_images(context, np.arange(context.labels.size, dtype=np.int64))


METHOD = Full()
