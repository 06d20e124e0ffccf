"""The presets hold the published values, and a changed protocol says so in its name."""

import pytest

from fastdc.errors import ConfigError
from fastdc.train import get_protocol
from fastdc.train.training import learning_rate


def test_hard_is_the_benchmarks_protocol() -> None:
    hard = get_protocol("hard")
    assert (hard.epochs, hard.batch_size, hard.optimizer, hard.lr, hard.weight_decay) == (300, 128, "adamw", 1e-3, 0.01)
    assert hard.crop_scale_min == 0.08
    assert round(224 * hard.validate_resize) == 256
    assert [epoch for epoch in range(300) if hard.validated(epoch)] == [0, 50, 100, 150, 200, 250, 299]


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


def test_cosine_starts_at_lr_and_is_a_full_half_wave() -> None:
    hard = get_protocol("hard")
    assert learning_rate(hard, 0) == pytest.approx(1e-3)
    assert learning_rate(hard, 150) == pytest.approx(5e-4)
    assert learning_rate(hard, 299) == pytest.approx(1e-3 * 2.74e-5, rel=1e-2)
    assert learning_rate(get_protocol("hard", {"schedule": "constant"}), 299) == 1e-3
