"""Losses against those of the official codes for the same network and images; see DISTILLATION.md."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fastdc.methods import get_method
from fastdc.methods.bases.recovery_methods import RecoverMethod
from fastdc.nn.device import Compute
from fastdc.recover.image_losses import densification
from fastdc.recover.layer_statistics import Statistics
from fastdc.recover.measure_statistics import _finish, _summing
from fastdc.recover.recovery_job import BatchStart
from fastdc.recover.recovery_recipe import ClassVariance, MatchingSpec, StatisticsSpec
from fastdc.recover.shared_view import SharedView
from fastdc.recover.statistics_matching import Matching
from fastdc.recover.weight_adjustment import adjusted
from tests.peers.distillation_inputs import CLASSES, LABELS, SIDE, PlainNet, images, values

RUNNING, CLASSWISE, CONVOLUTIONS = values("running"), values("classes"), values("convolutions")
METHODS = {"sre2l": "sre2l", "sre2l_small": "sre2l", "cda": "cda", "delt": "delt", "fadrm": "fadrm"}
TARGETS = torch.tensor(LABELS)
EXACT = 1e-12  # float64 on both sides


def family(name: str) -> RecoverMethod:
    method = get_method(name)
    assert isinstance(method, RecoverMethod)
    return method


def spec_of(name: str, side: int = 224, **settings: Any) -> MatchingSpec:
    config = family(name).configure(settings)
    return family(name).matching(family(name).recipe(config, side))


def measured(spec: StatisticsSpec, batches: Sequence[int]) -> Statistics:
    """Return statistics of `images()`, passed to `PlainNet` in batches of these sizes."""
    rows = CLASSES if spec.by_class else 1
    labels = TARGETS if spec.by_class else torch.zeros_like(TARGETS)
    with torch.no_grad(), _summing(net := PlainNet(), rows, spec) as (sums, current):
        for batch, own in zip(images().split(list(batches)), labels.split(list(batches)), strict=True):
            current[:] = [own]
            net(batch)
    return _finish(sums, torch.bincount(labels, minlength=rows).double(), spec)


def matched(spec: MatchingSpec, weight: float) -> dict[str, Any]:
    """Return loss and gradient of one batch: cross entropy and `weight` times the statistics loss."""
    net, batch = PlainNet(), images().requires_grad_(True)
    with Matching(net, spec) as matching:
        loss = functional.cross_entropy(net(batch), TARGETS) + weight * matching.loss(TARGETS)
    (gradient,) = torch.autograd.grad(loss, batch)
    return {"loss": loss.item(), "gradient": gradient[3, 1, 5, :6].tolist(), "gradient_norm": gradient.norm().item()}


def layer_losses(spec: MatchingSpec) -> list[float]:
    """Return the statistics loss of each BatchNorm, the first without its factor."""
    net = PlainNet()
    with Matching(net, MatchingSpec(spec.mean_weight, spec.variance_weight, 1.0)) as matching:
        net(images())
        return [term.item() for term in matching._terms(TARGETS)]


@pytest.mark.parametrize("name", METHODS)
def test_running_statistics_and_the_first_layers_factor(name: str) -> None:
    spec, expected = spec_of(METHODS[name]), dict(RUNNING["losses"][name])
    assert layer_losses(spec) == pytest.approx(expected.pop("layers"), rel=EXACT)
    found = matched(spec, 0.01)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=EXACT, abs=1e-15), key


@pytest.mark.parametrize(("name", "side"), [("dwa_2", 224), ("dwa_11", 64), ("dwa_11", 32), ("dwa_1", None)])
def test_dwas_weight_of_variances(name: str, side: int | None) -> None:
    spec = MatchingSpec() if side is None else spec_of("dwa", side)
    expected = RUNNING["losses"][name]
    assert layer_losses(spec) == pytest.approx(expected["layers"], rel=EXACT)
    assert matched(spec, 0.01)["loss"] == pytest.approx(expected["loss"], rel=EXACT)


@pytest.mark.parametrize(("kind", "batches"), [("exact", (6,)), ("released", (1,) * 6), ("exact", (2, 3, 1))])
def test_lplds_statistics_of_classes(kind: ClassVariance, batches: tuple[int, ...]) -> None:
    """The official module gives the total variance for one batch of a class, and the released one image by image."""
    found = measured(StatisticsSpec(SIDE, class_variance=kind), batches)
    for layer, expected in CLASSWISE[kind].items():
        for name, rows in expected.items():
            tensor = found.tensors[f"{layer}/channel/class/{name}"]
            torch.testing.assert_close(tensor, torch.tensor(rows), rtol=1e-6, atol=1e-8)


def test_lplds_loss_against_its_own_class() -> None:
    statistics = measured(StatisticsSpec(SIDE), (6,))
    for label, expected in enumerate(CLASSWISE["losses"]):
        net = PlainNet()
        with Matching(net, spec_of("lpld"), statistics) as matching:
            net(images(4, phase=3.0))
            assert matching.loss(torch.full((4,), label)).item() == pytest.approx(expected, rel=1e-6)


def convolutional_statistics(name: str, patch: int) -> Statistics:
    by_class = name == "edc"
    spec = StatisticsSpec(SIDE, by_class, by_class, True, patch, "released")
    return measured(spec, (6,))


@pytest.mark.parametrize("patch", [16, 4])
@pytest.mark.parametrize("name", ["gvbsm", "edc"])
def test_statistics_of_convolutions_and_patches(name: str, patch: int) -> None:
    found = convolutional_statistics(name, patch)
    for layer, tensors in CONVOLUTIONS[name][str(patch)]["statistics"].items():
        for key, expected in tensors.items():
            scope, kind, moment = ("set", *key.split("_")) if key.count("_") == 1 else key.split("_")
            tensor = found.tensors[f"{layer}/{kind}/{scope}/{moment}"]
            torch.testing.assert_close(tensor, torch.tensor(expected), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("patch", "side"), [(16, 224), (4, 64)])
@pytest.mark.parametrize("name", ["gvbsm", "edc"])
def test_convolutions_a_moving_average_and_edcs_target(name: str, patch: int, side: int) -> None:
    """Average the statistics of three passes of one batch; EDC takes half of each distance to the classes."""
    net, statistics = PlainNet(), convolutional_statistics(name, patch)
    spec = spec_of(name, side, statistics="released") if name == "edc" else spec_of(name, side)
    assert spec.patch == patch
    with Matching(net, spec, statistics) as matching:
        for number, expected in enumerate(CONVOLUTIONS[name][str(patch)]["passes"]):
            batch = images(phase=4.0 + number).requires_grad_(True)
            net(batch)
            loss = matching.loss(TARGETS.roll(number))
            (gradient,) = torch.autograd.grad(loss, batch)
            assert loss.item() == pytest.approx(expected["loss"], rel=1e-5)
            if number > 0:
                assert gradient.norm().item() == pytest.approx(expected["gradient_norm"], rel=1e-5)


@pytest.mark.parametrize("case", CONVOLUTIONS["densification"], ids=lambda case: f"{case['scale']}")
def test_densification(case: dict[str, Any]) -> None:
    batch = (images(6, side=64, phase=2.0) * case["scale"]).requires_grad_(True)
    loss = densification(batch, torch.tensor(case["labels"]))
    (gradient,) = torch.autograd.grad(loss, batch)
    assert loss.item() == pytest.approx(case["loss"], rel=1e-3, abs=1e-6)  # the official eigenvalues are float32
    assert gradient.norm().item() == pytest.approx(case["gradient_norm"], rel=1e-3)


@pytest.mark.parametrize("case", values("adjustment")["cases"], ids=lambda case: f"{case['steps']}-{case['radius']}")
def test_dwas_directed_weight_adjustment(case: dict[str, Any]) -> None:
    view = SharedView((0, 0, SIDE, SIDE), mirror=False, roll=(0, 0))
    compute = Compute(torch.device("cpu"), "fp32", 1)
    before = PlainNet()
    (net,) = adjusted([before], BatchStart(images(), TARGETS, view, compute), case["steps"], case["radius"])
    moved = flat(net) - flat(before)
    assert moved.norm().item() == pytest.approx(case["moved"], rel=1e-6)
    # cross entropy is float32 here
    torch.testing.assert_close(
        moved[::17], torch.tensor(case["weights"]).double(), rtol=1e-3, atol=1e-6 * case["radius"]
    )
    with torch.no_grad():
        logits = net(images())
    torch.testing.assert_close(logits, torch.tensor(case["logits"]).double(), rtol=1e-5, atol=1e-7)
    loss = functional.cross_entropy(before(images()), TARGETS).item()
    assert loss == pytest.approx(case["losses"][0], rel=EXACT)


def flat(net: PlainNet) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in net.parameters()])
