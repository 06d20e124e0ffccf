"""Training protocols: frozen, named, versioned presets (values: paper.md section 1, the authors' YAML files).

A protocol that differs from its preset says so in its name, `hard*epochs=60`, so that two protocols never share
a column of a table. Imports no torch: planning a sweep must be quick.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from fastdc.errors import ConfigError
from fastdc.settings import Settings, closest, parse_settings

SMALL_BATCH_RANGE = (10, 128)


class Protocol(Settings):
    """How a network is trained from scratch on a compressed set and validated.

    Attributes:
        base: name of the preset it starts from.
        version: raised whenever the preset's meaning changes; part of every cache key.
        epochs: passes over the stored images, one augmented view of each per epoch.
        batch_size: images per step, or "small" for clamp(N/10, 10, 128) with N stored images.
        optimizer: `adamw`, or `sgd` (Nesterov off). The benchmark's "pruning settings" are optimizer=sgd, lr=0.1,
            weight_decay=1e-4, all three to be set.
        lr: learning rate at the first epoch.
        weight_decay: `adamw` applies it to weights of two or more dimensions only, `sgd` to every parameter.
        momentum: of `sgd`.
        schedule: `cosine` is a half wave to 0, updated per epoch; `constant` keeps `lr`.
        crop_scale_min: smallest crop area of RandomResizedCrop, as a share of the image; the largest is 1.
        flip: random horizontal flip.
        order: `own` shuffles by the training seed; `shared` gives all seeds one order of samples, so that several can
            be trained from one stream of decoded images. Initial weights and augmentation stay the seed's own.
        label_smoothing: share of the label spread over all classes.
        validate_every: epochs between validations, counted from epoch 0; the last epoch is always validated.
        validate_resize: shorter side before the centre crop of S, as a multiple of S (256/224).
    """

    base: str
    version: int = 1
    epochs: int = Field(300, ge=1)
    batch_size: int | Literal["small"] = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    schedule: Literal["cosine", "constant"] = "cosine"
    crop_scale_min: float = Field(0.08, gt=0, le=1)
    flip: bool = True
    order: Literal["own", "shared"] = "own"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    validate_every: int = Field(50, ge=1)
    validate_resize: float = Field(256 / 224, ge=1)

    @model_validator(mode="after")
    def _batch_in_range(self) -> "Protocol":
        if isinstance(self.batch_size, int) and self.batch_size < 1:
            raise ValueError("batch_size must be at least 1")
        return self

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `order` where it says nothing new: it came later, and old results keep their keys."""
        fields: dict[str, Any] = dump(self)
        return fields if self.order != "own" else {key: value for key, value in fields.items() if key != "order"}

    @property
    def name(self) -> str:
        """The preset's name, with everything that differs from it: `hard*batch_size=64,epochs=60`."""
        preset = PRESETS[self.base]
        changed = {key: value for key, value in self if value != getattr(preset, key)}
        if not changed:
            return self.base
        return f"{self.base}*{','.join(f'{key}={_plain(changed[key])}' for key in sorted(changed))}"

    def batch_for(self, images: int) -> int:
        """Images per step for a set of `images` stored images."""
        if self.batch_size == "small":
            low, high = SMALL_BATCH_RANGE
            return min(max(images // 10, low), high)
        return self.batch_size

    def validated(self, epoch: int) -> bool:
        """Whether validation runs after `epoch` (counted from 0)."""
        return epoch % self.validate_every == 0 or epoch == self.epochs - 1


PRESETS: dict[str, Protocol] = {
    "hard": Protocol(base="hard"),
    "hard-small": Protocol(base="hard-small", batch_size="small"),
}


def get_protocol(name: str, overrides: Mapping[str, Any] | None = None) -> Protocol:
    """A preset by name, or a changed one by its full name (`hard*epochs=60`), with further overrides.

    Raises:
        ConfigError: unknown preset (with the closest one), unknown setting, or a value out of range.
    """
    base, _, changes = name.partition("*")
    if base not in PRESETS:
        raise ConfigError(f"unknown protocol '{base}'; {closest(base, PRESETS)}")
    settings = parse_settings(changes.split(",")) if changes else {}
    settings.update(overrides or {})
    for fixed in ("base", "version"):
        if fixed in settings:
            raise ConfigError(f"protocol {base}: '{fixed}' cannot be changed; it identifies the preset")
    return Protocol.make({**PRESETS[base].model_dump(), **settings}, f"protocol {base}")


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
