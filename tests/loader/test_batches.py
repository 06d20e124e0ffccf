"""The order of samples, and the indices that a caller may request."""

from pathlib import Path

import numpy as np
import pytest

from fastdc.common.errors import LoaderError
from fastdc.common.keys import derive_seed
from fastdc.loader.batches import SampleOrder
from fastdc.loader.file_checks import check_samples

PATH = Path("some.beton")


def test_without_shuffle_the_given_order_is_kept() -> None:
    samples = np.array([5, 2, 9])
    assert SampleOrder(samples, 0, shuffle=False).epoch(3).tolist() == [5, 2, 9]


def test_a_shuffled_epoch_is_the_documented_permutation() -> None:
    samples = np.arange(50) + 7
    generator = np.random.Generator(np.random.PCG64(derive_seed(4, "shuffle", epoch=6)))
    assert np.array_equal(SampleOrder(samples, 4, shuffle=True).epoch(6), generator.permutation(samples))


def test_neighbouring_seeds_share_no_order() -> None:
    """FFCV's seed s at epoch e + 1 is seed s + 1 at epoch e."""
    orders = [tuple(SampleOrder(np.arange(30), seed, True).epoch(epoch)) for seed in range(5) for epoch in range(5)]
    assert len(set(orders)) == 25


def test_all_samples_are_taken_without_indices() -> None:
    assert check_samples(PATH, 4, None).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int32, np.uint8])
def test_indices_of_any_integer_type_are_taken(dtype: type) -> None:
    samples = check_samples(PATH, 4, np.array([3, 1], dtype))
    assert (samples.tolist(), samples.dtype) == ([3, 1], np.int64)


@pytest.mark.parametrize(
    ("total", "indices", "message"),
    [
        (0, None, "holds 0 samples"),
        (5, [], "indices are empty"),
        (5, [0, 5], "index 5 does not exist, expected 0..4"),
        (5, [0, -1], "index -1 does not exist"),
        (5, [10**8], "index 100000000 does not exist"),
        (5, [1, 2, 1], "index 1 is given more than once"),
        (5, [0.5, 1.0], "float64 .*, expected a list of integers"),
        (5, [True, False], "bool .*, expected a list of integers"),
        (5, [[1, 2]], r"int64 \[1, 2\], expected a list of integers"),
    ],
)
def test_unsound_indices_are_refused(total: int, indices: list | None, message: str) -> None:
    with pytest.raises(LoaderError, match=f"some.beton: .*{message}"):
        check_samples(PATH, total, None if indices is None else np.array(indices))
