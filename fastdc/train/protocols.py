"""Training protocols: frozen, named, versioned presets (values: paper.md section 1, the authors' YAML files).

A protocol that differs from its preset says so in its name, `hard*epochs=60`, so that two protocols never share
a column of a table. Imports no torch: planning a sweep must be quick.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from fastdc.errors import ConfigError
from fastdc.settings import Settings, closest, parse_settings

Labels = Literal["hard", "online", "stored"]
SMALL_BATCH_RANGE = (10, 128)

SOFT_FIELDS = ("temperature", "loss", "ce_weight")
"""Read with labels=online and labels=stored only."""
STORED_FIELDS = ("label_topk", "label_ratio", "label_seed")
"""Read with labels=stored only."""
LATER_FIELDS = frozenset({"order", "labels", "mix", "mix_alpha", *SOFT_FIELDS, *STORED_FIELDS})
"""Fields younger than version 1; left out of the serialised form where they are at their default, so that old results
keep their keys."""


class Protocol(Settings):
    """How a network is trained from scratch on a compressed set and validated.

    Attributes:
        base: name of the preset it starts from.
        version: raised whenever the preset's meaning changes; part of every cache key.
        epochs: passes over the stored images, with one augmented view of each unless the set's crops ask for more.
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
        label_smoothing: share of the label spread over all classes; of hard labels only.
        validate_every: epochs between validations, counted from epoch 0; the last epoch is always validated.
        validate_resize: shorter side before the centre crop of S, as a multiple of S (256/224).
        labels: `hard` is the stored class. `online` is what a teacher in eval mode says of every training batch as the
            network sees it. `stored` are the same labels made once, before training, and read from a file (FKD; Shen &
            Xing, "A Fast Knowledge Distillation Framework for Visual Recognition", ECCV 2022): order, crops, flips and
            mixing then belong to `label_seed`, whatever the training seed; initial weights stay the seed's own.
        mix: `cutmix` pastes a box of another image of the batch into every image, once per batch (Yun et al., ICCV
            2019). Hard labels are then mixed by area; a teacher sees the mixed images.
        mix_alpha: the area that an image keeps is drawn from Beta(mix_alpha, mix_alpha).
        temperature: divides the logits of teacher and student alike before the softmax of `kl`.
        loss: of soft labels. `kl` is KL(teacher || student) at `temperature`, mean over the batch, without the factor
            temperature**2; `mse_ce` is the mean squared difference of logits plus `ce_weight` times the cross-entropy
            with the (mixed) class (G-VBSM: 0.1, EDC: 0.025).
        ce_weight: see `loss`.
        label_topk: stored labels keep only the largest so many logits of each row (LPQLD's quantisation); the softmax
            is then over these alone, and classes left out have probability 0. None keeps all.
        label_ratio: stored labels keep one of so many batches of all epochs (LPLD's pruning, 10 to 40); every training
            step draws one of the kept batches, with replacement.
        label_seed: seed of everything random in stored labels.
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
    labels: Labels = "hard"
    mix: Literal["none", "cutmix"] = "none"
    mix_alpha: float = Field(1.0, gt=0)
    temperature: float = Field(20.0, gt=0)
    loss: Literal["kl", "mse_ce"] = "kl"
    ce_weight: float = Field(0.1, ge=0)
    label_topk: int | None = Field(None, ge=1)
    label_ratio: int = Field(1, ge=1)
    label_seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _batch_in_range(self) -> "Protocol":
        if isinstance(self.batch_size, int) and self.batch_size < 1:
            raise ValueError("batch_size must be at least 1")
        return self

    @model_validator(mode="after")
    def _settings_are_read(self) -> "Protocol":
        """Refuse a setting that would change the protocol's name and nothing else."""
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
        if self.mix == "none":
            unread["mix_alpha"] = "with mix=cutmix only, found mix=none"
        for name, where in unread.items():
            if not self._is_default(name):
                raise ValueError(f"{name} is read {where}")
        if self.soft and self.label_smoothing > 0:
            raise ValueError(f"label_smoothing is for hard labels, found labels={self.labels}")
        if self.loss == "mse_ce" and self.label_topk is not None:
            raise ValueError("label_topk needs loss=kl: mse_ce compares all logits")
        return self

    def _is_default(self, name: str) -> bool:
        return bool(getattr(self, name) == type(self).model_fields[name].default)

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without fields that came later and say nothing new, see `LATER_FIELDS`."""
        fields: dict[str, Any] = dump(self)
        return {key: value for key, value in fields.items() if key not in LATER_FIELDS or not self._is_default(key)}

    @property
    def name(self) -> str:
        """The preset's name, with everything that differs from it: `hard*batch_size=64,epochs=60`."""
        preset = PRESETS[self.base]
        changed = {key: value for key, value in self if value != getattr(preset, key)}
        if not changed:
            return self.base
        return f"{self.base}*{','.join(f'{key}={_plain(changed[key])}' for key in sorted(changed))}"

    @property
    def soft(self) -> bool:
        """Whether labels come from a teacher."""
        return self.labels != "hard"

    @property
    def shares_order(self) -> bool:
        """Whether all training seeds see one order of samples, so that they can share one stream."""
        return self.order == "shared" or self.labels == "stored"

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
    "soft": Protocol(base="soft", labels="online", mix="cutmix"),
    "soft-small": Protocol(base="soft-small", batch_size="small", labels="online", mix="cutmix"),
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
