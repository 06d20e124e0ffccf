"""Test how well a teacher's guesses agree with a data set's classes, in its class order and in the other named ones.

The rules:

- Sample: the same number of images from each of at most 2,000 classes. The target is 3 per class, clamped to 600 to
  2,000 images in all, and rounded up to whole images per class.
- Another order is clearly better: where the two orders disagree, it is right at least twice as often. The sign test
  confirms this at the 0.1 % level. It must also be above chance and, with 5 classes or more, above random orders.
- Chance: the share of correct guesses if the same guesses were shuffled over the images (as in Cohen's kappa). It is
  1/C where all classes have equally many images.
- Above chance: a binomial test against that share, at the 1 % level.
- At chance, first rule, both parts required. The guesses are not above chance or, with 5 classes or more, not above
  999 random orders at the 5 % level. And a teacher of accuracy chance ** (2/3) would have as few correct guesses with
  probability 0.1 % at most. That accuracy is 63 % for 2 classes, 22 % for 10, 5 % for 100, 1 % for 1,000. Too small a
  sample shows neither "at chance" nor "above chance"; the caller then warns instead of refusing.
- At chance, second rule: the outputs are in an unknown order that gets some classes right by luck. One half of the
  images matches each output with its most frequent class. On the other half this match is right at least twice as
  often as the order in use. It is also clearly better by the rule above.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.beton import BetonFile, describe_beton, fit_image, one_spelling
from fastdc.common.errors import MethodError
from fastdc.common.keys import derive_seed
from fastdc.nn.device import Compute
from fastdc.teachers.class_orders import Columns, OrderName, distinct_orders
from fastdc.teachers.network import Teacher

PER_CLASS, LEAST, MOST = 3, 600, 2000
BATCH = 100
BETTER_LEVEL, ABOVE_LEVEL, BELOW_LEVEL = 0.001, 0.01, 0.001
BETTER_ODDS = 2
RANDOM_ORDERS, RANDOM_LEVEL, LEAST_CLASSES = 999, 0.05, 5

Numbers = NDArray[np.int64]


class Agreement(NamedTuple):
    """Result of comparing a teacher's guesses with the classes of a sample of images.

    Attributes:
        images: sample size.
        right: correct guesses in the class order in use.
        chance: share of these guesses that would be correct if shuffled over the images.
        at_chance: whether the guesses are no better than chance.
        above_chance: whether they are shown to be better. A small sample may leave both False.
        better: another order that is clearly better, as (name, columns, correct guesses); None if there is none. The
            name is None for the data set's own order where no named order equals it.
        tried: names of the other orders that were compared.
        matched: correct guesses on the held-out half of the sample: by matching outputs to classes on the other half,
            and in the order in use.
    """

    images: int
    right: int
    chance: float
    at_chance: bool
    above_chance: bool
    better: tuple[OrderName | None, Columns, int] | None
    tried: tuple[OrderName, ...]
    matched: tuple[int, int]


def measure_agreement(
    teacher: Teacher, path: Path, classes: Sequence[str], columns: Columns | None, image_size: int, compute: Compute
) -> Agreement | None:
    """Compare a teacher's top-1 guesses on a sample of a beton's images with their classes.

    torch's random state and the network's weights stay unchanged.

    Args:
        classes: class names in the data set's order; the beton's classes are matched to them by name.
        columns: output of each class, in the class order in use; None for the data set's order.
        image_size: side of the teacher's input in pixels: shorter side resized, then centre-cropped.

    Returns:
        The comparison, or None where the beton has images of fewer than two of these classes.

    Raises:
        MethodError: an output is NaN or infinite.
        BetonError, ManifestError, LoaderError: the file is damaged.
    """
    place = {one_spelling(name): number for number, name in enumerate(classes)}
    known = np.array([place.get(one_spelling(name), -1) for name in describe_beton(path).classes], np.int64)
    with BetonFile(path) as beton:
        labels = known[np.asarray(beton.labels, np.int64)]
        sample = draw_sample(labels)
        if np.unique(labels[sample]).size < 2:
            return None
        # Decoded lazily, so that only one batch of pixels is in memory.
        images = (fit_image(beton.decode(int(index)), image_size, "crop") for index in sample)
        batches = -(-sample.size // BATCH)
        guesses = np.concatenate([_guess(teacher, images, compute) for _ in range(batches)])
    used = tuple(range(len(classes))) if columns is None else columns
    return compare_orders(labels[sample], guesses, used, distinct_orders(classes))


def draw_sample(labels: Numbers) -> Numbers:
    """Draw sample numbers, ascending: the same number from each class, or all of a class that has fewer.

    Args:
        labels: int64 [N]; negative for images to leave out.
    """
    generator = np.random.Generator(np.random.PCG64(derive_seed(0, "class order of a teacher")))
    present = np.unique(labels[labels >= 0])
    present = np.sort(generator.permutation(present)[:MOST])
    each = -(-min(max(PER_CLASS * present.size, LEAST), MOST) // max(present.size, 1))
    drawn = [generator.permutation(np.flatnonzero(labels == label))[:each] for label in present]
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, np.int64)


@torch.inference_mode()
def _guess(teacher: Teacher, images: Iterator[NDArray[np.uint8]], compute: Compute) -> Numbers:
    """Return the teacher's top-1 outputs for the next batch of images, int64 [B]."""
    pixels = np.stack(list(islice(images, BATCH)))
    logits = compute.logits(teacher.model, compute.images(torch.from_numpy(pixels)))
    if not bool(torch.isfinite(logits).all()):
        raise MethodError(f"teacher {teacher.name}: its outputs are not finite; use precision fp32, or another teacher")
    found: Numbers = logits.argmax(1).cpu().numpy()
    return found


def compare_orders(labels: Numbers, guesses: Numbers, used: Columns, orders: Mapping[OrderName, Columns]) -> Agreement:
    """Judge guesses by the rules of this module.

    Args:
        labels, guesses: int64 [n], classes in the data set's order; `used` has already been applied to the guesses.
        used: output of each class in the order in use.
        orders: named orders to compare with it.
    """
    each, dealt = np.bincount(labels, minlength=len(used)), np.bincount(guesses, minlength=len(used))
    chance = float(each @ dealt) / labels.size**2
    outputs = np.array(used)[guesses]  # back to the network's raw outputs, which every order reads in its own way
    hits = guesses == labels
    right = int(hits.sum())
    own = tuple(range(len(used)))
    others: dict[OrderName | None, Columns] = {name: columns for name, columns in orders.items() if columns != used}
    if own != used and own not in others.values():
        others[None] = own
    better = []
    for name, columns in others.items():
        named = np.argsort(columns)[outputs]  # argsort inverts the permutation: output -> class
        found = named == labels
        if _clearly_better(hits, found, chance) and _above_random_orders(labels, named, len(used)):
            better.append((name, columns, int(found.sum())))
    best = max(better, key=lambda each: each[2], default=None)
    below = _tail(right, labels.size, chance ** (2 / 3)) <= BELOW_LEVEL
    above = _above(right, labels.size, chance) and _above_random_orders(labels, guesses, len(used))
    by_match, held_out = _matched(labels, guesses)
    matched = int(by_match.sum()), int(hits[held_out].sum())
    random_order = matched[0] >= BETTER_ODDS * matched[1] and _clearly_better(hits[held_out], by_match, chance)
    at_chance = random_order or (below and not above)
    return Agreement(labels.size, right, chance, at_chance, above, best, tuple(filter(None, others)), matched)


def _matched(labels: Numbers, guesses: Numbers) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Match outputs to classes on half of each class and apply the match to the held-out half.

    An output that never occurs in the first half keeps its own class. Ties also go to the output's own class.

    Returns:
        Whether each held-out image is right by the match, and a mask [n] of the held-out images.
    """
    order = np.argsort(labels, kind="stable")
    rank = np.empty(labels.size, np.int64)
    rank[order] = np.arange(labels.size) - np.searchsorted(labels[order], labels[order])  # place within its class
    held_out = rank % 2 == 1
    match: dict[int, int] = {}
    for guess in np.unique(guesses[~held_out]).tolist():
        counts = np.bincount(labels[~held_out & (guesses == guess)], minlength=guess + 1)
        match[guess] = guess if counts[guess] == counts.max() else int(counts.argmax())
    found = np.array([match.get(guess, guess) for guess in guesses[held_out].tolist()])
    return found == labels[held_out], held_out


def _clearly_better(used: NDArray[np.bool_], other: NDArray[np.bool_], chance: float) -> bool:
    gained, lost = int((other & ~used).sum()), int((used & ~other).sum())
    return (
        gained >= BETTER_ODDS * lost
        and _tail(lost, gained + lost, 0.5) <= BETTER_LEVEL
        and _above(int(other.sum()), other.size, chance)
    )


def _above(right: int, images: int, chance: float) -> bool:
    return _tail(images - right, images, 1 - chance) <= ABOVE_LEVEL


def _above_random_orders(labels: Numbers, guesses: Numbers, classes: int) -> bool:
    """Return whether agreement exceeds that of random class orders; always True below 5 classes."""
    present = np.unique(labels)
    if present.size < LEAST_CLASSES:  # so few classes have too few orders for a test at this level
        return True
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (labels, guesses), 1)
    generator = np.random.Generator(np.random.PCG64(derive_seed(0, "random class orders")))
    every = np.arange(classes)
    found = np.array([table[every, generator.permutation(classes)].sum() for _ in range(RANDOM_ORDERS)])
    as_good = int((found >= np.trace(table)).sum())  # the 1 below counts the order in use: a permutation test's p
    return (1 + as_good) / (1 + RANDOM_ORDERS) <= RANDOM_LEVEL


def _tail(count: int, trials: int, share: float) -> float:
    """Return P(X <= count) for X ~ Binomial(trials, share); exactly 0 or 1 where `share` is 0 or 1."""
    if not 0.0 < share < 1.0:
        return 1.0 if share == 0.0 or count >= trials else 0.0
    heads, tails = math.log(share), math.log1p(-share)  # in logarithms: the coefficients overflow a float
    whole = math.lgamma(trials + 1)
    return math.fsum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * heads + (trials - k) * tails)
        for k in range(count + 1)
    )
