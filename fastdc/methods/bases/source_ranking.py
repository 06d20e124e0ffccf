"""Rankings of the sources of mosaics: by a score of the observer, a teacher's loss, a file, or none.

`ranking_of` parses the setting `score`:

* `random` ranks nothing; sources are drawn at random.
* The name of a method that ranks by a score (`el2n`, `aum`, ...), with settings of that score: `aum+last_epoch=30`.
* `teacher` ranks by the cross-entropy of each whole image under the method's teachers.
* `list:FILE` takes the images that a list names, in its order; other images are not used.
* `scores:FILE` takes a number for every training image, high = hard; see `fastdc.subsets.score_files`. Of a file with
  several scores, `scores:FILE+score=NAME` takes one.

A file is identified by its content. `Ranking.text` appends the key of the content to the name. A file whose content has
changed since then is refused.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import ConfigError, MethodError
from fastdc.common.keys import file_key
from fastdc.common.settings import parse_settings
from fastdc.methods.bases.method import Lists, MethodContext
from fastdc.methods.bases.method_config import MethodConfig, plain_value
from fastdc.methods.bases.score_formulas import Scores
from fastdc.methods.bases.score_methods import ScoreMethod
from fastdc.methods.bases.teacher_losses import BATCH, image_losses, teaching_of
from fastdc.observe.record_needs import ObserverNeeds

RANDOM, EL2N, TEACHER = "random", "el2n", "teacher"
FILES = ("list", "scores")
FORMS = f"{RANDOM}, {TEACHER}, list:FILE, scores:FILE or a method that ranks by a score ({EL2N}, aum, forgetting)"
FILE = re.compile(r"(?P<path>.+?)(?:#(?P<key>[0-9a-f]{16}))?(?P<column>\+score=.+)?")
"""FILE or FILE#KEY, and a column. The path is lazy, so that it leaves a key at the end to the second group."""


class Ranking:
    """Base class of rankings; itself the ranking `random`, which draws sources from the whole class."""

    observed = False
    """Whether the ranking reads an observer's record."""

    @property
    def text(self) -> str:
        """Return the setting in its canonical spelling."""
        return RANDOM

    @property
    def identity(self) -> dict[str, Any]:
        """Return data on which a subset depends beside the text of the setting."""
        return {}

    @property
    def observer_epochs(self) -> int:
        """Return the last epoch of the observer that the ranking reads."""
        return 0

    @property
    def shortest_log(self) -> int:
        """Return the fewest epochs from which a score can be computed."""
        return 0

    @property
    def observer_needs(self) -> ObserverNeeds:
        """Return the parts of the observer's record that the ranking reads."""
        return ObserverNeeds()

    def scores(self, context: MethodContext) -> Scores | None:
        """Return the score of every training image, float64 [N], high = hard; None if there is none."""
        return None

    def listed(self, context: MethodContext) -> NDArray[np.int64] | None:
        """Return the images that may be sources, int64 [M], easiest first; None if all may."""
        return None


@dataclass(frozen=True)
class MethodRanking(Ranking):
    """Ranking by the score of another method.

    Attributes:
        scorer: the method that scores.
        config: settings of `scorer`.
        changed: the settings that are not at their defaults.
        window: whether the settings are those of the method that uses the ranking. They are then already part of its
            identity.
    """

    scorer: ScoreMethod
    config: MethodConfig
    changed: dict[str, Any]
    window: bool = False
    observed = True  # without annotation, so a class attribute and not a field

    @property
    def text(self) -> str:
        parts = [] if self.window else [f"{name}={_spelled(self.changed[name])}" for name in sorted(self.changed)]
        return "+".join([self.scorer.info.name, *parts])

    @property
    def identity(self) -> dict[str, Any]:
        """Return the version and settings of the scoring method."""
        return {} if self.window else {"scorer": {"version": self.scorer.version, "config": self.config.identity()}}

    @property
    def observer_epochs(self) -> int:
        return self.scorer.observer_epochs(self.config)

    @property
    def shortest_log(self) -> int:
        return self.scorer.shortest_log(self.config)

    @property
    def observer_needs(self) -> ObserverNeeds:
        return self.scorer.observer_needs(self.config)

    def scores(self, context: MethodContext) -> Scores:
        return self.scorer.scores(context, self.config)


@dataclass(frozen=True)
class TeacherRanking(Ranking):
    """Ranking by the cross-entropy of each whole image under the teachers; with several, of their mean logits.

    Attributes:
        method: name of the method, for messages.
    """

    method: str

    @property
    def text(self) -> str:
        return TEACHER

    def scores(self, context: MethodContext) -> Scores:
        """Return the loss in nats, float64 [N], of each image resized to shorter side S and cut to S x S."""
        teachers = teaching_of(context, self.method).teachers
        return image_losses(context, teachers, BATCH, self.method, resize=context.image_size)


@dataclass(frozen=True)
class FileRanking(Ranking):
    """Ranking by a file.

    Attributes:
        kind: one of `FILES`.
        path: the file.
        key: key of the file's content.
        column: `+score=NAME`, the title of its score among several; empty for the only one.
    """

    kind: str
    path: Path
    key: str
    column: str = ""

    @property
    def text(self) -> str:
        return f"{self.kind}:{self.path}#{self.key}{self.column}"

    @property
    def identity(self) -> dict[str, Any]:
        """Return the content's key without the path, so that a file may move."""
        return {"score": f"{self.kind}#{self.key}{self.column}"}

    def scores(self, context: MethodContext) -> Scores | None:
        """Return the scores of the file; None for a list, which has only an order."""
        if self.kind != "scores":
            return None
        return self._lists(context).scores(self.path, self.column.removeprefix("+score=") or None)

    def listed(self, context: MethodContext) -> NDArray[np.int64] | None:
        """Return the images of a list, in its order; None for a file of scores."""
        return self._lists(context).images(self.path) if self.kind == "list" else None

    def _lists(self, context: MethodContext) -> Lists:
        assert context.lists is not None, "compress_beton gives them"
        return context.lists


def ranking_of(method: str, text: str, settings: dict[str, Any]) -> Ranking:
    """Return the ranking that the setting `score` of `method` names.

    Args:
        method: name of the method, for messages.
        text: value of the setting.
        settings: settings of `el2n`, which are settings of `method` itself.

    Raises:
        ConfigError: the score does not exist, it lacks a setting, or a file cannot be read or does not match its key.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind in FILES:
        return _file_ranking(method, kind, rest)
    if text in (RANDOM, TEACHER):
        return Ranking() if text == RANDOM else TeacherRanking(method)
    name, *parts = text.split("+")
    from fastdc.methods import get_method  # avoids a cycle: the registry imports the methods that import this file

    try:
        scorer = get_method(name)
    except (ConfigError, MethodError) as error:
        raise ConfigError(f"method {method}: score={text}: {error}") from error
    if not isinstance(scorer, ScoreMethod):
        raise ConfigError(f"method {method}: score={text}: ranks no images by a score; take {FORMS}")
    if name == EL2N:
        if parts:
            raise ConfigError(
                f"method {method}: score={text}: {EL2N} takes no settings here; set first_epoch and last_epoch of "
                f"{method} itself, and leave others out"
            )
        return MethodRanking(scorer, scorer.configure(settings), {}, window=True)
    return _method_ranking(method, text, scorer, parts)


def _method_ranking(method: str, text: str, scorer: ScoreMethod, parts: list[str]) -> MethodRanking:
    try:
        given = parse_settings(parts)
        config = scorer.configure(given)
    except ConfigError as error:
        raise ConfigError(f"method {method}: score={text}: {error}") from error
    name, idle = scorer.info.name, sorted(set(given) & set(scorer.choice_settings))
    if idle:
        raise ConfigError(
            f"method {method}: score={text}: {idle[0]} changes nothing: it is read by the choice of {name}, "
            f"not by its score; {method} chooses by its own settings"
        )
    dumped = config.model_dump(mode="json")
    return MethodRanking(scorer, config, {name: dumped[name] for name in given if not config.is_default(name)})


def _file_ranking(method: str, kind: str, rest: str) -> FileRanking:
    found = FILE.fullmatch(rest)
    if found is None:
        raise ConfigError(f"method {method}: score={kind}: names no file, expected {kind}:FILE")
    path = Path(found["path"])
    key = _content_key(path, f"method {method}: score={kind}:{path}")
    if found["key"] not in (None, key):
        raise ConfigError(
            f"method {method}: score={kind}:{rest}: the file holds other content now, #{key}; give it without its key"
        )
    if found["column"] and kind != "scores":
        raise ConfigError(f"method {method}: score={kind}:{rest}: a list has no columns; leave {found['column']} out")
    return FileRanking(kind, path, key, found["column"] or "")


def _content_key(path: Path, where: str) -> str:
    """Return the key of a file's content.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        return file_key(path, 16)
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read ({error.strerror}), expected a list of training images") from error


def _spelled(value: Any) -> str:
    return "null" if value is None else plain_value(value)
