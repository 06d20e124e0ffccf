"""CAD-Prune: what wavers at the end of a training as long as the student's will be (Dey et al. 2026)."""

from pydantic import Field

from fastdc.methods.base import Keep, MethodConfig, MethodInfo
from fastdc.methods.difficulty import Scores, cad_prune
from fastdc.methods.scored import Log, ScoreConfig, ScoreMethod
from fastdc.observe.record import Observation


class CADConfig(ScoreConfig):
    """Settings of CAD-Prune.

    Attributes:
        keep: the paper keeps the high end: difficulty is matched by the length of the run, not by the end kept.
        last_epoch: K, the last observer epoch that is read, counted from 1. The paper matches K to the student's
            compute, epochs * ipc * C / N; 8 is a reproducer's reading of its ImageNet runs. For a run whose learning
            rate also ends at K, give the observer that many epochs.
        window: J, epochs in a window.
        last_windows: W, how many of the last windows are averaged.
    """

    keep: Keep = "hard"
    last_epoch: int = Field(8, ge=2, description="inferred")
    window: int = Field(6, ge=2)
    last_windows: int = Field(2, ge=1)


class CADPrune(ScoreMethod):
    """Score = mean over the last W windows of J epochs of std(p_y), unbiased (J - 1), mean over observer runs.

    High = hard. The last window ends with epoch K.
    """

    info = MethodInfo(
        name="cad_prune",
        title="CAD-Prune",
        family="pruning",
        paper="Rethinking Dataset Distillation: Hard Truths about Soft Labels",
        year=2026,
        bibtex=(
            "@inproceedings{dey2026hard,\n"
            "  title={Rethinking Dataset Distillation: Hard Truths about Soft Labels},\n"
            "  author={Dey, Priyam and Sahdev, Aditya and Bhati, Sunny and Mopuri, Konda Reddy and "
            "Babu, R. Venkatesh},\n"
            "  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},\n"
            "  year={2026}\n"
            "}"
        ),
        needs=("dynamics",),
        published={
            "imagenet1k/resnet18/hard-authors-recipe/ipc10": 12.57,
            "imagenet1k/resnet18/hard-authors-recipe/ipc50": 40.21,
        },
    )
    config_class = CADConfig

    def observer_epochs(self, config: MethodConfig) -> int:
        """K."""
        assert isinstance(config, CADConfig)
        return config.last_epoch

    def shortest_log(self, config: MethodConfig) -> int:
        """The epochs of W windows."""
        assert isinstance(config, CADConfig)
        return config.window + config.last_windows - 1

    def run_scores(self, observation: Observation, config: MethodConfig) -> Scores:
        """Compute-aware difficulty of one run, float64 [N]; high = hard."""
        assert isinstance(config, CADConfig)
        log = Log(self.info.name, observation, config.last_epoch)
        return cad_prune(log, config.window, config.last_windows)


METHOD = CADPrune()
