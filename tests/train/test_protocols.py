"""Presets have the published values, and the name of a changed protocol shows the change."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fastdc.common.errors import ConfigError
from fastdc.common.keys import content_key
from fastdc.nn.device import Compute
from fastdc.train import EvaluateSettings, Protocol, get_protocol
from fastdc.train.network_training import _identity, learning_rate
from fastdc.train.protocol_names import with_epochs, without_epochs
from fastdc.train.protocols import all_protocols


def test_hard_equals_the_benchmarks_protocol() -> None:
    hard = get_protocol("hard")
    assert (hard.epochs, hard.batch_size, hard.optimizer, hard.lr, hard.weight_decay) == (300, 128, "adamw", 1e-3, 0.01)
    assert hard.crop_scale_min == 0.08
    assert round(224 * hard.validate_resize) == 256
    assert [epoch for epoch in range(300) if hard.validated(epoch, 300)] == [0, 50, 100, 150, 200, 250, 299]


@pytest.mark.parametrize(("images", "batch"), [(10, 10), (100, 10), (500, 50), (1000, 100), (5000, 128)])
def test_hard_small_batches(images: int, batch: int) -> None:
    assert get_protocol("hard-small").batch_for(images) == batch
    assert get_protocol("hard").batch_for(images) == 128


def test_overrides_show_in_the_name_and_the_name_reads_back() -> None:
    changed = get_protocol("hard", {"epochs": "60", "batch_size": 32, "flip": False})
    assert changed.name == "hard*batch_size=32,epochs=60,flip=false"
    assert get_protocol(changed.name) == changed
    assert get_protocol("hard", {"epochs": 300}).name == "hard"
    assert get_protocol("hard*epochs=60", {"epochs": 20}).name == "hard*epochs=20"


@pytest.mark.parametrize(
    ("name", "overrides", "match"),
    [
        ("hrad", {}, "did you mean 'hard'"),
        ("hard", {"epoch": 3}, "did you mean 'epochs'"),
        ("hard", {"epochs": 0}, "epochs=0"),
        ("hard", {"batch_size": 0}, "batch_size"),
        ("hard", {"lr": float("nan")}, "lr=nan"),
        ("hard", {"base": "soft"}, "cannot be changed"),
        ("hard*epochs", {}, "key=value"),
    ],
)
def test_bad_protocols_are_refused(name: str, overrides: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        get_protocol(name, overrides)


def test_cosine_falls_from_lr_to_zero_over_half_a_wave() -> None:
    hard = get_protocol("hard")
    assert learning_rate(hard, 0, 300) == pytest.approx(1e-3)
    assert learning_rate(hard, 150, 300) == pytest.approx(5e-4)
    assert learning_rate(hard, 299, 300) == pytest.approx(1e-3 * 2.74e-5, rel=1e-2)
    assert learning_rate(get_protocol("hard", {"schedule": "constant"}), 299, 300) == 1e-3


HARD = (
    '{"base": "hard", "version": 1, "epochs": 300, "batch_size": 128, "optimizer": "adamw", "lr": 0.001, '
    '"weight_decay": 0.01, "momentum": 0.9, "schedule": "cosine", "crop_scale_min": 0.08, "flip": true, '
    '"label_smoothing": 0.0, "validate_every": 50, "validate_resize": 1.1428571428571428}'
)
PINNED = {  # protocol: (key of its dump, identity of an evaluation under it), before there were soft labels
    "hard": ("e2f3d2d7b16d5a54f2a07219ee76355e", "26510d4788afe9a9126f102feb636db2"),
    "hard-small": ("2110f22c3f9679ae247662898b03d50b", "278804bb6fb7a9af3251b40250b85a69"),
    "hard*epochs=60,order=shared": ("2810223eac148aad6351f29580fc9be0", "ff0a453ca308a38c869f461daca1e0c0"),
}


@pytest.mark.parametrize("name", PINNED)
def test_hard_protocols_keep_their_keys_from_before_soft_labels(name: str) -> None:
    protocol = get_protocol(name)
    assert protocol.name == name
    dumped = content_key(protocol.model_dump(mode="json"))
    pair: Any = SimpleNamespace(
        stored=SimpleNamespace(content_hash="a" * 32), validation=SimpleNamespace(content_hash="b" * 32)
    )
    settings = EvaluateSettings(protocol=protocol, arch="convnet_w16", seed=3)
    identity = _identity(pair, settings, 28, Compute(torch.device("cpu"), "fp32", 1))
    assert (dumped, identity) == PINNED[name]
    assert json.dumps(get_protocol("hard").model_dump()) == HARD


def test_soft_equals_the_benchmarks_protocol() -> None:
    soft, hard = get_protocol("soft"), get_protocol("hard")
    assert (soft.labels, soft.mix, soft.alpha, soft.temperature, soft.loss) == ("online", "cutmix", 1.0, 20.0, "kl")
    changed = {"labels": "hard", "mix": "none", "base": "hard"}
    assert soft.model_copy(update=changed) == hard
    assert get_protocol("soft-small").model_copy(update={"base": "soft", "batch_size": 128}) == soft
    assert soft.model_dump().keys() - hard.model_dump().keys() == {"labels", "mix"}


def test_stored_labels_show_in_the_name() -> None:
    stored = get_protocol("soft", {"labels": "stored", "label_ratio": "40", "label_topk": 100})
    assert stored.name == "soft*label_ratio=40,label_topk=100,labels=stored"
    assert get_protocol(stored.name) == stored
    assert stored.shares_order
    assert not get_protocol("soft").shares_order


CHANGED = (
    "hard*mix=mixup",
    "hard*mix=mixup,mix_alpha=0.4",
    "hard*mix=cutout",
    "hard*mix=cutmix,mix_target=own",
    "hard*schedule=linear",
    "hard*batch_augment=dsa",
    "hard-sgd*batch_size=small",
    "cim-hl*epochs=60",
    "cim-hl*tile_whole=0.5",
    "cad-hl*epochs=30",
    "minimax-hl*epochs=150",
    "hard*epochs=ipc",
)


@pytest.mark.parametrize("name", [*all_protocols(), *CHANGED])
def test_a_full_name_round_trips(name: str) -> None:
    protocol = get_protocol(name)
    assert protocol.name == name
    assert get_protocol(protocol.name) == protocol
    assert Protocol.make(protocol.model_dump(mode="json"), "stored") == protocol


def test_no_two_protocols_share_a_key() -> None:
    names = [*all_protocols(), *CHANGED]
    assert len({content_key(get_protocol(name).model_dump(mode="json")) for name in names}) == len(names)


def test_the_default_alpha_is_no_change() -> None:
    assert get_protocol("hard*mix=mixup").alpha == 0.8
    assert get_protocol("hard*mix=cutmix").alpha == get_protocol("hard").alpha == 1.0
    assert get_protocol("hard*mix=mixup,mix_alpha=0.8") == get_protocol("hard*mix=mixup")
    assert get_protocol("soft*mix_alpha=1.0") == get_protocol("soft")
    assert get_protocol("hard*mix=mixup,mix_alpha=1.0").name == "hard*mix=mixup,mix_alpha=1.0"


def test_recipes_depend_on_the_size_of_the_set() -> None:
    minimax = get_protocol("minimax-hl")
    assert [minimax.epochs_for(images, 10) for images in (10, 100, 500, 1000)] == [3000, 2000, 1500, 1000]
    assert get_protocol("minimax-hl*epochs=150").epochs_for(500, 10) == 150
    assert get_protocol("hard").epochs_for(500, 10) == 300
    assert [get_protocol("cim-hl").whole_share(grid) for grid in (2, 3)] == [0.25, 1 / 9]
    assert get_protocol("cim-hl*tile_whole=0.5").whole_share(2) == 0.5


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("hard*mix_target=own", "mix_target is read with mix=cutmix or mix=mixup only, found mix=none"),
        ("hard*mix=cutout,mix_target=own", "mix_target is read with mix=cutmix or mix=mixup only, found mix=cutout"),
        ("soft*mix_target=own", "mix_target is read with labels=hard only, found labels=online"),
        ("hard-sgd*decay_all=true", "decay_all is read with optimizer=adamw only, found optimizer=sgd"),
        ("hard*momentum=0.5", "momentum is read with optimizer=sgd only, found optimizer=adamw"),
        ("hard*tile_whole=1.5", "tile_whole=1.5: expected a share, 0 to 1, or grid"),
        ("hard*epochs=2.5", "epochs=2.5: expected a whole number of at least 1, or ipc"),
        ("hard*epochs=many", "epochs='many': expected a whole number"),
        ("hard*batch_augment=das", "batch_augment"),
        ("hard*temperature=4", "temperature is read with labels=online or labels=stored only, found labels=hard"),
        ("hard*mix_alpha=0.5", "mix_alpha is read with mix=cutmix or mix=mixup only, found mix=none"),
        ("soft*label_topk=10", "label_topk is read with labels=stored only, found labels=online"),
        ("soft*ce_weight=1", "ce_weight is read with loss=mse_ce only"),
        ("soft*loss=mse_ce,temperature=4", "temperature is read with loss=kl only"),
        ("soft*labels=stored,order=shared", "order is read with labels=hard or labels=online only"),
        ("soft*label_smoothing=0.1", "label_smoothing is for hard labels"),
        ("soft*labels=stored,label_topk=5,loss=mse_ce", "label_topk needs loss=kl"),
        ("soft*labels=stored,label_topk=0", "label_topk"),
        ("soft*labels=stored,label_ratio=0", "label_ratio"),
        ("soft*temperature=0", "temperature"),
        ("soft*labels=soft", "labels"),
    ],
)
def test_a_setting_without_effect_is_refused(name: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        get_protocol(name)


def test_the_error_about_conflicting_settings_omits_the_others() -> None:
    with pytest.raises(ConfigError) as caught:
        get_protocol("soft*label_topk=3")
    assert str(caught.value) == "protocol soft: label_topk is read with labels=stored only, found labels=online"


def test_epochs_in_the_name_of_a_protocol() -> None:
    for name, short in (("hard", "hard"), ("hard*lr=0.1", "hard*lr=0.1")):
        assert without_epochs(with_epochs(name, 60)) == short
    assert without_epochs("hard*epochs=60,lr=0.1") == without_epochs("hard*lr=0.1, epochs=60") == "hard*lr=0.1"
    with pytest.raises(ConfigError, match=r"hard\*epochs=60 sets its own epochs; give hard, or"):
        with_epochs("hard*epochs=60", 50)
