"""Metadata of methods. Imports no torch."""

from typing import Literal

from pydantic import Field

from fastdc.common.settings import Settings
from fastdc.observe.record_needs import OBSERVED

Family = Literal["reference", "pruning", "distillation", "combination"]
Need = Literal["dynamics", "features", "outputs", "tdds", "teacher", "bn_statistics"]


class MethodInfo(Settings):
    """Metadata of a method: its names, its source and its requirements.

    Attributes:
        name: registry name, lower case.
        title: the method's name as its paper prints it.
        family: kind of compression; `reference` marks rows that compress nothing.
        paper: title of the paper.
        year: year of publication.
        bibtex: one BibTeX entry, or "" where there is nothing to cite.
        needs: inputs that must exist before the method runs; empty for methods that need only labels.
        class_balanced: whether every class keeps the same number of images.
        stochastic: whether the subset seed changes the subset.
        whole_set: whether the result is the training set itself. Such a set is not stored again.
        published: published top-1 accuracy in percent, by keys such as "imagenet1k/resnet18/hard/ipc10".
    """

    name: str
    title: str
    family: Family
    paper: str
    year: int
    bibtex: str
    needs: tuple[Need, ...] = ()
    class_balanced: bool = True
    stochastic: bool = False
    whole_set: bool = False
    published: dict[str, float] = Field(default_factory=dict)

    @property
    def observed(self) -> bool:
        """Return whether the method reads an observer's record."""
        return any(need in OBSERVED for need in self.needs)
