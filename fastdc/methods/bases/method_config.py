"""Base of methods' settings: which enter keys, which are inferred, and which have no effect."""

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Literal

from fastdc.beton.hints import TileRule
from fastdc.common.settings import Settings

Fit = Literal["crop", "squash", "pad"]
Keep = Literal["easy", "hard"]
Resize = Literal["antialias", "nearest"]


class MethodConfig(Settings):
    """Base class of every method's settings; a subclass states unit, range and source of each field.

    Attributes:
        fit: how a kept image becomes S x S: `crop` (shorter side to S, centre crop), `squash`, or `pad` with black.
        augment: crops that training takes of the stored images, in the form that `--augment tile:...` applies to every
            set. They travel with the set as its hints. null leaves the hints to the method; most methods give none.
    """

    later_settings: ClassVar[tuple[str, ...]] = ("augment",)
    """Settings that a later release added. At their defaults they stay out of keys, so that older subsets are found.

    A class's settings are added to those of its bases.
    """

    fit: Fit = "crop"
    augment: TileRule | None = None

    def identity(self) -> dict[str, Any]:
        """Return the settings on which a subset depends, as plain data.

        Later settings at their defaults are left out.
        """
        values = self.model_dump(mode="json")
        old = {name for name in _later_settings(type(self)) if self.is_default(name)}
        return {name: value for name, value in values.items() if name not in old}

    def refuse_unread(self, unread: Mapping[str, str]) -> None:
        """Refuse a setting that would make its own row but change nothing.

        Args:
            unread: settings that have no effect, each with the reason.

        Raises:
            ValueError: one of them is not at its default; in a validator this becomes a ConfigError.
        """
        for name, why in unread.items():
            if not self.is_default(name):
                raise ValueError(f"{name}={plain_value(getattr(self, name))} changes nothing {why}; leave it out")


@cache
def _later_settings(config: type[MethodConfig]) -> frozenset[str]:
    """Return the later settings of a class and of its bases."""
    # vars() instead of getattr(), because each class lists only the settings that it adds itself.
    return frozenset(name for base in config.__mro__ for name in vars(base).get("later_settings", ()))


def inferred_settings(config: type[MethodConfig]) -> list[str]:
    """Return the settings whose default is inferred, not published."""
    # A field's description is the marker; see Field(..., description="inferred").
    return [name for name, field in config.model_fields.items() if field.description == "inferred"]


def plain_value(value: Any) -> str:
    """Return a setting's value as the name of a variant shows it."""
    if isinstance(value, list | tuple):
        return "+".join(map(plain_value, value))  # a comma would begin the next setting
    return str(value).lower() if isinstance(value, bool) else str(value)
