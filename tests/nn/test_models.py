"""Networks by name."""

import pytest
import torch

from fastdc.common.errors import ConfigError
from fastdc.nn.models import build_model, decay_weights_only


@pytest.mark.parametrize(
    ("arch", "size"),
    [
        ("resnet18", 64),
        ("resnet18_small", 32),
        ("convnet", 28),
        ("convnet_w32", 64),
        ("convnet2_w16", 16),
        ("resnet10", 28),
    ],
)
def test_forward_and_seeded_weights(arch: str, size: int) -> None:
    first, again, other = (build_model(arch, 7, size, seed) for seed in (0, 0, 1))
    images = torch.randn(2, 3, size, size)
    first.eval(), again.eval(), other.eval()
    assert first(images).shape == (2, 7)
    assert torch.equal(first(images), again(images))
    assert not torch.equal(first(images), other(images))


def test_building_keeps_the_global_generator() -> None:
    before = torch.get_rng_state()
    build_model("convnet_w8", 2, 28, 0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("size", "blocks"), [(28, 3), (32, 3), (64, 4), (16, 2)])
def test_convnet_depth_follows_the_image(size: int, blocks: int) -> None:
    model = build_model("convnet_w8", 2, size, 0)
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in model) == blocks


def test_only_matrices_decay() -> None:
    decayed, plain = decay_weights_only(build_model("resnet18_small", 3, 32, 0), 0.01)
    assert decayed["weight_decay"] == 0.01
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert plain["weight_decay"] == 0
    assert all(p.ndim == 1 for p in plain["params"])


def test_the_benchmarks_decay_rule_matches_names() -> None:
    class Tables(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position_table = torch.nn.Parameter(torch.zeros(3, 3))
            self.linear = torch.nn.Linear(2, 2)

    model = Tables()
    decayed, plain = decay_weights_only(model, 0.01)
    assert [id(p) for p in decayed["params"]] == [id(model.linear.weight)]
    assert len(plain["params"]) == 2


def test_bad_names_and_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        build_model("resnet81", 2, 224, 0)
    with pytest.raises(ConfigError, match="cannot be halved"):
        build_model("convnet6_w8", 2, 28, 0)


@pytest.mark.parametrize(("arch", "size"), [("vit_b_16", 64), ("alexnet", 32), ("vgg16", 28)])
def test_a_network_that_takes_no_images_of_a_side_is_refused(arch: str, size: int) -> None:
    with pytest.raises(ConfigError, match=rf"{arch}: takes no images of {size} px \(.+\); choose another image size"):
        build_model(arch, 2, size, 0)


def test_a_network_is_handed_out_as_it_was_built() -> None:
    """The check of the side leaves the mode, BatchNorm's averages and the weights alone."""
    model = build_model("resnet10_w4", 2, 28, 0)
    assert model.training
    assert all(not buffer.any() for name, buffer in model.named_buffers() if name.endswith(("mean", "tracked")))


def test_resnet10_takes_any_side_and_has_a_7_px_map_at_112() -> None:
    network = build_model("resnet10", 10, 64, 0).eval()
    for side in (28, 64, 112):
        assert network(torch.zeros(1, 3, side, side)).shape == (1, 10)
    maps = torch.zeros(1, 3, 112, 112)
    for layer in list(network)[:-3]:
        maps = layer(maps)
    assert maps.shape == (1, 256, 7, 7)
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_228_970
    widths = [build_model(f"resnet10_w{width}", 10, 64, 0)[0].out_channels for width in (16, 64)]
    assert widths == [16, 64]


def test_resnet10_is_torchvisions_with_one_block_a_stage() -> None:
    """An independent definition is torchvision's ResNet class with blocks [1, 1, 1, 1] and another stem."""
    from torchvision.models.resnet import BasicBlock, ResNet

    theirs = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)
    theirs.conv1, theirs.maxpool = torch.nn.Conv2d(3, 64, 3, 2, 1, bias=False), torch.nn.Identity()
    ours = build_model("resnet10_w64", 10, 64, 0)
    theirs.to(memory_format=torch.channels_last).load_state_dict(
        dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True))
    )
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours.eval()(images), theirs.eval()(images))
