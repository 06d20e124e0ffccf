"""Score every training image with every method that ranks by the observer's record, and write one table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdc._version import __version__
from fastdc.beton import BetonFile, Manifest, describe_beton
from fastdc.beton.missing_manifest import one_use
from fastdc.common.arrow import import_pyarrow
from fastdc.common.errors import ConfigError, MethodError
from fastdc.common.files import check_output, prepare_workdir
from fastdc.common.log import log_message, progress_shown
from fastdc.common.settings import closest
from fastdc.methods import Method, MethodConfig, MethodContext, all_methods, get_method, parse_variant, variant_name
from fastdc.methods.bases.score_methods import RankMethod, ScoreMethod
from fastdc.methods.check_result import check_scores
from fastdc.methods.scores_of_logits import SCORES
from fastdc.observe import ObserverConfig, choose_observer
from fastdc.observe.choose_observer import report_observer
from fastdc.subsets.request import DEFAULT_IMAGE_SIZE, check_observer
from fastdc.subsets.score_output import SUFFIXES, ScoreTable, write_score_table
from fastdc.subsets.score_record import ScoreColumn, ScoreRecord


@dataclass(frozen=True)
class Scorer:
    """Method under settings that scores images.

    Attributes:
        name: title of its column, such as `el2n` or `el2n[last_epoch=5]`.
        method, config: the method and its settings. given: those of them that are not left at their defaults.
    """

    name: str
    method: Method
    config: MethodConfig
    given: Mapping[str, Any]

    def column(self) -> ScoreColumn:
        """Describe the column. Formula and published sign are those of the defaults."""
        known = None if self.given else SCORES.get(self.name)
        unread = _choice_settings(self.method)
        return ScoreColumn(
            method=self.method.info.name,
            method_version=self.method.version,
            settings={name: value for name, value in self.config.identity().items() if name not in unread},
            high="hard",
            published=None if known is None else "hard" if known.hard == "high" else "easy",
            formula=None if known is None else known.formula,
        )


@one_use()
def write_scores(
    train: Path,
    out: Path,
    *,
    workdir: Path,
    names: Sequence[str] | None = None,
    observer: ObserverConfig | Mapping[str, Any] | None = None,
    force: bool = False,
    show_progress: bool = False,
) -> ScoreRecord:
    """Write the scores of every training image as parquet, or as CSV if `out` ends in .csv or .csv.gz.

    Columns are `index` (of the beton), `imagefolder_index` (torchvision's, empty where the orders differ), `id`,
    `class`, and one for each score, float64, high = hard. An observer that is missing is trained.

    Args:
        workdir: folder of observers.
        names: methods, also with settings (`el2n[last_epoch=5]`); None takes every method that ranks by its own score
            of the observer's record. Those that do not fit the observer's schedule are then left out with a note.
        observer: the observer, or settings from which `choose_observer` chooses it.

    Returns:
        The record that is stored with the scores.

    Raises:
        ConfigError: `out` has another suffix, pyarrow is missing, or a name is no method that scores.
        MethodError: a method that is named does not fit the observer.
        OutputError: `out` exists and `force` is false, or cannot be written.
    """
    check_output(out, force, [train])
    if not out.name.lower().endswith(SUFFIXES):
        raise ConfigError(f"{out}: expected a name that ends in {', '.join(SUFFIXES)}")
    if out.suffix.lower() == ".parquet":
        import_pyarrow(f"{out}: parquet", ConfigError)
    manifest = describe_beton(train)
    with progress_shown(show_progress), BetonFile(train) as beton:
        if not isinstance(observer, ObserverConfig):
            observer = choose_observer(train, manifest.content_hash, workdir, observer)
        scorers = _fitting(observer) if names is None else [_named(name, observer) for name in names]
        if not scorers:
            raise ConfigError(f"{out}: no score is named, or none fits an observer of {observer.epochs} epochs")
        prepare_workdir(workdir)
        report_observer(manifest.content_hash, workdir, observer)
        columns = _score(scorers, train, workdir, observer, manifest, beton)
        record = ScoreRecord(
            fastdc=__version__,
            command=f"fastdc scores {train.name} --score {','.join(columns)}",
            dataset=manifest.dataset,
            train=manifest.content_hash,
            observer=[observer.identity(manifest.content_hash, run) for run in range(observer.runs)],
            columns={scorer.name: scorer.column() for scorer in scorers},
        )
        write_score_table(out, ScoreTable(manifest, beton.labels, columns, record))
    return record


def _fitting(observer: ObserverConfig) -> list[Scorer]:
    """Return the methods that rank by their own score, without those that need a longer schedule."""
    scorers = []
    for name, method in all_methods().items():
        config = method.configure({})
        # A method with a choice of its own beside the ranking, such as CCS, repeats the score of another.
        if not _scores(method, config) or (isinstance(method, ScoreMethod) and not isinstance(method, RankMethod)):
            continue
        try:
            check_observer(method, config, observer)
            scorers.append(Scorer(name, method, config, {}))
        except MethodError as error:
            log_message(f"note: left out: {error}")
    return scorers


def _named(text: str, observer: ObserverConfig) -> Scorer:
    """Return the method that a name stands for."""
    name, given = parse_variant(text)
    method = get_method(name)
    config = method.configure(given)
    if not _scores(method, config):
        known = [other for other, method in all_methods().items() if _scores(method, method.configure({}))]
        raise ConfigError(f"score {text}: {name} scores no images by the observer's record; {closest(name, known)}")
    idle = sorted(set(given) & _choice_settings(method))
    if idle:
        raise ConfigError(f"score {text}: {idle[0]} changes nothing: the choice of {name} reads it, not its score")
    check_observer(method, config, observer)
    return Scorer(variant_name(name, given), method, config, given)


def _scores(method: Method, config: MethodConfig) -> bool:
    """Return whether a pruning method scores images by the observer's record alone."""
    scores = type(method).scores is not Method.scores
    return scores and method.info.family == "pruning" and method.observed(config) and not method.teachers(config)


def _choice_settings(method: Method) -> set[str]:
    """Return the settings that a method's score does not depend on."""
    return {*getattr(method, "choice_settings", ()), *ScoreMethod.choice_settings}


def _score(
    scorers: Sequence[Scorer],
    train: Path,
    workdir: Path,
    observer: ObserverConfig,
    manifest: Manifest,
    beton: BetonFile,
) -> dict[str, NDArray[np.float64]]:
    """Return the scores by column, float64 [N] each, after training what the observer's record lacks."""
    from fastdc.observe.train_observer import complete_records  # imports torch

    needs = reduce(or_, (scorer.method.observer_needs(scorer.config) for scorer in scorers))
    context = MethodContext(
        labels=beton.labels,
        classes=manifest.classes,
        image_size=DEFAULT_IMAGE_SIZE,
        image=beton.decode,
        observations=complete_records(train, workdir, observer, needs),
    )
    columns: dict[str, NDArray[np.float64]] = {}
    for scorer in scorers:
        found = scorer.method.scores(context, scorer.config)
        check_scores(scorer.method, found, len(beton.labels))
        assert found is not None, "checked by `_scores`"
        columns[scorer.name] = found
    return columns
