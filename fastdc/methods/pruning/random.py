"""Random: the baseline with which soft-label distillation was not compared for a long time."""

from fastdc.common.keys import derive_seed
from fastdc.methods.bases.benchmark_citation import BIBTEX, TITLE
from fastdc.methods.bases.method import Compressed, Method, MethodConfig, MethodContext, MethodInfo, check_budget
from fastdc.methods.bases.selection import random_balanced


class Random(Method):
    r"""Draw images uniformly without replacement, the same number of every class.

    Each class draws from a stream of its own, so that another class changes nothing in it. No network is trained and no
    image is read. Soft-label distillation was not compared with this baseline for a long time.

    $$S_c \sim \mathrm{Uniform}\{A \subset D_c : |A| = \mathrm{ipc}\}$$

    Differences:
        The benchmark released its random sets, but no code that draws them. Here each subset seed draws another set.
    """

    info = MethodInfo(
        name="random",
        title="Random",
        family="pruning",
        paper=TITLE,
        year=2025,
        bibtex=BIBTEX,
        stochastic=True,
        published={
            "imagenet1k/resnet18/hard/ipc10": 4.6,
            "imagenet1k/resnet18/hard/ipc50": 20.6,
            "imagenet1k/resnet18/hard/ipc100": 31.7,
        },
    )

    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        """Draw `ipc` images of every class by `seed`."""
        check_budget(self, config, context.classes, context.counts, ipc)
        chosen = random_balanced(context.labels, len(context.classes), ipc, derive_seed(seed, "random subset"))
        return Compressed(labels=context.labels[chosen], sources=chosen[:, None])


METHOD = Random()
