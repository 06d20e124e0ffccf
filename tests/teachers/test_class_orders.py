"""Named class orders, and the rules that detect another order from predictions."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from fastdc.common.errors import ConfigError
from fastdc.nn.weights_facts import imagenet_wnids
from fastdc.teachers.agreement import Agreement, _tail, compare_orders, draw_sample
from fastdc.teachers.class_orders import ORDERS, OrderName, distinct_orders, order_columns, require_columns


@pytest.mark.parametrize(
    ("order", "given", "expected"),
    [
        ("text", "class1 class2 class10", "class1 class10 class2"),
        ("natural", "class1 class10 class2", "class1 class2 class10"),
        ("natural", "a10b2 a10b10 a9", "a9 a10b2 a10b10"),
        ("text", "0 1 2 10 100", "0 1 10 100 2"),
        ("numeric", "0 1 10 100 2", "0 1 2 10 100"),
        ("numeric", "-1 -10 0.5 03", "-10 -1 0.5 03"),
        ("wordnet", "tench_n01440764 shark_n01484850 goldfish_n01443537", "tench_n01440764 goldfish_n01443537 shark_"),
        ("wordnet", "goldfish great_white_shark tench", "tench goldfish great_white_shark"),
    ],
)
def test_outputs_in_a_named_order(order: OrderName, given: str, expected: str) -> None:
    classes = given.split()
    columns = order_columns(order, classes)
    assert columns is not None
    outputs = [classes[columns.index(output)] for output in range(len(classes))]
    assert all(name.startswith(start) for name, start in zip(outputs, expected.split(), strict=True))


def test_orders_that_do_not_fit_the_names() -> None:
    assert order_columns("numeric", ["1", "two"]) is None
    assert order_columns("wordnet", ["dragon", "tench"]) is None
    assert order_columns("wordnet", ["n01440764", "tench"]) is None
    with pytest.raises(ConfigError, match=r"--teacher-order numeric: not every class name is a number, the first"):
        require_columns("numeric", ["one", "two"])
    assert list(distinct_orders(imagenet_wnids())) == ["text"], "WordNet ids have one order only"
    assert list(distinct_orders(("0", "1", "10", "2"))) == ["text", "numeric"]
    assert set(ORDERS) >= set(distinct_orders(("class1", "class10", "class2")))


@pytest.mark.parametrize(
    ("count", "trials", "share"), [(0, 5, 0.3), (17, 40, 0.5), (3, 2000, 0.01), (1990, 2000, 0.99)]
)
def test_tails_equal_the_binomial_distributions(count: int, trials: int, share: float) -> None:
    assert _tail(count, trials, share) == pytest.approx(binom.cdf(count, trials, share), rel=1e-9)


NAMES = {classes: tuple(sorted(f"class{number + 1}" for number in range(classes))) for classes in (3, 10, 100, 1000)}


def shown(
    classes: int, images: int, accuracy: float, order: OrderName | None = None, seed: int = 0
) -> tuple[NDArray[np.int64], Agreement]:
    """Return predictions of a network of this accuracy with outputs in a named order, read in the data set's."""
    draw = np.random.default_rng(seed)
    labels = np.sort(np.arange(images) % classes)
    true = np.where(draw.random(images) < accuracy, labels, draw.integers(0, classes, images))
    columns = None if order is None else order_columns(order, NAMES[classes])
    guesses = (
        true if columns is None else np.array(columns)[true]
    )  # the output of a class, read as the class at its place
    return guesses, compare_orders(labels, guesses, tuple(range(classes)), distinct_orders(NAMES[classes]))


@pytest.mark.parametrize(("classes", "images"), [(10, 600), (100, 600), (1000, 2000)])
@pytest.mark.parametrize("accuracy", [0.9, 0.3])
def test_natural_outputs_used_in_text_order_are_found(classes: int, images: int, accuracy: float) -> None:
    _, found = shown(classes, images, accuracy, "natural")
    assert found.better is not None
    name, columns, right = found.better
    assert (name, columns) == ("natural", order_columns("natural", NAMES[classes]))
    assert right / images == pytest.approx(accuracy, abs=0.1)
    assert right > 2 * found.right


@pytest.mark.parametrize(
    ("classes", "images", "accuracy"), [(3, 600, 0.2), (10, 600, 0.15), (100, 600, 0.05), (1000, 2000, 0.02)]
)
def test_a_weak_teacher_in_the_right_order_passes(classes: int, images: int, accuracy: float) -> None:
    for seed in range(20):
        _, found = shown(classes, images, accuracy, seed=seed)
        assert (found.better, found.at_chance) == (None, False)


@pytest.mark.parametrize(("classes", "images"), [(3, 6), (3, 9), (10, 20), (10, 30)])
def test_a_weak_teacher_passes_on_few_images(classes: int, images: int) -> None:
    for seed in range(50):
        _, found = shown(classes, images, 0.4, seed=seed)
        assert (found.better, found.at_chance) == (None, False)


@pytest.mark.parametrize(("classes", "images"), [(3, 600), (10, 600), (100, 600), (1000, 2000)])
def test_predictions_at_chance_are_found(classes: int, images: int) -> None:
    found = [shown(classes, images, 0.0, seed=seed)[1] for seed in range(40)]
    assert [each.better for each in found] == [None] * 40
    assert sum(each.at_chance for each in found) >= 37, "above chance at level 1 %"
    assert found[0].chance == pytest.approx(1 / classes, rel=1e-3)


@pytest.mark.parametrize("fixed", [0, 1, 2, 3])
def test_an_order_without_a_name_is_at_chance_though_it_hits_some_classes(fixed: int) -> None:
    draw = np.random.default_rng(1)
    labels = np.repeat(np.arange(10), 100)
    columns = np.concatenate([np.arange(fixed), np.roll(np.arange(fixed, 10), 1)])
    guesses = columns[np.where(draw.random(1000) < 0.9, labels, draw.integers(0, 10, 1000))]
    found = compare_orders(labels, guesses, tuple(range(10)), {})
    assert found.right > 80 * fixed
    assert found.at_chance
    assert found.matched[0] > 400


@pytest.mark.parametrize("known", [3, 5, 8])
def test_a_right_teacher_of_some_classes_passes(known: int) -> None:
    """The teacher predicts one of its known classes for all others."""
    draw = np.random.default_rng(2)
    labels = np.repeat(np.arange(10), 100)
    guesses = np.where((labels < known) & (draw.random(1000) < 0.8), labels, draw.integers(0, known, 1000))
    found = compare_orders(labels, guesses, tuple(range(10)), distinct_orders(NAMES[10]))
    assert (found.better, found.at_chance) == (None, False)


def test_two_swapped_classes_among_twenty_are_found() -> None:
    """If most classes agree in both orders, only those that differ count."""
    names = tuple(sorted([*(f"k{letter}" for letter in "abcdefghijklmnopqr"), "x9", "x10"]))
    labels = np.repeat(np.arange(20), 50)
    columns = order_columns("natural", names)
    assert columns is not None
    guesses = np.array(columns)[np.where(np.random.default_rng(0).random(1000) < 0.8, labels, (labels + 7) % 20)]
    found = compare_orders(labels, guesses, tuple(range(20)), distinct_orders(names))
    assert found.right > 700
    assert found.better is not None
    assert found.better[0] == "natural"


def test_the_sample_is_balanced_bounded_and_repeats() -> None:
    labels = np.repeat(np.arange(10), 500)
    sample = draw_sample(labels)
    assert np.bincount(labels[sample]).tolist() == [60] * 10
    assert np.array_equal(sample, draw_sample(labels))
    assert draw_sample(np.repeat(np.arange(1000), 7)).size == 2000
    assert draw_sample(np.repeat(np.arange(5000), 3)).size == 2000
    few = np.array([0, 0, 1, -1, 1, 1])
    assert draw_sample(few).tolist() == [0, 1, 2, 4, 5]
