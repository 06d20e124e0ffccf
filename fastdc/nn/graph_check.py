"""Check of CUDA graphs on this machine: a small network is trained both ways."""

import torch
from torch import nn

from fastdc.loader import Batch
from fastdc.nn.cuda_capture import Capture
from fastdc.nn.device import Compute
from fastdc.nn.fit import Fit
from fastdc.nn.fit_plan import FitPlan, Recorder
from fastdc.nn.models import build_model, decay_weights_only
from fastdc.nn.step_graphs import CHECKED_STEPS, StepGraphs
from fastdc.nn.step_ledger import StepLedger

_SIDE, _CLASSES, _SIZES = 28, 10, (16, 9)


def graphs_fault(device: torch.device, capture: Capture | None = None) -> str:
    """Train a small network with BatchNorm and dropout, and return why its graphs are not used; empty if they are.

    Args:
        capture: see `StepGraphs`.
    """
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Dropout2d(0.2), build_model("convnet_w8", _CLASSES, _SIDE, seed=0)).to(device)
    optimizer = torch.optim.AdamW(decay_weights_only(model, 0.01), fused=True)
    steps = len(_SIZES) * (CHECKED_STEPS + 1)
    plan = FitPlan(1, steps, lambda *_: 1e-3, nn.functional.cross_entropy, seed=0)
    fit = Fit(model, optimizer, Compute(device, "fp32", torch.get_num_threads()), plan, Recorder())
    fit.ledger = StepLedger(device)
    fit.graphs = StepGraphs(model, optimizer, fit.ledger, device, capture)
    with fit.running():
        fit.resume()
        for step in range(steps):
            size = _SIZES[step % len(_SIZES)]
            images = torch.randint(0, 256, (size, _SIDE, _SIDE, 3), dtype=torch.uint8, generator=generator)
            labels = torch.randint(0, _CLASSES, (size,), generator=generator)
            fit.take(Batch(images, labels, torch.arange(size)))
    return fit.graphs.reason
