"""The probe of training steps agrees with the time of a training."""

import time

import pytest
import torch

from fastdc.common.errors import ConfigError
from fastdc.loader import Batch
from fastdc.nn.device import choose_compute
from fastdc.nn.models import build_model
from fastdc.nn.step_time import probe_steps


@pytest.mark.timeout(60)
def test_the_time_is_that_of_handwritten_steps() -> None:
    arch, image_size = "convnet2_w32", 32
    compute = choose_compute("fp32", threads=1)
    ratios = []
    for _ in range(3):  # other work on the machine disturbs one or the other
        cost = probe_steps(arch, image_size, 10, compute)
        ratios.append((cost.step + 32 * cost.image) / seconds_by_hand(arch, image_size, 32))
    assert 0.4 < sorted(ratios)[1] < 2.5, ratios
    assert cost.image > 0


def seconds_by_hand(arch: str, image_size: int, images: int) -> float:
    model = build_model(arch, 10, image_size, seed=1).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    batch = Batch(torch.randn(images, 3, image_size, image_size), torch.zeros(images).long(), torch.arange(images))
    batch = batch._replace(images=batch.images.to(memory_format=torch.channels_last))
    taken = []
    for _ in range(4):
        start = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch.images), batch.labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        taken.append(time.perf_counter() - start)
    return min(taken)


def test_torchs_random_numbers_are_unchanged() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    probe_steps("convnet1_w4", 8, 3, choose_compute("fp32", threads=1))
    assert torch.equal(torch.rand(3), expected)


def test_a_network_that_does_not_fit_its_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="convnet9"):
        probe_steps("convnet9", 8, 3, choose_compute("fp32", threads=1))
