"""Arithmetic of each precision on a CUDA device; runs with `-m gpu`."""

import pytest
import torch
from torch import nn

from fastdc.common.machine import gpu_capability, weakest_gpu
from fastdc.common.precision import AMPERE
from fastdc.nn.device import Compute, choose_compute
from fastdc.nn.models import build_model
from fastdc.train.network_training import make_optimizer
from fastdc.train.protocols import get_protocol
from tests.gpu.test_device_engine import no_cuda

pytestmark = [pytest.mark.gpu, no_cuda]


def error(precision: str, layer: nn.Module, images: torch.Tensor) -> float:
    """Return the largest error of a layer's outputs against float64, in units of the largest output."""
    compute = Compute(torch.device("cuda"), precision, 1)
    exact = layer.double()(images.double())
    found = compute.logits(layer.float().to("cuda"), images.to("cuda")).cpu()
    return float(((found - exact).abs().max() / exact.abs().max()).detach())


@pytest.mark.parametrize("kind", ["convolution", "linear"])
def test_fp32_is_ieee_and_tf32_is_not(kind: str) -> None:
    torch.manual_seed(0)
    images = torch.randn(32, 64, 14, 14)
    layer = (
        nn.Conv2d(64, 128, 3) if kind == "convolution" else nn.Sequential(nn.Flatten(), nn.Linear(64 * 14 * 14, 256))
    )
    found = {each: error(each, layer.cpu(), images) for each in ("tf32", "fp32", "tf32", "bf16")}
    assert found["fp32"] < 1e-5
    assert found["bf16"] < 1e-5  # a last layer is float32 under autocast too
    if torch.cuda.get_device_capability() >= AMPERE:
        assert found["tf32"] > 10 * found["fp32"]


def test_ties_of_rounded_logits_are_gone() -> None:
    compute = Compute(torch.device("cuda"), "bf16", 1)
    model = build_model("resnet18", 1000, 64, 0).eval().to("cuda")
    with torch.no_grad():
        best = compute.logits(model, torch.randn(512, 3, 64, 64, device="cuda")).topk(2).values
    assert (best[:, 0] > best[:, 1]).all()


def test_the_record_names_the_gpu() -> None:
    facts, name = choose_compute("auto", 1).facts(), torch.cuda.get_device_name()
    fastest = "bf16" if torch.cuda.get_device_capability() >= AMPERE else "fp32"
    assert (facts["precision"], facts["device"], facts["machine"], facts["environment"]["gpu"]) == (
        fastest,
        *[name] * 3,
    )


def test_the_driver_tells_the_capability_that_torch_tells() -> None:
    assert gpu_capability() == torch.cuda.get_device_capability()
    assert weakest_gpu(None) == min(map(torch.cuda.get_device_capability, range(torch.cuda.device_count())))


@pytest.mark.parametrize("name", ["hard", "hard-sgd"])
def test_weights_stay_finite_if_the_scaler_skips_the_first_step(name: str) -> None:
    model, compute = nn.Linear(64, 64).cuda(), Compute(torch.device("cuda"), "fp16", 1)
    optimizer, scaler = make_optimizer(model, get_protocol(name), compute.precision), compute.scaler()
    used = torch.full((64, 64, 64), torch.nan, device="cuda").split(1)
    del used  # its memory is probably that of a momentum that is never written
    for factor in (torch.inf, 1.0, 1.0):
        optimizer.zero_grad()
        scaler.scale(compute.logits(model, torch.ones(2, 64, device="cuda")).mean() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
    assert all(each.isfinite().all() for each in model.parameters())
