"""Parse the rule by which training crops a stored image: the subset's own, none, or one for all sets.

The module imports no torch.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import AfterValidator

from fastdc.common.errors import ConfigError

METHOD, PROTOCOL, TILE = "method", "protocol", "tile"
TILE_FORM = f"{TILE}:GRID[+whole=SHARE][+align=SHARE][+scale=LOW-HIGH][+views=COUNT]"
FORMS = f"{METHOD}, {PROTOCOL} or {TILE_FORM}"
EXPECTED = {
    "tile_grid": "a whole number",
    "tile_whole": "a share",
    "tile_align": "a share",
    "tile_scale": "two shares, low and high",
    "tile_views": "a whole number",
}
HINTS = tuple(EXPECTED)
MAX_GRID, MAX_VIEWS = 16, 64
"""Most tiles per side and most views; every rule and every view of training keeps to them."""
VALUES = {
    "tile_grid": f"GRID from 1 to {MAX_GRID}",
    "tile_whole": "SHARE from 0 to 1",
    "tile_align": "SHARE from 0 to 1",
    "tile_scale": "LOW-HIGH, two shares of a tile's area",
    "tile_views": f"COUNT from 1 to {MAX_VIEWS}",
}
"""Form of each hint as a text."""
_HINT_ADVICE = "make the set again, or train with --augment protocol"
NUMBER = r"\d+(?:\.\d+)?"
PART = re.compile(
    rf"(?P<name>whole|align)=(?P<share>{NUMBER})|scale=(?P<low>{NUMBER})-(?P<high>{NUMBER})|views=(?P<views>\d{{1,9}})"
)


class TileCrop(NamedTuple):
    """Rule by which training crops a mosaic; see `fastdc.loader.TrainView` for the meaning of each field.

    Attributes:
        grid: tiles per side; 1 crops from the whole image, as the protocol does.
        whole: share of visits that crop from the whole mosaic, 0..1.
        align: share of the other visits whose window is a tile, 0..1.
        scale: lowest and highest area of a crop, as a share of its tile; None means the protocol's.
        views: visits to each stored image in an epoch, 1..64; the paper uses 1. The number of steps grows with it.
    """

    grid: int = 1
    whole: float = 0.0
    align: float = 1.0
    scale: tuple[float, float] | None = None
    views: int = 1

    @property
    def hints(self) -> dict[str, Any]:
        """Return the rule as training hints of a manifest; defaults are left out, so that old sets keep their hash."""
        values: dict[str, Any] = dict(zip(HINTS, self, strict=True))
        values["tile_scale"] = list(self.scale) if self.scale else None
        defaults = dict(zip(HINTS, TileCrop(), strict=True))
        return {name: value for name, value in values.items() if value != defaults[name]}

    @property
    def unread(self) -> dict[str, str]:
        """Return the fields that no visit reads, each with the reason."""
        if self.grid == 1:
            return dict.fromkeys(("whole", "align", "scale"), "with grid 1, whose only tile is the whole image")
        if self.whole == 1:
            return dict.fromkeys(("align", "scale"), "with whole=1, where no visit crops inside a tile")
        return {}


def tile_crop(augment: str, hints: Mapping[str, Any]) -> TileCrop:
    """Return the cropping rule of a training.

    Args:
        augment: `method` follows the hints, `protocol` ignores them, `tile:...` replaces them for every set.
        hints: the hints in the subset's manifest.

    Raises:
        ConfigError: a hint has the wrong type or an invalid value.
    """
    if augment.startswith(f"{TILE}:"):
        return _parse(augment)
    if augment == PROTOCOL:
        return TileCrop()
    values = {name.removeprefix("tile_"): _hint(name, hints[name]) for name in HINTS if name in hints}
    try:
        return _check_rule(TileCrop(**values))
    except ValueError as error:
        raise ConfigError(f"hint of the training set: tile_{error}; {_HINT_ADVICE}") from error


def stored_hints(augment: str | None, hints: Mapping[str, Any]) -> dict[str, Any]:
    """Return hints with the crops of `augment` (`tile:...`), if given, in place of their own."""
    if augment is None:
        return dict(hints)
    return {name: value for name, value in hints.items() if name not in HINTS} | tile_crop(augment, {}).hints


def _hint(name: str, value: Any) -> Any:
    """Convert one hint to the type that `TileCrop` holds."""
    try:
        if name in ("tile_grid", "tile_views"):
            return _whole(value)
        if name != "tile_scale":
            return _number(value)
        low, high = (None, None) if value is None else map(_number, value)
        return None if low is None or high is None else (low, high)
    except (TypeError, ValueError, OverflowError) as error:
        wanted = f"expected {EXPECTED[name]}"
        raise ConfigError(f"hint {name}={value!r} of the training set: {wanted}; {_HINT_ADVICE}") from error


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError("a truth value is not a number")
    return float(value)


def _whole(value: Any) -> int:
    """Convert 2, and also 2.0 and "2", which earlier releases accepted."""
    number = int(value)
    if isinstance(value, bool) or (isinstance(value, float) and number != value):
        raise ValueError("expected a whole number")
    return number


def _check_rule(rule: TileCrop) -> TileCrop:
    """Return a rule with all values in range.

    Raises:
        ValueError: begins with the name of the field and its value.
    """
    if not 1 <= rule.grid <= MAX_GRID:
        raise ValueError(f"grid={rule.grid}: expected {VALUES['tile_grid']}")
    for name in ("whole", "align"):
        if not 0 <= getattr(rule, name) <= 1:
            raise ValueError(f"{name}={getattr(rule, name)}: shares lie between 0 and 1")
    if rule.scale is not None and not 0 < rule.scale[0] <= rule.scale[1] <= 1:
        low, high = rule.scale
        raise ValueError(f"scale={low}-{high}: expected 0 < LOW <= HIGH <= 1, shares of a tile's area")
    if not 1 <= rule.views <= MAX_VIEWS:
        raise ValueError(f"views={rule.views}: expected 1 to {MAX_VIEWS} views of an image in an epoch")
    return rule


def parse_hints(texts: Sequence[str]) -> dict[str, Any]:
    """Return the hints of a set of mosaics as a manifest holds them, from texts such as `tile_grid=2`.

    `tile_scale` is LOW-HIGH. Values that are the default are left out.

    Raises:
        ConfigError: a text is not NAME=VALUE with a name of `HINTS`, a name is repeated, a value is out of range, or a
            hint changes nothing.
    """
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.replace(" ", "").partition("=")
        if name not in HINTS or not equals:
            raise ConfigError(f"hint {text!r}: expected NAME=VALUE, with NAME one of {', '.join(HINTS)}")
        if name in values:
            raise ConfigError(f"hint {name} is given twice; give it once")
        grids = map(str, range(1, MAX_GRID + 1))
        if not (value in grids if name == "tile_grid" else PART.fullmatch(f"{name.removeprefix('tile_')}={value}")):
            raise ConfigError(f"hint {text!r}: expected {name}={VALUES[name]}")
        values[name] = value
    if values == {"tile_grid": "1"}:
        raise ConfigError("hint tile_grid=1 crops from the whole image in every visit, as without hints; leave it out")
    grid = values.pop("tile_grid", "1")
    parts = [f"+{name.removeprefix('tile_')}={value}" for name, value in values.items()]
    try:
        return _parse(check_tiles(f"{TILE}:{grid}{''.join(parts)}")).hints if texts else {}
    except ValueError as error:
        raise ConfigError(f"hints {' '.join(texts)}: {error}") from error


def show_hints(hints: Mapping[str, Any]) -> str:
    """Return the crop that hints stand for as `parse_hints` reads it, `tile_grid=2 tile_whole=0.25`; empty without one.

    Raises:
        ConfigError: as for `tile_crop`.
    """
    texts = {name: map(_plain, np.atleast_1d(value)) for name, value in tile_crop(METHOD, hints).hints.items()}
    return " ".join(f"{name}={'-'.join(numbers)}" for name, numbers in texts.items())


def check_augment(text: str) -> str:
    """Return the rule in canonical spelling, so that two spellings share one column and one key.

    Raises:
        ValueError: the text matches none of `FORMS`, a value is out of range, or a part has no effect.
    """
    text = text.replace(" ", "")
    if text in (METHOD, PROTOCOL):
        return text
    rule = _parse(text)
    _refuse_unread(text, rule)
    parts = [f"{TILE}:{rule.grid}"]
    parts += [f"whole={_plain(rule.whole)}"] if rule.whole else []
    parts += [f"align={_plain(rule.align)}"] if rule.align != 1.0 else []
    parts += [f"scale={_plain(rule.scale[0])}-{_plain(rule.scale[1])}"] if rule.scale else []
    parts += [f"views={rule.views}"] if rule.views != 1 else []
    return "+".join(parts)


def check_tiles(text: str) -> str:
    """Return a tile rule in canonical spelling.

    Raises:
        ValueError: as for `check_augment`; also for `method` and `protocol`, which are not tile rules.
    """
    text = check_augment(text)
    if not text.startswith(f"{TILE}:"):
        raise ValueError(f"{text} is what a set without this setting does; expected {TILE_FORM}")
    return text


def _refuse_unread(text: str, rule: TileCrop) -> None:
    """Refuse a rule that has no effect but would get its own column.

    Raises:
        ValueError: names the part and the reason.
    """
    for name, why in rule.unread.items():
        if getattr(rule, name) != TileCrop._field_defaults[name]:
            raise ValueError(f"{name} changes nothing {why}; leave it out")
    if (rule.grid, rule.views) == (1, 1) or (rule.grid > 1 and rule.whole == 1):
        same = PROTOCOL if rule.views == 1 else f"{TILE}:1+views={rule.views}"
        raise ValueError(f"{text} crops from the whole image in every visit, as {same} does; take that")


def _plain(number: float) -> str:
    """Format a share so that `_parse` can read it; `:g` would write small ones as 1e-05."""
    return np.format_float_positional(number, trim="-")


def _parse(text: str) -> TileCrop:
    head, *parts = text.split("+")
    kind, _, grid = head.partition(":")
    if kind != TILE or not grid.isdecimal():
        raise ValueError(f"expected {FORMS}, with {VALUES['tile_grid']}")
    values: dict[str, Any] = {}
    for part in parts:
        found = PART.fullmatch(part)
        if found is None:
            raise ValueError(f"'{part}' is not understood; expected {FORMS}")
        name = part.partition("=")[0]
        if name in values:
            raise ValueError(f"{name} is given twice")
        values[name] = _value(found)
    return _check_rule(TileCrop(int(grid), **values))


def _value(found: re.Match[str]) -> Any:
    """Convert one part to the type that `TileCrop` holds."""
    if found["views"]:
        return int(found["views"])
    return float(found["share"]) if found["name"] else (float(found["low"]), float(found["high"]))


Augment = Annotated[str, AfterValidator(check_augment)]
"""Type of a setting that holds a cropping rule."""

TileRule = Annotated[str, AfterValidator(check_tiles)]
"""Type of a setting that holds a tile rule, such as `tile:2+whole=0.25`."""
