"""Counter-based random numbers: a draw depends on (seed, epoch, sample, draw number) and on nothing else.

No state is kept. The augmentation of a sample is therefore the same for any number of workers, any batch size and
order, and after a resume. The generator is SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
generators", OOPSLA 2014). Its output function absorbs seed, epoch and sample one after the other. The result starts a
stream whose n-th output is draw number n. All arithmetic is on uint64, because numba turns mixed signs into floats or
signed shifts.
"""

import numpy as np

from fastdc.kernels.core.jit import kernel

# One number per purpose, so that a new augmentation never shifts the draws of an older one.
CROP_ATTEMPTS = 10  # attempt t uses the numbers 4t (area), 4t+1 (aspect ratio), 4t+2 (row), 4t+3 (column)
FLIP = 60
TILE = 61
WHOLE = 62
ALIGN = 63
WINDOW_ROW, WINDOW_COLUMN = 64, 65

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLY_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = np.uint64(0x94D049BB133111EB)
_ONE = np.uint64(1)
_SHIFT_11, _SHIFT_27, _SHIFT_30, _SHIFT_31, _SHIFT_32 = (np.uint64(bits) for bits in (11, 27, 30, 31, 32))
_TO_UNIT = 2.0**-53


@kernel
def _mix(bits: np.uint64) -> np.uint64:
    """Apply SplitMix64's output function, a bijection of uint64."""
    bits = (bits ^ (bits >> _SHIFT_30)) * _MULTIPLY_1
    bits = (bits ^ (bits >> _SHIFT_27)) * _MULTIPLY_2
    return bits ^ (bits >> _SHIFT_31)


@kernel
def stream_key(seed: int, epoch: int, sample: int) -> np.uint64:
    """Return the start of one sample's stream in one epoch, for `draw_bits`, `draw_unit` and `draw_integer`.

    numba returns it to Python as an int. Wrap it in np.uint64 there, because numba takes a Python int for an int64.
    """
    key = _mix(np.uint64(seed) + _GOLDEN)
    key = _mix((key ^ np.uint64(epoch)) + _GOLDEN)
    return _mix((key ^ np.uint64(sample)) + _GOLDEN)


@kernel
def draw_bits(key: np.uint64, number: int) -> np.uint64:
    """Return draw `number` of the stream `key`: 64 random bits."""
    return _mix(key + (np.uint64(number) + _ONE) * _GOLDEN)


@kernel
def draw_unit(key: np.uint64, number: int) -> float:
    """Return draw `number` of the stream `key`: float64 in [0, 1), a multiple of 2**-53."""
    return np.float64(draw_bits(key, number) >> _SHIFT_11) * _TO_UNIT


@kernel
def draw_integer(key: np.uint64, number: int, count: int) -> int:
    """Return draw `number` of the stream `key`: integer in [0, count), 1 <= count < 2**31.

    The top 32 bits are multiplied by `count` and shifted, so no float is involved.
    """
    return int(np.int64(((draw_bits(key, number) >> _SHIFT_32) * np.uint64(count)) >> _SHIFT_32))


@kernel
def draw(seed: int, epoch: int, sample: int, number: int) -> float:
    """Return one draw by its full address: float64 in [0, 1).

    `seed`, `epoch`, `sample` and `number` lie in [0, 2**63).
    """
    return draw_unit(stream_key(seed, epoch, sample), number)
