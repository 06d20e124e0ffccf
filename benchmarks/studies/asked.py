"""Read what the study asks of its rows: questions.yaml (tables, contrasts), claims.yaml (made beforehand)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator

from fastdc.errors import ConfigError, FastDCError
from fastdc.methods.base import parse_variant, variant_name
from fastdc.settings import Settings, first_problem
from fastdc.sweep.yaml_file import read_yaml

AXES = ("method", "ipc", "protocol", "arch", "augment", "image_size", "precision", "observer")
Kind = TypeVar("Kind", bound=Settings)
Value = str | int | float | None
Side = dict[str, Value]
"""One of two things that are compared: values of axes, `method` among them."""


def spelled(method: str) -> str:
    """Return a method as rows spell it: settings sorted, those at their defaults left out; an unknown one as it is."""
    from fastdc.methods import get_method

    try:
        name, settings = parse_variant(method)
        known = get_method(name)
        default = known.config_class().model_dump(mode="json")
        values = known.configure(settings).model_dump(mode="json")
    except FastDCError:
        return method
    return variant_name(name, {key: values[key] for key in settings if values[key] != default.get(key)})


def _side(value: Any) -> Any:
    """Return a side as a mapping of axes; a method alone stands for one."""
    side = {"method": value} if isinstance(value, str) else value
    if not isinstance(side, Mapping) or not isinstance(side.get("method"), str):
        raise ValueError("expected a method, or a mapping of axes that names one")
    _known_axes(side)
    return {**side, "method": spelled(side["method"])}


def _known_axes(value: Mapping[str, Any]) -> None:
    unknown = sorted(set(value) - set(AXES))
    if unknown:
        raise ValueError(f"found '{unknown[0]}', expected {', '.join(AXES)}")


class Contrast(Settings):
    """Two rows that are compared seed by seed: the accuracy of `a` less that of `b`.

    Attributes:
        name: in a few words. a, b: each a method, or a mapping of axes.
        column: axes that both have, beside the file's own `column`.
    """

    name: str
    a: Side
    b: Side
    column: Side = Field(default_factory=dict)

    _sides = field_validator("a", "b", mode="before")(_side)

    @field_validator("column")
    @classmethod
    def _axes(cls, value: Side) -> Side:
        _known_axes(value)
        return value


class Claim(Contrast):
    """A contrast that was claimed beforehand.

    Attributes:
        statement: in words. direction: ">" claims that `a` is better, "<" that `b` is.
    """

    statement: str
    direction: Literal[">", "<"] = ">"


class Claims(Settings):
    """claims.yaml. `pairs`: paired seeds that a verdict needs, `level`: of the adjusted p, `note`: what was known."""

    note: str = ""
    column: Side
    pairs: int = Field(8, ge=2)
    level: float = Field(0.05, gt=0, lt=1)
    claims: tuple[Claim, ...]


class Table(Settings):
    """A choice of rows, one table for every setting that they have apart from `lines`.

    Attributes:
        methods: as rows spell them, `*` for any text: `pca[*]` is pca with any settings, `pca[score=*` that of any
            score.
        where: per axis the values that are taken, texts as shell patterns; an axis left out takes all.
        lines: axes in which the lines of one table differ.
        baseline: what every line is compared with; the axes that it leaves out are the line's own.
        curves: draw accuracy against epochs too.
    """

    methods: tuple[str, ...]
    where: dict[str, tuple[Value, ...]] = Field(default_factory=dict)
    lines: tuple[str, ...] = ("method",)
    baseline: Side
    curves: bool = False

    _sides = field_validator("baseline", mode="before")(_side)

    @field_validator("methods")
    @classmethod
    def _spelled(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name if "*" in name else spelled(name) for name in value)

    @field_validator("where", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("expected a mapping of axes to values")
        _known_axes(value)
        return {axis: found if isinstance(found, list | tuple) else [found] for axis, found in value.items()}


class Question(Settings):
    """One question of the study: its letter, its words, what answers it.

    `entropy` names methods whose images a network is asked about (`study.py entropy`), at the file's IPC.
    """

    id: str
    title: str
    note: str = ""
    tables: tuple[Table, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    entropy: tuple[str, ...] = ()


class Questions(Settings):
    """questions.yaml. `column`: axes of every side of a contrast that it does not name itself."""

    column: Side
    questions: tuple[Question, ...]


def read_questions(study: Path) -> Questions:
    """Return the questions of DIR/questions.yaml.

    Raises:
        ConfigError: names line and field.
    """
    return _read(study / "questions.yaml", Questions)


def read_claims(study: Path) -> Claims:
    """Return the claims of DIR/claims.yaml.

    Raises:
        ConfigError: names line and field; or two claims have one name.
    """
    found = _read(study / "claims.yaml", Claims)
    names = [claim.name for claim in found.claims]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{study / 'claims.yaml'}: two claims are named '{twice[0]}'; name each once")
    return found


def _read(path: Path, kind: type[Kind]) -> Kind:
    document = read_yaml(path)
    try:
        return kind(**document.values)
    except ValidationError as error:
        place = tuple(error.errors()[0]["loc"])
        while place and place not in document.lines:
            place = place[:-1]
        raise ConfigError(f"{path}:{document.lines.get(place, 1)}: {first_problem(error)}") from error
