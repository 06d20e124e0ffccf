"""Accuracy counts against torch's own top-k."""

from typing import Any

import pytest
import torch
from torch import nn

from fastdc.common.errors import DivergedError
from fastdc.loader import EvalView, open_loader
from fastdc.nn.accuracy import measure_accuracy, rank_of_label
from fastdc.nn.device import choose_compute
from fastdc.nn.models import build_model


def test_rank_breaks_ties_by_class() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0, 0.0]]).repeat(4, 1)
    assert rank_of_label(logits, torch.arange(4)).tolist() == [2, 0, 1, 3]


def test_outputs_that_are_not_finite_are_no_accuracy(betons: Any) -> None:
    model = build_model("convnet_w8", 8, 28, 3)
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(DivergedError, match="not finite"):
        measure_accuracy(model, open_loader(betons.val, EvalView(28, 32), batch_size=32), 8, choose_compute("fp32", 1))


@pytest.mark.parametrize("batch_size", [7, 60])
def test_counts_equal_topk(betons: Any, batch_size: int) -> None:
    model = build_model("convnet_w8", 8, 28, 3).eval()
    compute = choose_compute("fp32", 1)
    loader = open_loader(betons.val, EvalView(28, 32), batch_size=batch_size)
    found = measure_accuracy(model, loader, 8, compute)
    rows = list(loader.epoch(0))
    labels = torch.cat([batch.labels for batch in rows])
    with torch.no_grad():
        logits = model(compute.images(torch.cat([batch.images for batch in rows])))
    hits = logits.topk(5).indices == labels[:, None]
    assert found.top1 == pytest.approx(100 * hits[:, 0].double().mean().item())
    assert found.top5 == pytest.approx(100 * hits.any(1).double().mean().item())
    assert found.per_class[1] == pytest.approx(100 * hits[labels == 1, 0].double().mean().item())
    assert found.class_counts.tolist() == [20, 20, 20, 0, 0, 0, 0, 0]


def test_top5_needs_six_classes_and_ties_go_to_the_lower_class(betons: Any) -> None:
    class Constant(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.classes = classes

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(images), self.classes)

    loader, compute = open_loader(betons.val, EvalView(28, 32), batch_size=32), choose_compute("fp32", 1)
    assert measure_accuracy(Constant(5), loader, 5, compute).top5 is None
    assert measure_accuracy(Constant(6), loader, 6, compute).top5 == 100  # classes 0 to 4 come first
    assert measure_accuracy(Constant(6), loader, 6, compute).top1 == pytest.approx(100 / 3)
