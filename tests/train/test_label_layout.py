"""Bytes of labels, and the choice of kept batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdc.common.errors import ConfigError
from fastdc.nn.step_sizes import step_sizes
from fastdc.train import get_protocol
from fastdc.train.labels.layout import LabelLayout, Place, label_bytes, row_type


def test_300_epochs_of_imagenet_at_ipc_10_take_six_billion_bytes() -> None:
    assert label_bytes(get_protocol("soft"), 10_000, 1000) == 6_000_000_000
    assert label_bytes(get_protocol("soft*labels=stored"), 10_000, 1000) == 6_000_000_000
    assert label_bytes(get_protocol("hard"), 10_000, 1000) == 20_000
    assert label_bytes(get_protocol("hard*mix=cutmix"), 10_000, 1000) == 20_000


@pytest.mark.parametrize("ratio", [10, 20, 30, 40])
def test_pruned_pools_keep_one_batch_in_the_ratio(ratio: int) -> None:
    layout = LabelLayout(get_protocol(f"soft*labels=stored,label_ratio={ratio}"), 10_000, 1000)
    assert len(layout.kept) == round(300 * 79 / ratio)
    # 78 of 79 batches have 128 images, the last one 16: the bytes are those of the drawn batches.
    short = int((layout.kept % 79 == 78).sum())
    assert layout.file_bytes == 2000 * (128 * (len(layout.kept) - short) + 16 * short)
    assert layout.file_bytes == pytest.approx(6e9 / ratio, rel=0.01)


@pytest.mark.parametrize(
    ("classes", "topk", "row"),
    [(1000, 100, 400), (1000, 50, 200), (1000, 10, 40), (10, 3, 9), (256, 1, 3), (257, 1, 4)],
)
def test_top_k_rows_hold_logits_and_the_smallest_index(classes: int, topk: int, row: int) -> None:
    protocol = get_protocol("soft-small", {"labels": "stored", "label_topk": topk, "epochs": 7})
    assert label_bytes(protocol, 100, classes) == 7 * 100 * row
    assert row_type(topk, 70_000)["classes"].itemsize == 4 * topk


def test_top_k_beyond_the_classes_is_refused() -> None:
    with pytest.raises(ConfigError, match="label_topk=11: the data has 10 classes"):
        label_bytes(get_protocol("soft*labels=stored,label_topk=11"), 100, 10)


@pytest.mark.parametrize(
    ("images", "batch", "sizes"), [(7, 3, [3, 4]), (8, 3, [3, 3, 2]), (6, 3, [3, 3]), (1, 3, [1]), (3, 1, [1, 1, 1])]
)
def test_steps_are_those_of_the_training(images: int, batch: int, sizes: list[int]) -> None:
    assert step_sizes(images, batch) == sizes


@given(st.integers(1, 300), st.integers(1, 12), st.integers(1, 9), st.integers(0, 5))
def test_places_slots_and_rows_agree(images: int, epochs: int, ratio: int, seed: int) -> None:
    changes = {"labels": "stored", "epochs": epochs, "label_ratio": ratio, "label_seed": seed}
    layout = LabelLayout(get_protocol("soft-small", changes), images, 10)
    places = [layout.place(slot) for epoch in range(epochs) for slot in layout.slots_of(epoch)]
    assert [place.slot for place in places] == list(range(len(layout.kept)))
    assert len({place[:2] for place in places}) == len(places)
    assert np.diff(layout.first_rows).tolist() == [layout.sizes[place.step] for place in places]
    drawn = {layout.drawn(epoch, step) for epoch in range(epochs) for step in range(len(layout.sizes))}
    assert drawn <= set(places)
    if ratio == 1:
        assert layout.drawn(epochs - 1, 0) == Place(epochs - 1, 0, (epochs - 1) * len(layout.sizes))


def test_draws_from_the_pool_are_uniform_with_replacement_and_by_the_label_seed() -> None:
    layout = LabelLayout(get_protocol("soft-small*labels=stored,label_ratio=10"), 100, 10)
    slots = np.array([layout.drawn(epoch, step).slot for epoch in range(300) for step in range(10)])
    counts = np.bincount(slots, minlength=300)
    assert counts.sum() == 3000
    assert ((counts - 10) ** 2 / 10).sum() < 400  # chi-square of 299 degrees: exceeded once in 10,000 times
    assert counts.max() > 10
    other = LabelLayout(get_protocol("soft-small*labels=stored,label_ratio=10,label_seed=1"), 100, 10)
    assert not np.array_equal(layout.kept, other.kept)
