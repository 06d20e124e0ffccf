"""Training protocols: frozen, named, versioned presets, a file of `fastdc.train.presets` each.

A protocol that differs from its preset has the differences in its name, as in `hard*epochs=60`. Two protocols
therefore never share a column of a table. Imports no torch, so that planning a sweep is quick.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from fastdc.common.errors import ConfigError
from fastdc.common.registry import Registry
from fastdc.common.settings import Settings, parse_settings
from fastdc.train.schedules import BATCH_RULES, BatchRule, EpochRule, Schedule, epochs_by_ipc

Labels = Literal["hard", "online", "stored"]
Mix = Literal["none", "cutmix", "mixup", "cutout"]
BatchAugment = Literal["none", "dsa", "idc", "jitter"]
MIX_ALPHA = {"none": 1.0, "cutmix": 1.0, "mixup": 0.8, "cutout": 1.0}
"""Default of `mix_alpha`, from the benchmark's YAML files."""
ENTRY_POINT_GROUP = "fastdc.protocols"
FIRST = ("hard", "hard-small", "hard-sgd", "soft", "soft-small", "cim-hl")
NO_LOADER_CROP = "crops and flips are DSA's alone; an image or tile is loaded whole"
LAST_EPOCH = "the last epoch is reported; the source reports its best validation"
MIXED_CLASSES = ("cutmix", "mixup")
"""Kinds of mixing after which an image holds two classes."""

SOFT_FIELDS = ("temperature", "loss", "ce_weight")
"""Settings that apply to labels=online and labels=stored only."""
STORED_FIELDS = ("label_topk", "label_ratio", "label_seed")
"""Settings that apply to labels=stored only."""
RECIPE_FIELDS = ("mix_target", "batch_augment", "decay_all", "tile_whole")
"""Settings that recipes of other papers use, and the benchmark's tables 12 and 22."""
LATER_FIELDS = frozenset({"order", "labels", "mix", "mix_alpha", *SOFT_FIELDS, *STORED_FIELDS, *RECIPE_FIELDS})
"""Fields added after version 1. At their defaults they are not serialised, so that older results keep their keys."""


class Protocol(Settings):
    """Settings that train a network from scratch on a compressed set and validate it.

    Attributes:
        base: name of the preset it starts from.
        version: raised whenever the preset's meaning changes; part of every cache key.
        epochs: passes over the stored images, with one augmented view of each unless the set's crops require more. Or
            "ipc" for the number that MinimaxDiffusion's code uses for this many images per class
            (`fastdc.train.schedules`).
        batch_size: images per step, or the name of a rule (`fastdc.train.schedules`). With N stored images, "small" is
            clamp(N/10, 10, 128), and "cim" is 10, 50, 100 or 200.
        optimizer: `adamw`, or `sgd` (without Nesterov momentum).
        lr: learning rate of the first epoch.
        weight_decay: `adamw` applies it only to weights of two or more dimensions, `sgd` to every parameter.
        decay_all: whether `adamw` decays every parameter too.
        momentum: momentum of `sgd`.
        schedule: learning rate by epoch. `cosine` is a half wave to 0, `linear` a line to 0, `constant` keeps `lr`;
            `idc` and `dc` are steps (`fastdc.train.schedules`).
        crop_scale_min: smallest crop area of RandomResizedCrop, as a share of the image; the largest is 1. At 1 the
            network sees the whole image, or the whole tile of a mosaic.
        tile_whole: share of visits to a mosaic that see all of it, or "grid" for 1 / grid**2. It applies with
            `augment=method` only, where the set's hints have a tile_grid but no tile_whole.
        flip: whether to flip images horizontally at random.
        batch_augment: random augmentation on the device, after crop and flip (`fastdc.train.batch_augment`). `dsa` is
            one of six operations per batch (Zhao & Bilen, ICML 2021), `idc` several of them (Kim et al., ICML 2022;
            CIM), `jitter` colour jitter and lighting (MinimaxDiffusion).
        order: `own` shuffles by the training seed. `shared` gives all seeds one order of samples, so that several
            networks can train from one stream of decoded images. Initial weights and augmentation still follow the
            seed.
        label_smoothing: share of the label that is spread over all classes; for hard labels only.
        validate_every: epochs between validations, counted from epoch 0; the last epoch is always validated.
        validate_resize: shorter side before the centre crop of S, as a multiple of S (256/224).
        labels: `hard` is the stored class. `online` are the logits of a teacher in eval mode for every training batch,
            as the network sees it. `stored` are the same logits, computed once before training and read from a file
            (FKD; Shen & Xing, "A Fast Knowledge Distillation Framework for Visual Recognition", ECCV 2022). Order,
            crops, flips and mixing then follow `label_seed`; initial weights still follow the training seed.
        mix: mixing, with one draw per batch. `cutmix` pastes a box from another image of the batch into every image
            (Yun et al., ICCV 2019); `mixup` averages two images (Zhang et al., ICLR 2018). Hard labels are then mixed
            by share, and a teacher sees the mixed images. `cutout` blanks a square of half the side (DeVries & Taylor,
            2017; the side is inferred).
        mix_alpha: Beta(mix_alpha, mix_alpha) gives the share that an image keeps; None is 1 for `cutmix` and 0.8 for
            `mixup`.
        mix_target: hard label of a mixed image. `mixed` is its classes by share; `own` is the class of the image
            itself, as in the benchmark's released code.
        temperature: divisor of the logits of both teacher and student before the softmax of `kl`.
        loss: loss of soft labels. `kl` is KL(teacher || student) at `temperature`, mean over the batch, without the
            factor temperature**2. `mse_ce` is the mean squared difference of logits plus `ce_weight` times the
            cross-entropy with the (mixed) class.
        ce_weight: weight of the cross-entropy in `mse_ce` (G-VBSM: 0.1, EDC: 0.025).
        label_topk: number of logits per stored label, the largest ones (LPQLD's quantisation). The softmax is then over
            these alone, and the other classes have probability 0. None keeps all.
        label_ratio: stored labels keep one in this many batches of all epochs (LPLD's pruning, 10 to 40). Every
            training step draws one of the kept batches, with replacement.
        label_seed: seed of everything random in stored labels.
    """

    base: str
    version: int = 1
    epochs: int | EpochRule = 300
    batch_size: int | BatchRule = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    schedule: Schedule = "cosine"
    crop_scale_min: float = Field(0.08, gt=0, le=1)
    flip: bool = True
    order: Literal["own", "shared"] = "own"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    validate_every: int = Field(50, ge=1)
    validate_resize: float = Field(256 / 224, ge=1)
    labels: Labels = "hard"
    mix: Mix = "none"
    mix_alpha: float | None = Field(None, gt=0)
    temperature: float = Field(20.0, gt=0)
    loss: Literal["kl", "mse_ce"] = "kl"
    ce_weight: float = Field(0.1, ge=0)
    label_topk: int | None = Field(None, ge=1)
    label_ratio: int = Field(1, ge=1)
    label_seed: int = Field(0, ge=0)
    mix_target: Literal["mixed", "own"] = "mixed"
    batch_augment: BatchAugment = "none"
    decay_all: bool = False
    tile_whole: float | Literal["grid"] = 0.0

    @field_validator("epochs", mode="plain")
    @classmethod
    def _count_or_rule(cls, value: Any) -> int | EpochRule:
        if value == "ipc":
            return "ipc"
        expected = "expected a whole number of at least 1, or ipc"
        try:
            number = int(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(expected) from None
        if number < 1 or (not isinstance(value, str) and number != value):
            raise ValueError(expected)
        return number

    @field_validator("mix_alpha", mode="after")
    @classmethod
    def _one_spelling(cls, value: float | None, info: ValidationInfo) -> float | None:
        """Turn the default of this kind of mixing into None, so that both spellings have one name and one key."""
        return None if value == MIX_ALPHA.get(info.data.get("mix", "none")) else value

    @field_validator("tile_whole", mode="after")
    @classmethod
    def _share(cls, value: float | Literal["grid"]) -> float | Literal["grid"]:
        if value != "grid" and not 0 <= value <= 1:
            raise ValueError("expected a share, 0 to 1, or grid")
        return value

    @model_validator(mode="after")
    def _batch_in_range(self) -> "Protocol":
        if isinstance(self.batch_size, int) and self.batch_size < 1:
            raise ValueError("batch_size must be at least 1")
        return self

    @model_validator(mode="after")
    def _settings_are_read(self) -> "Protocol":
        """Refuse a setting that would change the protocol's name but not its results."""
        for name, where in (self._unread_of_labels() | self._unread_of_training()).items():
            if not self.is_default(name):
                raise ValueError(f"{name} is read {where}")
        if self.soft and self.label_smoothing > 0:
            raise ValueError(f"label_smoothing is for hard labels, found labels={self.labels}")
        if self.loss == "mse_ce" and self.label_topk is not None:
            raise ValueError("label_topk needs loss=kl: mse_ce compares all logits")
        return self

    def _unread_of_labels(self) -> dict[str, str]:
        """Return the settings without effect under these labels and loss, each with the condition for an effect."""
        labels = f"found labels={self.labels}"
        unread: dict[str, str] = {}
        if self.labels != "stored":
            unread |= dict.fromkeys(STORED_FIELDS, f"with labels=stored only, {labels}")
        else:
            unread["order"] = f"with labels=hard or labels=online only, {labels}: seeds share an order anyway"
        if not self.soft:
            unread |= dict.fromkeys(SOFT_FIELDS, f"with labels=online or labels=stored only, {labels}")
        elif self.loss == "kl":
            unread["ce_weight"] = "with loss=mse_ce only, found loss=kl"
        else:
            unread["temperature"] = "with loss=kl only, found loss=mse_ce"
        return unread

    def _unread_of_training(self) -> dict[str, str]:
        """Return the settings without effect under this mixing and optimizer, as `_unread_of_labels` does."""
        unread: dict[str, str] = {}
        if self.soft:
            unread["mix_target"] = f"with labels=hard only, found labels={self.labels}"
        if self.mix not in MIXED_CLASSES:
            where = f"with mix=cutmix or mix=mixup only, found mix={self.mix}"
            unread |= dict.fromkeys(("mix_alpha", "mix_target"), where)
        if self.optimizer == "sgd":
            unread["decay_all"] = "with optimizer=adamw only, found optimizer=sgd, which decays every parameter"
        else:
            unread["momentum"] = f"with optimizer=sgd only, found optimizer={self.optimizer}"
        return unread

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Serialise without the `LATER_FIELDS` that are at their defaults."""
        fields: dict[str, Any] = dump(self)
        return {key: value for key, value in fields.items() if key not in LATER_FIELDS or not self.is_default(key)}

    @property
    def name(self) -> str:
        """Return the preset's name followed by all differences from it, as in `hard*batch_size=64,epochs=60`."""
        preset = protocols().get(self.base).protocol
        changed = {key: value for key, value in self if value != getattr(preset, key)}
        if not changed:
            return self.base
        return f"{self.base}*{','.join(f'{key}={_plain(changed[key])}' for key in sorted(changed))}"

    @property
    def soft(self) -> bool:
        """Return whether labels come from a teacher."""
        return self.labels != "hard"

    @property
    def shares_order(self) -> bool:
        """Return whether all training seeds use one order of samples, so that they can share a stream."""
        return self.order == "shared" or self.labels == "stored"

    @property
    def alpha(self) -> float:
        """Return the parameter of the Beta distribution of `mix`."""
        return MIX_ALPHA[self.mix] if self.mix_alpha is None else self.mix_alpha

    def batch_for(self, images: int) -> int:
        """Return the images per step for a set of `images` stored images."""
        return self.batch_size if isinstance(self.batch_size, int) else BATCH_RULES[self.batch_size](images)

    def epochs_for(self, images: int, classes: int) -> int:
        """Return the number of epochs for a set of `images` stored images in `classes` classes."""
        return epochs_by_ipc(images // classes, classes) if self.epochs == "ipc" else self.epochs

    def validated(self, epoch: int, epochs: int) -> bool:
        """Return whether validation runs after `epoch` (counted from 0) of `epochs`."""
        return epoch % self.validate_every == 0 or epoch == epochs - 1

    def whole_share(self, grid: int) -> float:
        """Return the share of visits to a mosaic of grid x grid tiles that see all of it."""
        return 1 / grid**2 if self.tile_whole == "grid" else self.tile_whole


@dataclass(frozen=True)
class Recipe:
    """Origin of a preset.

    Attributes:
        title: one-line description.
        source: paper, repository and commit.
        inferred: settings that the source does not state.
        notes: differences from the source, or what the source does for other sets.
    """

    title: str
    source: str
    inferred: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Preset(NamedTuple):
    """Protocol under its own name, which is its `base`, and where it comes from."""

    protocol: Protocol
    recipe: Recipe


@cache
def protocols() -> Registry[Preset]:
    """Return the presets of `fastdc.train.presets`, then those of other packages."""
    registry: Registry[Preset] = Registry("protocol", Preset, lambda preset: preset.protocol.base, ConfigError)
    registry.load_folder("fastdc.train.presets")
    registry.load_plugins(ENTRY_POINT_GROUP)
    return registry


def all_protocols() -> dict[str, Preset]:
    """Return every usable preset by name, the benchmark's first and the others in alphabetical order."""
    presets = protocols().parts
    return {name: presets[name] for name in (*FIRST, *sorted(set(presets) - set(FIRST)))}


def get_protocol(name: str, overrides: Mapping[str, Any] | None = None) -> Protocol:
    """Return a preset by its name, or a changed one by its full name (`hard*epochs=60`), with further overrides.

    Raises:
        ConfigError: unknown preset (the message names the closest one), unknown setting, a value out of range, or a
            setting without effect.
    """
    base, _, changes = name.partition("*")
    preset = protocols().get(base).protocol
    settings = parse_settings(changes.split(",")) if changes else {}
    settings.update(overrides or {})
    for fixed in ("base", "version"):
        if fixed in settings:
            raise ConfigError(f"protocol {base}: '{fixed}' cannot be changed; it identifies the preset")
    return Protocol.make({**preset.model_dump(), **settings}, f"protocol {base}")


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
