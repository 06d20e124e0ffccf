"""Settings of a method: which of them enter keys, which are inferred, and which nothing reads."""

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Literal

from fastdc.beton.hints import TileRule
from fastdc.settings import Settings

Fit = Literal["crop", "squash", "pad"]


class MethodConfig(Settings):
    """Base of every method's settings. A subclass states unit, range and source of each field.

    Attributes:
        fit: how a kept image becomes S x S: `crop` (shorter side to S, centre crop), `squash`, or `pad` with black.
        augment: crops that training takes of the stored images, as `--augment tile:...` gives them to every set; they
            travel with the set as its hints. null leaves the hints to the method, most of which give none.
    """

    later_settings: ClassVar[tuple[str, ...]] = ("augment",)
    """Settings that a release added; at their defaults they stay out of keys, so that older subsets are found.

    Those of a class are added to its bases'.
    """

    fit: Fit = "crop"
    augment: TileRule | None = None

    def identity(self) -> dict[str, Any]:
        """Return what a subset depends on, as plain data."""
        values = self.model_dump(mode="json")
        old = {name for name in _later_settings(type(self)) if self.is_default(name)}
        return {name: value for name, value in values.items() if name not in old}

    def is_default(self, name: str) -> bool:
        """Return whether a setting has its default value."""
        return bool(getattr(self, name) == type(self).model_fields[name].default)

    def refuse_unread(self, unread: Mapping[str, str]) -> None:
        """Refuse a setting that would make a row of its own and change nothing.

        Args:
            unread: settings that nothing reads, each with the reason.

        Raises:
            ValueError: names the first that is not at its default; in a validator it becomes a ConfigError.
        """
        for name, why in unread.items():
            if not self.is_default(name):
                raise ValueError(f"{name}={plain_value(getattr(self, name))} changes nothing {why}; leave it out")


@cache
def _later_settings(config: type[MethodConfig]) -> frozenset[str]:
    """Those of a class and of its bases."""
    return frozenset(name for base in config.__mro__ for name in vars(base).get("later_settings", ()))


def inferred_settings(config: type[MethodConfig]) -> list[str]:
    """Settings whose default is not published but inferred by us."""
    return [name for name, field in config.model_fields.items() if field.description == "inferred"]


def plain_value(value: Any) -> str:
    """Return a setting's value as a variant's name shows it."""
    if isinstance(value, list | tuple):
        return "+".join(map(plain_value, value))  # a comma would begin the next setting
    return str(value).lower() if isinstance(value, bool) else str(value)
