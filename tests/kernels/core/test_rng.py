"""The counter-based generator against Python integers, golden values, and tests of uniformity and independence."""

import math

import numpy as np
import pytest

from fastdc.kernels.core.jit import kernel
from fastdc.kernels.core.rng import draw, draw_bits, draw_integer, draw_unit, stream_key

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def key_of(seed: int, epoch: int, sample: int) -> np.uint64:
    return np.uint64(stream_key(seed, epoch, sample))


def reference_mix(bits: int) -> int:
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
    return bits ^ (bits >> 31)


def reference_bits(seed: int, epoch: int, sample: int, number: int) -> int:
    key = reference_mix((seed + GOLDEN) & MASK)
    key = reference_mix(((key ^ epoch) + GOLDEN) & MASK)
    key = reference_mix(((key ^ sample) + GOLDEN) & MASK)
    return reference_mix((key + (number + 1) * GOLDEN) & MASK)


@kernel
def draw_many(seed: int, epoch: int, samples: int, number: int, out: np.ndarray) -> None:
    for sample in range(samples):
        out[sample] = draw(seed, epoch, sample, number)


def draws(seed: int = 1, epoch: int = 2, number: int = 3, samples: int = 100_000) -> np.ndarray:
    out = np.empty(samples)
    draw_many(seed, epoch, samples, number, out)
    return out


@pytest.mark.parametrize(
    ("address", "golden"),
    [
        ((0, 0, 0, 0), 0.1296456182997474),
        ((1, 2, 3, 4), 0.6011138578855398),
        ((2**63 - 1, 299, 1_281_166, 61), 0.29532769144253423),
    ],
)
def test_draw_gives_the_golden_values(address: tuple[int, int, int, int], golden: float) -> None:
    assert draw(*address) == golden


def test_bits_equal_python_integers_over_the_whole_range() -> None:
    generator = np.random.default_rng(0)
    for _ in range(500):
        seed, epoch, sample = (int(generator.integers(0, 2**63 - 1)) for _ in range(3))
        number = int(generator.integers(0, 100))
        assert int(draw_bits(key_of(seed, epoch, sample), number)) == reference_bits(seed, epoch, sample, number)


def test_unit_draws_are_multiples_of_two_to_the_minus_53_below_one() -> None:
    for number in range(200):
        value = draw_unit(key_of(5, 6, 7), number)
        assert 0.0 <= value < 1.0
        assert (value * 2**53).is_integer()


def test_draws_are_uniform() -> None:
    counts = np.bincount((draws() * 100).astype(int), minlength=100)
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert abs(chi_square - 99) < 6 * math.sqrt(2 * 99)


@pytest.mark.parametrize("change", [{"seed": 2}, {"epoch": 3}, {"number": 4}, {"seed": 0}, {"epoch": 1}])
def test_neighbouring_addresses_are_independent(change: dict[str, int]) -> None:
    cells = (draws() * 16).astype(int) * 16 + (draws(**change) * 16).astype(int)
    expected = len(cells) / 256
    chi_square = ((np.bincount(cells, minlength=256) - expected) ** 2 / expected).sum()
    assert abs(chi_square - 255) < 6 * math.sqrt(2 * 255)


def test_neighbouring_samples_are_independent() -> None:
    values = draws()
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 5 / math.sqrt(len(values))


def test_epochs_of_neighbouring_seeds_share_no_draw() -> None:
    assert not np.intersect1d(draws(seed=0, epoch=1), draws(seed=1, epoch=0)).size


def test_integer_draws_cover_the_range_evenly() -> None:
    key_values = [draw_integer(key_of(9, 0, sample), 0, 7) for sample in range(7000)]
    counts = np.bincount(key_values, minlength=7)
    assert len(counts) == 7
    assert abs(counts - 1000).max() < 6 * math.sqrt(1000)


def test_integer_draw_of_one_choice_is_zero() -> None:
    assert {draw_integer(key_of(1, 1, sample), 0, 1) for sample in range(100)} == {0}
