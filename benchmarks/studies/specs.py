"""Read the questions of the study: questions.yaml (tables, contrasts) and claims.yaml (made beforehand)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator

from fastdc.common.errors import ConfigError, FastDCError
from fastdc.common.settings import Settings, expand_numbers, first_problem
from fastdc.methods import parse_variant, variant_name
from fastdc.sweep.yaml_file import read_yaml

AXES = ("method", "ipc", "protocol", "arch", "augment", "image_size", "precision", "observer")
Kind = TypeVar("Kind", bound=Settings)
Value = str | int | float | None
Side = dict[str, Value]
"""One side of a comparison: values of axes, `method` among them."""


def spelled(method: str) -> str:
    """Return a method as rows spell it: settings sorted, defaults left out; an unknown method is unchanged."""
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
    """Return a side as a mapping of axes; a plain text is the method."""
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
    """Comparison of two rows seed by seed: the accuracy of `a` minus that of `b`.

    Attributes:
        name: short name. a, b: each a method, or a mapping of axes.
        column: axes that both sides share; they override the file's own `column`.
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
    """Contrast with a claim made beforehand.

    Attributes:
        statement: the claim in words. direction: ">" claims that `a` is better, "<" that `b` is.
    """

    statement: str
    direction: Literal[">", "<"] = ">"


class Claims(Settings):
    """Content of claims.yaml.

    Attributes:
        note: what was known when the claims were made. column: axes of sides that do not name them.
        seeds: the seeds that verdicts read, such as "2-9"; empty for all. Seeds that were known when the claims were
            made belong outside.
        pairs: paired seeds that a verdict needs. level: significance level of the adjusted p.
        claims: the claims, which form one family.
    """

    note: str = ""
    column: Side
    seeds: tuple[int, ...] = ()
    pairs: int = Field(8, ge=2)
    level: float = Field(0.05, gt=0, lt=1)
    claims: tuple[Claim, ...]

    @field_validator("seeds", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        return expand_numbers(value) if isinstance(value, str) else value


class Table(Settings):
    """Selection of rows, with one table for every setting of the axes other than `lines`.

    Attributes:
        methods: as rows spell them, with `*` for any text: `pca[*]` is pca with any settings, `pca[score=*` with any
            score.
        where: accepted values per axis, texts as shell patterns; an axis that is missing accepts all.
        lines: axes in which the lines of one table differ.
        baseline: side that every line is compared with; axes that it leaves out are the line's own.
        curves: whether to draw accuracy against epochs too.
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
    """Question of the study.

    Attributes:
        id: its letter. title: its words. note: a remark.
        tables, contrasts: what answers it.
        entropy: methods for whose images `study.py entropy` measures a network's entropy, at the file's IPC.
    """

    id: str
    title: str
    note: str = ""
    tables: tuple[Table, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    entropy: tuple[str, ...] = ()


class Questions(Settings):
    """Content of questions.yaml; `column` holds axes of the sides of contrasts that do not name them."""

    column: Side
    questions: tuple[Question, ...]


def read_questions(study: Path) -> Questions:
    """Return the questions of DIR/questions.yaml.

    Raises:
        ConfigError: the file is invalid; names line and field.
    """
    return _read(study / "questions.yaml", Questions)


def read_claims(study: Path) -> Claims:
    """Return the claims of DIR/claims.yaml.

    Raises:
        ConfigError: the file is invalid, with line and field, or two claims share a name.
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
        while place and place not in document.lines:  # a missing field has no line: use that of its parent
            place = place[:-1]
        raise ConfigError(f"{path}:{document.lines.get(place, 1)}: {first_problem(error)}") from error
