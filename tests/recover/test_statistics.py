"""Statistics of a training set against numpy float64 over the very same views."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fastdc.loader import TrainView, open_loader
from fastdc.nn.device import Compute
from fastdc.recover.layer_statistics import Statistics, batch_moments
from fastdc.recover.measure_statistics import cached_statistics, measure_statistics
from fastdc.recover.recovery_recipe import StatisticsSpec
from tests.conftest import Betons
from tests.recover.references import channel_moments, inputs_of, patch_moments, small_net

COMPUTE = Compute(torch.device("cpu"), "fp32", 1)
SIDE, PATCH = 16, 4


def views(train: Path, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """Return all training views of epoch 0, float64, and their labels."""
    with open_loader(train, TrainView(SIDE), batch_size=1000, seed=seed) as loader:
        (batch,) = loader.epoch(0)
    return COMPUTE.images(batch.images).double(), batch.labels.numpy()


@pytest.mark.parametrize("class_variance", ["exact", "released"])
def test_against_numpy(betons: Betons, class_variance: str) -> None:
    net = small_net()
    spec = StatisticsSpec(SIDE, convolutions=True, patch=PATCH, class_variance=class_variance, seed=5)  # type: ignore[arg-type]
    found = measure_statistics(net.float(), betons.train, 3, spec, COMPUTE, batch_size=32)
    images, labels = views(betons.train, 5)
    net.double()
    for layer, is_norm in ((0, False), (1, True), (4, False), (5, True)):
        values = inputs_of(net, images, layer)
        for kind in ("channel",) if is_norm or layer == 4 else ("channel", "patch"):
            check(found, str(layer), kind, values, labels, class_variance)


def check(
    found: Statistics, layer: str, kind: str, values: np.ndarray, labels: np.ndarray, class_variance: str
) -> None:
    def moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return channel_moments(rows) if kind == "channel" else patch_moments(rows, PATCH)

    compare(found.of_set(layer, kind), moments(values))
    for label in range(3):
        mean, variance = moments(values[labels == label])
        if class_variance == "released":
            variance = np.mean([moments(row[None])[1] for row in values[labels == label]], axis=0)
        compare(found.of_classes(layer, kind, torch.tensor([label])), (mean, variance))


def compare(found: tuple[torch.Tensor, torch.Tensor], wanted: tuple[np.ndarray, np.ndarray]) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.numpy(), other, rtol=2e-5, atol=2e-6)


def test_any_batch_size_and_threads_give_the_same(betons: Betons) -> None:
    net, spec = small_net().float(), StatisticsSpec(SIDE)
    first = measure_statistics(net, betons.train, 3, spec, COMPUTE, batch_size=120)
    second = measure_statistics(net, betons.train, 3, spec, COMPUTE, batch_size=7)
    for name, value in first.tensors.items():
        torch.testing.assert_close(second.tensors[name], value, rtol=1e-5, atol=1e-6)
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_the_class_variance_includes_the_part_between_images(betons: Betons) -> None:
    """The exact variance is the released one plus the part between images, so it is larger."""
    net = small_net().float()
    exact, released = (
        measure_statistics(net, betons.train, 3, StatisticsSpec(SIDE, class_variance=kind), COMPUTE).tensors
        for kind in ("exact", "released")
    )
    gaps = exact["1/channel/class/variance"] - released["1/channel/class/variance"]
    assert (gaps > 0).all()
    assert torch.equal(exact["1/channel/class/mean"], released["1/channel/class/mean"])


def test_stored_statistics_are_read_and_damaged_ones_made_again(betons: Betons, tmp_path: Path) -> None:
    net, spec, path = small_net().float(), StatisticsSpec(SIDE), tmp_path / "deep" / "statistics.safetensors"
    calls = []

    def measure() -> Statistics:
        calls.append(1)
        return measure_statistics(net, betons.train, 3, spec, COMPUTE)

    first = cached_statistics(path, measure)
    again = cached_statistics(path, measure)
    assert len(calls) == 1
    assert all(torch.equal(value, again.tensors[name]) for name, value in first.tensors.items())
    path.write_bytes(path.read_bytes()[:-7])
    third = cached_statistics(path, measure)
    assert len(calls) == 2
    assert all(torch.equal(value, third.tensors[name]) for name, value in first.tensors.items())


def test_large_means_keep_small_variances() -> None:
    values = 1000 + 0.01 * torch.randn(8, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    _, variance = batch_moments(values)
    np.testing.assert_allclose(variance.numpy(), channel_moments(values.double().numpy())[1], rtol=1e-2)


@pytest.mark.parametrize("patch", [0, 4])
def test_gradient_of_moments(patch: int) -> None:
    values = torch.randn(2, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    torch.autograd.gradcheck(lambda x: tuple(batch_moments(x, patch)), values)
