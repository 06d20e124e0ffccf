"""Which crops training takes of a stored image: the subset's own rule, none, or one for every set. Imports no torch."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator

METHOD, PROTOCOL, TILE = "method", "protocol", "tile"
FORMS = f"{METHOD}, {PROTOCOL} or {TILE}:GRID[+whole=SHARE][+align=SHARE][+scale=LOW-HIGH]"
HINTS = ("tile_grid", "tile_whole", "tile_align", "tile_scale")
NUMBER = r"\d+(?:\.\d+)?"
PART = re.compile(rf"(?P<name>whole|align)=(?P<share>{NUMBER})|scale=(?P<low>{NUMBER})-(?P<high>{NUMBER})")


class TileCrop(NamedTuple):
    """What training does with a mosaic; see `fastdc.loader.TrainView` for the meaning of each field.

    Attributes:
        grid: tiles per side; 1 crops from the whole image, as the protocol does.
        whole: share of visits that crop from the whole mosaic, 0..1.
        align: share of the other visits whose window is a tile, 0..1.
        scale: lowest and highest area of a crop, as a share of its tile; None takes the protocol's.
    """

    grid: int = 1
    whole: float = 0.0
    align: float = 1.0
    scale: tuple[float, float] | None = None

    @property
    def hints(self) -> dict[str, Any]:
        """The same as training hints of a manifest; defaults are left out, so that old sets keep their hashes."""
        values: dict[str, Any] = dict(zip(HINTS, self, strict=True))
        values["tile_scale"] = list(self.scale) if self.scale else None
        defaults = dict(zip(HINTS, TileCrop(), strict=True))
        return {name: value for name, value in values.items() if value != defaults[name]}


def tile_crop(augment: str, hints: Mapping[str, Any]) -> TileCrop:
    """Return the rule of a training.

    Args:
        augment: `method` follows the hints, `protocol` ignores them, `tile:...` replaces them for every set.
        hints: of the subset's manifest.
    """
    if augment.startswith(f"{TILE}:"):
        return _parse(augment)
    if augment == PROTOCOL:
        return TileCrop()
    values = {name.removeprefix("tile_"): hints[name] for name in HINTS if name in hints}
    if values.get("scale") is not None:
        values["scale"] = tuple(values["scale"])
    return TileCrop(**values)


def check_augment(text: str) -> str:
    """Return the rule in its one spelling, so that two spellings are one column and one key.

    Raises:
        ValueError: it is none of `FORMS`, or a value is out of range.
    """
    text = text.replace(" ", "")
    if text in (METHOD, PROTOCOL):
        return text
    rule = _parse(text)
    parts = [f"{TILE}:{rule.grid}"]
    parts += [f"whole={rule.whole:g}"] if rule.whole else []
    parts += [f"align={rule.align:g}"] if rule.align != 1.0 else []
    parts += [f"scale={rule.scale[0]:g}-{rule.scale[1]:g}"] if rule.scale else []
    return "+".join(parts)


def _parse(text: str) -> TileCrop:
    head, *parts = text.split("+")
    kind, _, grid = head.partition(":")
    if kind != TILE or not grid.isdecimal() or not 1 <= int(grid) <= 16:
        raise ValueError(f"augment '{text}': expected {FORMS}, with GRID from 1 to 16")
    values: dict[str, Any] = {}
    for part in parts:
        found = PART.fullmatch(part)
        if found is None:
            raise ValueError(f"augment '{text}': '{part}' is not understood; expected {FORMS}")
        name = found["name"] or "scale"
        if name in values:
            raise ValueError(f"augment '{text}': {name} is given twice")
        values[name] = float(found["share"]) if found["name"] else (float(found["low"]), float(found["high"]))
    rule = TileCrop(int(grid), **values)
    if not (0 <= rule.whole <= 1 and 0 <= rule.align <= 1):
        raise ValueError(f"augment '{text}': shares lie between 0 and 1")
    if rule.scale is not None and not 0 < rule.scale[0] <= rule.scale[1] <= 1:
        raise ValueError(f"augment '{text}': expected 0 < LOW <= HIGH <= 1, shares of a tile's area")
    return rule


Augment = Annotated[str, AfterValidator(check_augment)]
"""A setting that holds such a rule."""
