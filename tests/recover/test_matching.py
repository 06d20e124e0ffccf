"""Statistics matching against a reference in numpy float64."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastdc.common.errors import ConfigError, MethodError
from fastdc.recover.layer_statistics import Statistics
from fastdc.recover.recovery_recipe import MatchingSpec
from fastdc.recover.statistics_matching import Matching
from tests.recover.references import channel_moments, gap, inputs_of, norm_moments, patch_moments, small_net

PATCH = 4


@pytest.mark.parametrize(
    ("mean_weight", "variance_weight", "first"), [(1.0, 1.0, 10.0), (1.0, 11.0, 10.0), (0.5, 2.0, 1)]
)
def test_running_statistics_against_numpy(mean_weight: float, variance_weight: float, first: float) -> None:
    net, images = small_net(), torch.randn(6, 3, 8, 8, dtype=torch.float64)
    spec = MatchingSpec(mean_weight, variance_weight, first)
    with Matching(net, spec) as matching:
        net(images)
        found = matching.loss(torch.zeros(6, dtype=torch.int64)).item()
    layers = [
        gap(channel_moments(inputs_of(net, images, layer)), norm_moments(net[layer]), mean_weight, variance_weight)
        for layer in (1, 5)
    ]
    assert found == pytest.approx(first * layers[0] + layers[1], rel=1e-12)


def test_gradient_reaches_the_images_only() -> None:
    net, images = small_net(), torch.randn(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with Matching(net, MatchingSpec()) as matching:
        torch.autograd.gradcheck(lambda x: _loss(net, matching, x), images, fast_mode=True)
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


def test_only_the_last_forward_pass_counts_and_hooks_are_removed() -> None:
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


SIZES = {"0/channel": 3, "0/patch": 4, "1/channel": 5, "4/channel": 5, "4/patch": 1, "5/channel": 4}


def some_statistics(classes: int = 3) -> Statistics:
    """Return uneven statistics of every layer of `small_net` at 8 px and patches of 4."""
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for name, size in SIZES.items():
        for field in ("mean", "variance"):
            tensors[f"{name}/set/{field}"] = torch.rand(size, generator=generator, dtype=torch.float64)
            tensors[f"{name}/class/{field}"] = torch.rand(classes, size, generator=generator, dtype=torch.float64)
    return Statistics(tensors)


def wanted(statistics: Statistics, name: str, labels: list[int] | None) -> tuple[Any, Any]:
    """Return the target of a layer: of the set, or averaged over the labels."""
    fields = [
        statistics.tensors[f"{name}/{'set' if labels is None else 'class'}/{f}"].numpy() for f in ("mean", "variance")
    ]
    mean, variance = fields
    if labels is None:
        return mean, variance
    return sum(mean[c] for c in labels) / len(labels), sum(variance[c] for c in labels) / len(labels)


def moments(net: nn.Sequential, images: Tensor, name: str) -> tuple[Any, Any]:
    """Return moments of a layer's input, by channel or by patch."""
    layer, kind = name.split("/")
    values = inputs_of(net, images, int(layer))
    if kind == "channel":
        return channel_moments(values)
    if values.shape[2] % PATCH:
        side = -(-values.shape[2] // PATCH) * PATCH
        values = nn.functional.interpolate(torch.tensor(values), (side, side), mode="bilinear").numpy()
    return patch_moments(values, PATCH)


def reference_loss(
    net: nn.Sequential, images: Tensor, statistics: Statistics, labels: list[int], share: float
) -> float:
    """Return G-VBSM's (share 0) and EDC's (share 1/2) terms by layer; the first, a convolution, counts tenfold."""
    total = 0.0
    for name in SIZES:
        layer, found = name.partition("/")[0], moments(net, images, name)
        whole = norm_moments(net[int(layer)]) if layer in "15" else wanted(statistics, name, None)
        distance = (1 - share) * gap(found, whole) + share * gap(found, wanted(statistics, name, labels))
        total += distance * (10 if layer == "0" else 1)
    return total


@pytest.mark.parametrize(("kind", "share"), [("running", 0.0), ("class", 1.0), ("mixed", 0.5)])
@pytest.mark.parametrize("side", [8, 6], ids=["whole patches", "maps enlarged"])
def test_convolutions_and_classes_against_numpy(kind: Any, share: float, side: int) -> None:
    net, statistics = small_net(), some_statistics()
    images, labels = torch.randn(5, 3, side, side, dtype=torch.float64), [0, 2, 2, 1, 2]
    spec = MatchingSpec(convolutions=True, patch=PATCH, statistics=kind)
    with Matching(net, spec, statistics) as matching:
        net(images)
        found = matching.loss(torch.tensor(labels)).item()
    assert found == pytest.approx(reference_loss(net, images, statistics, labels, share), rel=1e-12)


def test_convolutions_are_left_out_at_random() -> None:
    """G-VBSM's small images: every convolution has its own draw, a BatchNorm none; none without a seed."""
    net, statistics, labels = small_net(), some_statistics(), torch.zeros(5, dtype=torch.int64)
    images = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    kept = MatchingSpec(convolutions=True, patch=PATCH, first_layer_factor=1.0)
    with Matching(net, kept, statistics) as matching:
        net(images)
        whole = matching.loss(labels).item()
    parts = {}
    for name in ("0", "4"):
        fields = [f"{name}/{kind}" for kind in ("channel", "patch")]
        parts[name] = sum(gap(moments(net, images, field), wanted(statistics, field, None)) for field in fields)
    spec, found = replace(kept, drop=0.4), []
    with Matching(net, spec, statistics, seed=3) as matching:
        for _ in range(500):
            net(images)
            found.append(round(whole - matching.loss(labels).item(), 6))
    sums = {"none": 0.0, "0": parts["0"], "4": parts["4"], "both": parts["0"] + parts["4"]}
    shares = {name: np.mean(np.isclose(found, value, atol=1e-5)) for name, value in sums.items()}
    assert sum(shares.values()) == pytest.approx(1)
    for name, expected in {"none": 0.36, "0": 0.24, "4": 0.24, "both": 0.16}.items():
        assert shares[name] == pytest.approx(expected, abs=0.07)
    with Matching(net, spec, statistics) as matching:
        net(images)
        assert matching.loss(labels).item() == whole


def test_class_statistics_of_batch_norms_alone() -> None:
    """LPLD: one class, its own statistics, no convolutions."""
    net, statistics = small_net(), some_statistics()
    images = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    with Matching(net, MatchingSpec(statistics="class"), statistics) as matching:
        net(images)
        found = matching.loss(torch.full((5,), 2)).item()
    first = gap(channel_moments(inputs_of(net, images, 1)), wanted(statistics, "1/channel", [2]))
    second = gap(channel_moments(inputs_of(net, images, 5)), wanted(statistics, "5/channel", [2]))
    assert found == pytest.approx(10 * first + second, rel=1e-12)


def test_moving_average_has_its_value_and_the_batch_gradient() -> None:
    """Three batches at a = 0.4: the average starts at the first one's value, and starts anew after `reset`."""
    net, labels = small_net(), torch.zeros(4, dtype=torch.int64)
    batches = [torch.randn(4, 3, 8, 8, dtype=torch.float64) for _ in range(3)]
    averages = [channel_moments(inputs_of(net, batches[0], layer)) for layer in (1, 5)]
    with Matching(net, MatchingSpec(ema=0.4, first_layer_factor=1.0)) as matching:
        for number, images in enumerate(batches):
            net(images)
            found = matching.loss(labels).item()
            for place, layer in enumerate((1, 5) if number else ()):
                now = channel_moments(inputs_of(net, images, layer))
                averages[place] = tuple(0.4 * old + 0.6 * new for old, new in zip(averages[place], now, strict=True))
            reference = sum(gap(a, norm_moments(net[layer])) for a, layer in zip(averages, (1, 5), strict=True))
            assert found == pytest.approx(reference, rel=1e-12)
        matching.reset()
        net(batches[2])
        afresh = matching.loss(labels).item()
    with Matching(net, MatchingSpec(first_layer_factor=1.0)) as matching:
        net(batches[2])
        assert afresh == pytest.approx(matching.loss(labels).item(), rel=1e-12)


def test_moving_average_gradient_by_hand() -> None:
    """One BatchNorm on the images, means alone: d loss / d x = (average - target) / |average - target| / (N H W)."""
    net = nn.Sequential(nn.BatchNorm2d(3)).double().eval().requires_grad_(False)
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    spec = MatchingSpec(variance_weight=0.0, first_layer_factor=1.0, ema=0.8)
    labels = torch.zeros(2, dtype=torch.int64)
    with Matching(net, spec) as matching:
        net(torch.ones_like(images))
        matching.loss(labels)
        net(images)
        matching.loss(labels).backward()
    average = 0.8 + 0.2 * images.detach().mean((0, 2, 3))
    expected = (average / average.norm() / 32)[None, :, None, None].expand_as(images)
    torch.testing.assert_close(images.grad, expected, rtol=1e-12, atol=0)


def test_needed_statistics_follow_from_the_spec() -> None:
    for spec in (MatchingSpec(statistics="class"), MatchingSpec(convolutions=True)):
        with pytest.raises(ConfigError, match="found none"):
            Matching(small_net(), spec)
