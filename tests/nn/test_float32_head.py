"""The last layer and its logits are float32, even if the network computes in bf16."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from fastdc.beton import BetonFile, describe_beton, fit_image
from fastdc.common.errors import ConfigError
from fastdc.loader import Batch, EvalView, ViewRequest, open_loader
from fastdc.nn.accuracy import measure_accuracy
from fastdc.nn.device import Compute, choose_compute
from fastdc.nn.fit import Fit
from fastdc.nn.fit_plan import FitPlan, Recorder
from fastdc.nn.float32_head import head_layers
from fastdc.nn.models import build_model
from fastdc.observe import ObserverConfig, observe
from fastdc.observe.record_needs import ObserverNeeds
from fastdc.teachers import agreement
from fastdc.teachers.network import Teacher, freeze
from fastdc.teachers.view_losses import view_losses
from fastdc.train.labels.targets import TimedTeacher

LINEAR_HEADS = ("convnet_w8", "resnet18_small", "resnet18", "mobilenet_v2", "swin_t", "convnext_tiny", "googlenet")


@pytest.fixture
def half() -> Compute:
    return choose_compute("bf16", 1)


def inputs(side: int, count: int = 4) -> torch.Tensor:
    pixels = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    return pixels.contiguous(memory_format=torch.channels_last)


def run(compute: Compute, model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits, and the input of the last layer."""
    caught: list[torch.Tensor] = []
    (head,) = head_layers(model)
    handle = head.register_forward_pre_hook(lambda _layer, given: caught.append(given[0]))
    with torch.no_grad():
        logits = compute.logits(model, images)
    handle.remove()
    return logits, caught[0]


def exact_logits(compute: Compute, model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the logits of a float32 linear layer on the features of the reduced pass."""
    _, features = run(compute, model.eval(), images)
    (head,) = head_layers(model)
    assert isinstance(head, nn.Linear)
    return functional.linear(features.float(), head.weight, head.bias).detach()


def is_rounded(values: torch.Tensor) -> bool:
    """Return whether every value is a bf16 number."""
    return torch.equal(values, values.bfloat16().float())


@pytest.mark.parametrize("arch", LINEAR_HEADS)
def test_logits_are_those_of_a_float32_layer_on_the_same_features(half: Compute, arch: str) -> None:
    model = build_model(arch, 1000, 64, 0).eval()
    names = list(model.state_dict())
    logits, features = run(half, model, inputs(64))
    (head,) = head_layers(model)
    assert isinstance(head, nn.Linear)
    assert torch.equal(logits, functional.linear(features.float(), head.weight, head.bias))
    assert not is_rounded(logits)
    assert list(model.state_dict()) == names


def test_a_convolution_as_the_last_layer_is_float32_too(half: Compute) -> None:
    model = build_model("squeezenet1_1", 1000, 64, 0).eval()
    logits, features = run(half, model, inputs(64))
    (head,) = head_layers(model)
    assert isinstance(head, nn.Conv2d)
    maps = functional.conv2d(features.float(), head.weight, head.bias)
    assert features.dtype == torch.bfloat16
    torch.testing.assert_close(logits, maps.relu().mean((2, 3)), rtol=1e-5, atol=1e-6)
    assert not is_rounded(logits)


@pytest.mark.parametrize("name", ["resnetv2_50x1_bit", "vit_tiny_patch16_224", "tf_efficientnet_lite0", "ghostnet_050"])
def test_networks_of_timm(half: Compute, name: str) -> None:
    timm = pytest.importorskip("timm", reason="needs timm: pip install 'fastdc[teachers]'")
    logits = half.logits(timm.create_model(name, num_classes=1000).eval(), inputs(224, 1))
    assert logits.dtype == torch.float32
    assert not is_rounded(logits)


def test_both_heads_of_a_distilled_transformer(half: Compute) -> None:
    timm = pytest.importorskip("timm", reason="needs timm: pip install 'fastdc[teachers]'")
    model = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=10).eval()
    assert head_layers(model) == [model.head_dist, model.head]
    assert half.logits(model, inputs(224, 1)).dtype == torch.float32


def test_efficientnet_lite0(half: Compute) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="needs pip install 'fastdc[teachers]'")
    model = package.EfficientNet.from_name("efficientnet-lite0").eval()
    logits, features = run(half, model, inputs(224, 2))
    assert torch.equal(logits, functional.linear(features.float(), model._fc.weight, model._fc.bias))


def test_logits_do_not_tie_and_keep_the_order_of_float32(half: Compute) -> None:
    images, model = inputs(28, 600), build_model("convnet1_w8", 1000, 28, 0).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(images)
    assert rounded.dtype == torch.bfloat16
    assert ties(rounded.float()) > 10  # the logits that were ranked before
    logits, features = run(half, model, images)
    (head,) = head_layers(model)
    assert isinstance(head, nn.Linear)
    assert ties(logits) == 0
    expected = functional.linear(features.float(), head.weight, head.bias)
    assert torch.equal(logits.argmax(1), expected.argmax(1))
    assert not torch.equal(rounded.float().argmax(1), expected.argmax(1))


def ties(logits: torch.Tensor) -> int:
    best = logits.topk(2).values
    return int((best[:, 0] == best[:, 1]).sum())


def test_accuracy_ranks_float32_logits(half: Compute, betons: Any) -> None:
    model = build_model("convnet1_w8", 8, 28, 0)
    (head,) = head_layers(model)
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([1, 1.001, 1.002, 0, 0, 0, 0, 0]))  # in bf16 all three are 1, and class 0 wins
    found = measure_accuracy(model, open_loader(betons.val, EvalView(28, 32), batch_size=60), 8, half)
    assert found.top1_counts.tolist() == [0, 0, 20, 0, 0, 0, 0, 0]


def test_a_copy_and_a_second_precision_are_correct(half: Compute) -> None:
    model, images = build_model("convnet_w8", 10, 28, 0).eval(), inputs(28)
    whole = choose_compute("fp32", 1)
    with torch.no_grad():
        before = whole.logits(model, images)
        low = half.logits(model, images)
        copied = copy.deepcopy(model)
        copied.load_state_dict(model.state_dict())
        assert torch.equal(half.logits(copied, images), low)
        assert torch.equal(whole.logits(model, images), before)
        head = head_layers(copied)[0]
        assert isinstance(head, nn.Linear)
        head.weight.zero_()
        assert not torch.equal(half.logits(copied, images), low)  # a copy's last layer is its own


def test_a_network_without_a_last_layer_is_refused(half: Compute) -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3 * 4 * 4, 5))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1) @ self.weight

    with pytest.raises(ConfigError, match=r"Product: its logits are torch.bfloat16 under precision bf16, expected"):
        half.logits(Product(), inputs(4))
    assert choose_compute("fp32", 1).logits(Product(), inputs(4)).dtype == torch.float32


class Seen(Recorder):
    """Recorder that keeps logits."""

    def __init__(self) -> None:
        self.logits: list[torch.Tensor] = []

    def batch(self, batch: Batch, logits: torch.Tensor) -> None:
        self.logits.append(logits)

    def epoch_end(self, epoch: int, loss: float, lr: float) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        pass


def test_training_records_and_learns_from_float32_logits(half: Compute) -> None:
    losses: list[torch.Tensor] = []

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        assert not torch.is_autocast_enabled("cpu")
        losses.append(logits)
        return functional.cross_entropy(logits, targets)

    model, seen = build_model("convnet1_w8", 10, 28, 0), Seen()
    plan = FitPlan(1, 1, lambda *_: 0.1, loss, seed=0)
    fit = Fit(model, torch.optim.SGD(model.parameters()), half, plan, seen)
    pixels = torch.randint(0, 256, (8, 28, 28, 3), dtype=torch.uint8)
    fit.model.train()
    fit.take(Batch(pixels, torch.arange(8), torch.arange(8)))
    for logits in (*seen.logits, *losses):
        assert logits.dtype == torch.float32
        assert not is_rounded(logits)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.fixture
def teacher() -> Teacher:
    model = freeze(build_model("convnet1_w8", 3, 28, 0), torch.device("cpu"))
    return Teacher("t", "t", "convnet1_w8", model, 28, 0.0)


def test_labels_of_a_teacher(half: Compute, teacher: Teacher) -> None:
    images = inputs(28, 8)
    given = TimedTeacher(teacher, 3, half)(images)
    assert torch.equal(given, run(half, teacher.model, images)[0])
    assert not is_rounded(given)


def test_losses_of_views(half: Compute, teacher: Teacher, betons: Any) -> None:
    samples, view = np.arange(20), EvalView(28)
    found = view_losses(betons.train, samples, [ViewRequest(view)], 28, [teacher], half, batch_size=20, label="test")
    (batch,) = open_loader(betons.train, view, batch_size=20, indices=samples).epoch(0)
    logits = exact_logits(half, teacher.model, half.images(batch.images)).double()
    expected = functional.cross_entropy(logits, batch.labels, reduction="none").numpy()
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)


def test_predictions_for_the_class_order_of_a_teacher(half: Compute, betons: Any) -> None:
    model = freeze(build_model("convnet1_w8", 3, 28, 0), torch.device("cpu"))
    (head,) = head_layers(model)
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([1, 1.001, 1.002]))  # in bf16 all three are 1, and class 0 wins
    with BetonFile(betons.train) as beton:
        images = (fit_image(beton.decode(index), 28, "crop") for index in range(10))
        found = agreement._guess(Teacher("t", "t", "convnet1_w8", model, 28, 0.0), images, half)
    assert found.tolist() == [2] * 10


def test_an_observers_log_and_final_pass(tmp_path: Path, betons: Any) -> None:
    config = ObserverConfig(
        arch="convnet1_w8", epochs=2, batch_size=32, image_size=28, precision="bf16", device="cpu", threads=1
    )
    (record,) = observe(betons.train, tmp_path, config, needs=ObserverNeeds(final=True))
    weights = build_model("convnet1_w8", len(describe_beton(betons.train).classes), 28, 0)
    assert record.weights is not None
    weights.load_state_dict(load_file(record.weights))
    (head,) = head_layers(weights)
    with BetonFile(betons.train) as beton:
        labels = torch.from_numpy(beton.labels.astype(np.int64))
    features = torch.from_numpy(record.final.features().astype(np.float32))  # bf16 values, which fp16 holds exactly
    logits = head(features).detach()
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    np.testing.assert_allclose(record.final.field("margin"), own[:, 0] - others, rtol=0, atol=1e-5)
    margins = torch.from_numpy(record.field("margin").copy())
    assert not torch.equal(margins, (margins * 2**12).round() / 2**12)
