"""Random: the baseline with which soft-label distillation was not compared for a long time."""

from fastdc.common.keys import derive_seed
from fastdc.methods.bases.literature import cited
from fastdc.methods.bases.method import Compressed, Method, MethodContext, check_budget
from fastdc.methods.bases.method_config import MethodConfig
from fastdc.methods.bases.selection import kept_images, random_balanced


class Random(Method):
    r"""Draw images uniformly without replacement, the same number of every class.

    Each class draws from its own stream, so that another class changes nothing in it. No network is trained and no
    image is read. Soft-label distillation was not compared with this baseline for a long time.

    $$S_c \sim \mathrm{Uniform}\{A \subset D_c : |A| = \mathrm{ipc}\}$$

    Differences:
        The benchmark released its random sets, but no code that draws them. Here each subset seed draws another set.
    """

    info = cited("random", "Random", "pruning", "xiao2025rethinking", stochastic=True)

    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        """Draw `ipc` images of every class by `seed`."""
        check_budget(self, config, context.classes, context.counts, ipc, context.image_size)
        chosen = random_balanced(context.labels, len(context.classes), ipc, derive_seed(seed, "random subset"))
        return kept_images(context, chosen)


METHOD = Random()
