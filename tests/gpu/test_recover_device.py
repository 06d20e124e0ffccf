"""Recovery in mixed precision: on the CPU in the ordinary suite, on CUDA with `-m gpu`."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fastdc.common.errors import MethodError
from fastdc.nn.device import Compute
from fastdc.nn.models import build_model
from fastdc.recover.engine import recover
from fastdc.recover.recovery_job import RecoverJob
from fastdc.recover.recovery_recipe import MatchingSpec, Recipe
from fastdc.teachers.network import Teacher, freeze
from fastdc.teachers.resources import Teaching
from tests.gpu.test_device_engine import PRECISIONS, no_cuda


def make_teaching(device: str, precision: str, scratch: Path) -> Teaching:
    compute = Compute(torch.device(device), precision, 1)
    model = freeze(build_model("convnet_w16", 4, 32, 0), compute.device)
    return Teaching((Teacher("fresh", "fresh", "convnet_w16", model, 32, 0.0),), compute, scratch, scratch)


def make_job() -> RecoverJob:
    recipe = Recipe(iterations=40, crop_min=1.0, jitter=0, matching_weight=0.0)
    return RecoverJob("test", 4, 2, 32, 0, recipe, "across", MatchingSpec())


@pytest.mark.parametrize(("device", "precision"), PRECISIONS)
def test_mixed_precision_recovers_images_that_the_teacher_recognises(
    tmp_path: Path, device: str, precision: str
) -> None:
    """Even an untrained network has images that it assigns to a class."""
    recovered = recover(make_job(), make_teaching(device, precision, tmp_path))
    images = np.stack(list(recovered.images()))
    assert (images.shape, images.dtype) == ((8, 32, 32, 3), np.uint8)
    assert recovered.facts["loss_end"] < recovered.facts["loss_start"]
    assert recovered.facts["recognised"] == 100


@pytest.mark.gpu
@no_cuda
def test_the_error_about_device_memory_names_the_setting(tmp_path: Path) -> None:
    def greedy(images: torch.Tensor, _labels: torch.Tensor) -> torch.Tensor:
        return images.sum() * torch.empty(10**13, device=images.device)[0]

    job = RecoverJob("test", 4, 2, 32, 0, Recipe(iterations=2), "across", MatchingSpec(), extra_loss=greedy)
    with pytest.raises(MethodError, match="does not fit into memory with batch_size=100"):
        recover(job, make_teaching("cuda", "bf16", tmp_path))
