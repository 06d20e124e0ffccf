"""Statistics matching against a reference of its own in numpy float64."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastdc.errors import MethodError
from fastdc.recover.matching import Matching, MatchingSpec


def small_net(seed: int = 0) -> nn.Sequential:
    """Two convolutions, two BatchNorms with uneven running statistics, float64, eval mode, frozen."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    ).double()  # fmt: skip
    for norm in (net[1], net[5]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    return net.eval().requires_grad_(False)


def inputs_of(net: nn.Sequential, images: Tensor, layer: int) -> np.ndarray:
    """What layer number `layer` is given, float64 [N, C, H, W]."""
    return net[:layer](images).detach().numpy()


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance of every channel, written out from the definition."""
    columns = values.transpose(1, 0, 2, 3).reshape(values.shape[1], -1)
    mean = columns.sum(1) / columns.shape[1]
    return mean, ((columns - mean[:, None]) ** 2).sum(1) / columns.shape[1]


def distance(values: np.ndarray, norm: nn.BatchNorm2d, mean_weight: float, variance_weight: float) -> float:
    mean, variance = moments(values)
    mean_gap = np.sqrt(((mean - norm.running_mean.numpy()) ** 2).sum())
    variance_gap = np.sqrt(((variance - norm.running_var.numpy()) ** 2).sum())
    return mean_weight * mean_gap + variance_weight * variance_gap


@pytest.mark.parametrize(
    ("mean_weight", "variance_weight", "first"), [(1.0, 1.0, 10.0), (1.0, 11.0, 10.0), (0.5, 2.0, 1)]
)
def test_running_statistics_against_numpy(mean_weight: float, variance_weight: float, first: float) -> None:
    net, images = small_net(), torch.randn(6, 3, 8, 8, dtype=torch.float64)
    spec = MatchingSpec(mean_weight, variance_weight, first)
    with Matching(net, spec) as matching:
        net(images)
        found = matching.loss(torch.zeros(6, dtype=torch.int64)).item()
    first_layer = distance(inputs_of(net, images, 1), net[1], mean_weight, variance_weight)
    second_layer = distance(inputs_of(net, images, 5), net[5], mean_weight, variance_weight)
    assert found == pytest.approx(first * first_layer + second_layer, rel=1e-12)


def test_gradient_reaches_the_images_only() -> None:
    net, images = small_net(), torch.randn(4, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with Matching(net, MatchingSpec()) as matching:
        torch.autograd.gradcheck(lambda x: _loss(net, matching, x), images)
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def _loss(net: nn.Module, matching: Matching, images: Tensor) -> Tensor:
    net(images)
    return matching.loss(torch.zeros(len(images), dtype=torch.int64))


def test_half_precision_is_measured_in_single() -> None:
    """Sums of squares of half-precision activations overflow: 300 squared is above 65,504."""
    net, images = small_net().float(), torch.randn(6, 3, 8, 8) * 300
    labels = torch.zeros(6, dtype=torch.int64)
    with Matching(net, MatchingSpec()) as matching, torch.autocast("cpu", dtype=torch.bfloat16):
        net(images)
        half = matching.loss(labels)
    with Matching(net, MatchingSpec()) as matching:
        net(images)
        single = matching.loss(labels)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(single.item(), rel=0.02)


def test_only_the_last_forward_pass_counts_and_hooks_go() -> None:
    net, images = small_net(), torch.randn(6, 3, 8, 8, dtype=torch.float64)
    labels = torch.zeros(6, dtype=torch.int64)
    with Matching(net, MatchingSpec()) as matching:
        net(images)
        once = matching.loss(labels)
        net(torch.randn_like(images))
        net(images)
        assert torch.equal(matching.loss(labels), once)
    assert not net._forward_pre_hooks
    assert not any(module._forward_pre_hooks for module in net.modules())
    with pytest.raises(MethodError, match="no forward pass"):
        matching.loss(labels)


def test_a_network_without_batch_norm_is_refused() -> None:
    with pytest.raises(MethodError, match="no BatchNorm2d"):
        Matching(nn.Sequential(nn.Conv2d(3, 4, 3)), MatchingSpec())
