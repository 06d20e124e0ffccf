"""Augmentation of batches on a CUDA device equals that of the CPU, which makes the draws."""

import pytest
import torch

from fastdc.train.batch_augment import augment_batch, draw_augment
from fastdc.train.batch_mixing import mix_batch
from fastdc.train.protocols import BatchAugment, Mix

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]


@pytest.mark.parametrize("kind", ["dsa", "idc", "jitter"])
def test_augmented_images_are_those_of_the_cpu(kind: BatchAugment) -> None:
    images = torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for step in range(40):
        draw = draw_augment(kind, 0, 0, step, 16)
        found = augment_batch(images.cuda().contiguous(memory_format=torch.channels_last), draw)
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(found.cpu(), augment_batch(images, draw), atol=1e-4)


@pytest.mark.parametrize("mix", ["cutmix", "mixup", "cutout"])
def test_mixed_images_are_those_of_the_cpu(mix: Mix) -> None:
    images = torch.randn(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found, expected = (mix_batch(mix, each, 0, 0, 3, 1.0)[0] for each in (images.cuda(), images))
    assert torch.allclose(found.cpu(), expected, atol=1e-6)
