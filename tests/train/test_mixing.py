"""Mixing and the losses of soft labels against plain references."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.train.batch_mixing import (
    CutMix,
    Mixup,
    draw_cutmix,
    draw_cutout,
    draw_mixup,
    mix_batch,
    mix_classes,
    mix_images,
)
from fastdc.train.target_losses import SoftTargets, kl_loss, mse_ce_loss


@settings(deadline=None)
@given(st.integers(0, 2**62), st.integers(0, 400), st.integers(0, 900), st.integers(1, 40), st.integers(1, 300))
def test_a_drawn_box_lies_in_the_image_and_its_area_is_counted(
    seed: int, epoch: int, step: int, batch: int, side: int
) -> None:
    cut = draw_cutmix(seed, epoch, step, batch, side, 1.0)
    assert 0 <= cut.top <= cut.bottom <= side
    assert 0 <= cut.left <= cut.right <= side
    inside = sum(cut.top <= y < cut.bottom and cut.left <= x < cut.right for y in range(side) for x in range(side))
    assert cut.share == pytest.approx(1 - inside / side**2)
    assert sorted(cut.partners) == list(range(batch))


def test_draws_depend_only_on_seed_epoch_and_step() -> None:
    def flat(*address: int) -> tuple[object, ...]:
        cut = draw_cutmix(*address, 16, 64, 1.0)
        return tuple(cut.partners), *cut[1:]

    np.random.seed(1)
    torch.manual_seed(1)
    first = flat(3, 5, 7)
    np.random.seed(2)
    torch.manual_seed(2)
    assert flat(3, 5, 7) == first
    assert len({first, flat(4, 5, 7), flat(3, 6, 7), flat(3, 5, 8)}) == 4


def test_the_area_follows_the_beta_distribution() -> None:
    def whole_boxes(alpha: float) -> list[float]:
        cuts = [draw_cutmix(0, 0, step, 1, 1000, alpha) for step in range(2000)]
        inner = [cut for cut in cuts if min(cut.top, cut.left) > 0 and max(cut.bottom, cut.right) < 1000]
        return [cut.share for cut in inner]

    # As alpha grows, Beta(alpha, alpha) gathers at 1/2.
    assert whole_boxes(1e6) == pytest.approx([0.5] * len(whole_boxes(1e6)), abs=0.01)
    shares = [draw_cutmix(0, 0, step, 1, 1000, 1.0).share for step in range(2000)]
    # A box of area a = u (uniform) with edge e = sqrt(a), clipped at the border: E[inside] by quadrature.
    edges = np.sqrt((np.arange(400) + 0.5) / 400)
    centres = (np.arange(400) + 0.5) / 400
    spans = np.minimum(centres + edges[:, None] / 2, 1) - np.maximum(centres - edges[:, None] / 2, 0)
    assert np.mean(shares) == pytest.approx(1 - np.mean(spans.mean(1) ** 2), abs=0.02)


def test_mixed_images_and_classes_equal_loops_over_pixels() -> None:
    images = torch.randn(4, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    cut = CutMix(np.array([2, 0, 3, 1]), 1, 4, 2, 6, 1 - 12 / 36)
    mixed = mix_images(images, cut)
    for b in range(4):
        for y in range(6):
            for x in range(6):
                origin = cut.partners[b] if 1 <= y < 4 and 2 <= x < 6 else b
                assert torch.equal(mixed[b, :, y, x], before[origin, :, y, x])
    assert torch.equal(images, before)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    shares = mix_classes(torch.tensor([0, 1, 1, 2]), 3, cut)
    third = 12 / 36
    expected = [[1 - third, third, 0], [third, 1 - third, 0], [0, 1 - third, third], [0, third, 1 - third]]
    assert torch.allclose(shares, torch.tensor(expected))
    assert mix_classes(torch.tensor([1]), 3, None).tolist() == [[0, 1, 0]]


def test_mixup_averages_images_and_classes_with_one_weight() -> None:
    images = torch.randn(5, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    mixed, blend = mix_batch("mixup", images, 3, 5, 7, 0.8)
    assert isinstance(blend, Mixup)
    again = draw_mixup(3, 5, 7, 5, 0.8)
    assert (blend.share, blend.partners.tolist()) == (again.share, again.partners.tolist())
    for number, partner in enumerate(blend.partners):
        expected = blend.share * before[number].double() + (1 - blend.share) * before[partner].double()
        assert torch.allclose(mixed[number].double(), expected, atol=1e-6)
    assert torch.equal(images, before)
    assert mixed.is_contiguous(memory_format=torch.channels_last)
    shares = mix_classes(torch.tensor([0, 1, 2, 0, 1]), 3, blend)
    assert torch.allclose(shares.sum(1), torch.ones(5))
    own = torch.tensor([[0, 1, 2, 0, 1]]).T
    partners = own[torch.from_numpy(blend.partners)]
    expected = torch.where(own == partners, 1.0, blend.share).float()
    assert torch.allclose(shares.gather(1, own), expected)


def test_the_weight_of_mixup_follows_the_beta_distribution() -> None:
    shares = np.array([draw_mixup(0, 0, step, 2, 0.8).share for step in range(4000)])
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1))
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / (4 * 2.6), abs=0.004)
    swaps = sum(draw_mixup(0, 0, step, 2, 0.8).partners[0] == 1 for step in range(1000))
    assert abs(swaps - 500) < 4.5 * 15.9


def test_cutout_blanks_one_square_inside_and_keeps_classes() -> None:
    images = torch.randn(4, 3, 7, 7)
    places = set()
    for step in range(300):
        blanked, mixed = mix_batch("cutout", images, 0, 0, step, 1.0)
        top, left, edge = draw_cutout(0, 0, step, 7)
        assert mixed is None
        assert edge == 3
        expected = images.clone()
        expected[:, :, top : top + 3, left : left + 3] = 0
        assert torch.equal(blanked, expected)
        places.add((top, left))
    assert places == {(top, left) for top in range(5) for left in range(5)}  # as in the code: randint(0, S - edge + 1)


def reference_kl(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    """KL(teacher || student) at a temperature, mean over rows, float64, over the finite teacher logits."""
    rows = []
    for own, other in zip(student / temperature, teacher / temperature, strict=True):
        log_own = own - own.max() - np.log(np.exp(own - own.max()).sum())
        kept = np.isfinite(other)
        expected = np.exp(other[kept] - other[kept].max())
        expected /= expected.sum()
        rows.append((expected * (np.log(expected) - log_own[kept])).sum())
    return float(np.mean(rows))


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_kl_is_batchmean_without_the_temperature_squared(temperature: float) -> None:
    generator = np.random.default_rng(0)
    student, teacher = generator.normal(0, 5, (2, 6, 9))
    found = kl_loss(torch.from_numpy(student), torch.from_numpy(teacher), temperature)
    assert float(found) == pytest.approx(reference_kl(student, teacher, temperature), rel=1e-12)
    assert float(kl_loss(torch.from_numpy(teacher), torch.from_numpy(teacher), temperature)) == pytest.approx(0)


def test_classes_that_are_not_stored_have_probability_zero() -> None:
    generator = np.random.default_rng(1)
    student, teacher = generator.normal(0, 5, (2, 6, 9))
    teacher[teacher < np.sort(teacher, 1)[:, -3:-2]] = -np.inf  # three are left in each row
    logits = torch.from_numpy(student).requires_grad_()
    loss = kl_loss(logits, torch.from_numpy(teacher), 20.0)
    assert loss.item() == pytest.approx(reference_kl(student, teacher, 20.0), rel=1e-12)
    loss.backward()
    assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]


def test_mse_ce_compares_logits_and_mixed_classes() -> None:
    generator = np.random.default_rng(2)
    student, teacher = generator.normal(0, 5, (2, 4, 3))
    shares = generator.dirichlet([1, 1, 1], 4)
    log_own = student - np.log(np.exp(student).sum(1, keepdims=True))
    expected = ((student - teacher) ** 2).mean() - 0.025 * (shares * log_own).sum(1).mean()
    targets = SoftTargets(torch.from_numpy(teacher), torch.from_numpy(shares))
    assert float(mse_ce_loss(torch.from_numpy(student), targets, 0.025)) == pytest.approx(expected, rel=1e-12)
