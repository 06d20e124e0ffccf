"""How well a teacher's guesses agree with a data set's classes, in the order it is used and in the other named ones.

The rules:

- The sample: equally many images of every class, 3 of each but 600 to 2,000 in all.
- Another order is clearly better: among the images on which the two differ it is right at least twice as often, by the
  sign test at level 0.1 %. And it is itself above chance and above random orders.
- Chance: the share that the same guesses would get right if they were dealt to the images at random (Cohen's kappa);
  1/C where every class has equally many.
- Above chance: the binomial test against it, at level 1 %.
- At chance, first: not above chance, or, of 5 classes and more, not above 999 random orders at level 5 %. Besides, so
  few right that a teacher of accuracy chance ** (2/3) (63 % of 2 classes, 22 % of 10, 5 % of 100, 1 % of 1,000) shows
  as few with a probability of 0.1 % at most. Few images prove nothing, so that a
  line warns.
- At chance, second: no better than outputs in a random order, which may hit some classes. Half of the images match each
  output with the class that it names most often. On the other half this match is right at least twice as often as the
  order in which the teacher is used, and clearly better by the rule above.
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
from fastdc.errors import MethodError
from fastdc.nn.device import Compute
from fastdc.nn.orders import Columns, OrderName, distinct_orders
from fastdc.nn.teacher import Teacher
from fastdc.seeding import derive_seed

PER_CLASS, LEAST, MOST = 3, 600, 2000
BATCH = 100
BETTER_LEVEL, ABOVE_LEVEL, BELOW_LEVEL = 0.001, 0.01, 0.001
BETTER_ODDS = 2
RANDOM_ORDERS, RANDOM_LEVEL, LEAST_CLASSES = 999, 0.05, 5

Numbers = NDArray[np.int64]


class Agreement(NamedTuple):
    """What a sample of images shows of a teacher.

    Attributes:
        images: how many were asked. right: how many it names rightly in the order in which it is used.
        chance: share that these guesses get right when dealt at random.
        at_chance: whether it is no better than that.
        above_chance: whether it is shown to be better; of few images both may be False.
        better: another order that is clearly better: name, columns and how many it gets right; None for none. The name
            is None for the data set's own order where that is no named one.
        tried: names of the other orders that were compared.
        matched: of the images that were not used to match outputs with classes, how many are right so, and how many in
            the order in which it is used.
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
    teacher: Teacher,
    path: Path,
    classes: Sequence[str],
    columns: Columns | None,
    image_size: int,
    compute: Compute,
) -> Agreement | None:
    """Compare a teacher's first guesses on a sample of a beton's images with their classes.

    Draws no random number of torch, and trains nothing.

    Args:
        classes: the teacher's, in the data set's order; those of the beton are matched by name.
        columns: the order in which it is used: the output of each class; None for the data set's.
        image_size: side of the images that it gets, in pixels: shorter side resized, centre cropped.

    Returns:
        None where the beton has images of fewer than two of these classes.

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
        images = (fit_image(beton.decode(int(index)), image_size, "crop") for index in sample)
        batches = -(-sample.size // BATCH)
        guesses = np.concatenate([_guess(teacher, images, compute) for _ in range(batches)])
    used = tuple(range(len(classes))) if columns is None else columns
    return compare_orders(labels[sample], guesses, used, distinct_orders(classes))


def draw_sample(labels: Numbers) -> Numbers:
    """Return sample numbers, ascending: equally many of each class; of a class with fewer, all.

    Args:
        labels: int64 [N]; below 0 for images to leave out.
    """
    generator = np.random.Generator(np.random.PCG64(derive_seed(0, "class order of a teacher")))
    present = np.unique(labels[labels >= 0])
    present = np.sort(generator.permutation(present)[:MOST])
    each = -(-min(max(PER_CLASS * present.size, LEAST), MOST) // max(present.size, 1))
    drawn = [generator.permutation(np.flatnonzero(labels == label))[:each] for label in present]
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, np.int64)


@torch.inference_mode()
def _guess(teacher: Teacher, images: Iterator[NDArray[np.uint8]], compute: Compute) -> Numbers:
    """Return the classes that a teacher names for the next batch of images, int64 [B]."""
    pixels = np.stack(list(islice(images, BATCH)))
    logits = compute.logits(teacher.model, compute.images(torch.from_numpy(pixels)))
    if not bool(torch.isfinite(logits).all()):
        raise MethodError(f"teacher {teacher.name}: its outputs are not finite; use precision fp32, or another teacher")
    found: Numbers = logits.argmax(1).cpu().numpy()
    return found


def compare_orders(labels: Numbers, guesses: Numbers, used: Columns, orders: Mapping[OrderName, Columns]) -> Agreement:
    """Judge guesses by the rules of this module.

    Args:
        labels, guesses: int64 [n], classes in the data set's order; guesses as `used` reads the outputs.
        used: the order in which the teacher is used.
        orders: those to compare, by name.
    """
    each, dealt = np.bincount(labels, minlength=len(used)), np.bincount(guesses, minlength=len(used))
    chance = float(each @ dealt) / labels.size**2
    outputs = np.array(used)[guesses]
    hits = guesses == labels
    right = int(hits.sum())
    own = tuple(range(len(used)))
    others: dict[OrderName | None, Columns] = {name: columns for name, columns in orders.items() if columns != used}
    if own != used and own not in others.values():
        others[None] = own
    better = []
    for name, columns in others.items():
        named = np.argsort(columns)[outputs]
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
    """Return whether the held-out images are right by the match of the others, and which those are: half of each class.

    A guess that the others never show stays unmatched; ties go to the class that the guess names.
    """
    order = np.argsort(labels, kind="stable")
    rank = np.empty(labels.size, np.int64)
    rank[order] = np.arange(labels.size) - np.searchsorted(labels[order], labels[order])
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
    """Return whether the agreement is more than an order of the classes at random would give; True below 5 classes."""
    present = np.unique(labels)
    if present.size < LEAST_CLASSES:
        return True
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (labels, guesses), 1)
    generator = np.random.Generator(np.random.PCG64(derive_seed(0, "random class orders")))
    every = np.arange(classes)
    found = np.array([table[every, generator.permutation(classes)].sum() for _ in range(RANDOM_ORDERS)])
    as_good = int((found >= np.trace(table)).sum())
    return (1 + as_good) / (1 + RANDOM_ORDERS) <= RANDOM_LEVEL


def _tail(count: int, trials: int, share: float) -> float:
    """Return P(X <= count) of a binomial variable; 1 where the share leaves no doubt."""
    if not 0.0 < share < 1.0:
        return 1.0 if share == 0.0 or count >= trials else 0.0
    heads, tails = math.log(share), math.log1p(-share)
    whole = math.lgamma(trials + 1)
    return math.fsum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * heads + (trials - k) * tails)
        for k in range(count + 1)
    )
