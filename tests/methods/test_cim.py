"""CIM's selection and combination against the same choice with torchvision's pixels and float64 losses."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.transforms import CenterCrop, Compose, Resize

from fastdc.beton import BetonFile
from fastdc.common.errors import ConfigError, MethodError
from fastdc.common.keys import derive_seed
from fastdc.methods import Compressed, MethodContext, get_method
from fastdc.methods.bases.method import Mosaic
from fastdc.methods.bases.mosaics import make_mosaics
from fastdc.methods.bases.patches import random_pools
from fastdc.nn.device import Compute
from fastdc.observe import ObserverConfig
from fastdc.subsets.compress import compress_beton
from fastdc.subsets.from_list import compress_list
from fastdc.teachers.resources import Teaching
from tests.conftest import CLASSES, Betons
from tests.methods.test_patches import TinyNet, reference_loss, teacher_of, with_teachers

SIDE = 32


@pytest.fixture
def context(betons: Betons, tmp_path: Path) -> MethodContext:
    beton, compute = BetonFile(betons.train), Compute(torch.device("cpu"), "fp32", 1)
    teaching = Teaching((teacher_of(TinyNet(0)),), compute, betons.train, tmp_path / "scratch")
    return MethodContext(beton.labels, CLASSES, SIDE, beton.decode, teaching=teaching)


def compress(context: MethodContext, ipc: int, seed: int = 0, **settings: Any) -> Compressed:
    method = get_method("cim")
    return method.compress(context, method.configure(settings), ipc, seed)


def made(compressed: Compressed) -> np.ndarray:
    assert compressed.images is not None
    return np.stack(list(compressed.images()))


def view(image: np.ndarray, resize: int, size: int = SIDE) -> np.ndarray:
    """Resize the shorter side and crop the centre, by torchvision on Pillow."""
    transform = Compose([Resize(resize, antialias=True), CenterCrop(size)])
    return np.asarray(transform(Image.fromarray(image)))


def shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resize by torch's nearest neighbour, the default of `interpolate`."""
    batch = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()).float()
    return interpolate(batch, size=(side, side))[0].numpy().transpose(1, 2, 0).astype(np.uint8)


def pool_of(context: MethodContext, label: int, size: int, seed: int) -> list[int]:
    """Return the first `size` images of a shuffle of the class."""
    members = np.flatnonzero(context.labels == label)
    generator = np.random.Generator(np.random.PCG64([derive_seed(seed, "patch pool"), label]))
    return sorted(generator.permutation(members)[:size].tolist())


@pytest.mark.parametrize(("ipc", "grid", "resize"), [(3, 2, 32), (2, 2, 37), (1, 4, 32), (4, 1, 40)])
def test_cim_equals_a_plain_reference(context: MethodContext, ipc: int, grid: int, resize: int) -> None:
    compressed = compress(context, ipc, seed=5, pool=17, grid=grid, resize=resize, batch_size=7)
    images, tile = made(compressed), SIDE // grid
    for label in range(len(CLASSES)):
        pool = pool_of(context, label, 17, 5)
        losses = {i: reference_loss([TinyNet(0)], view(context.image(i), resize), label) for i in pool}
        ranking = sorted(pool, key=lambda i: losses[i])[: ipc * grid**2]
        for number in range(ipc):
            row = label * ipc + number
            expected = [ranking[place * ipc + number] for place in range(grid**2)]
            assert compressed.sources[row].tolist() == expected
            for place, sample in enumerate(expected):
                top, left = place // grid * tile, place % grid * tile
                found = images[row, top : top + tile, left : left + tile]
                assert np.array_equal(found, shrunk(view(context.image(sample), resize), tile))
    assert compressed.labels.tolist() == np.repeat(np.arange(len(CLASSES)), ipc).tolist()
    assert np.array_equal(images, made(compressed)), "made anew, the same"


def test_the_hints_of_the_mosaics(context: MethodContext) -> None:
    """A quarter of the visits of a 2 x 2 mosaic see all of it: 1 / grid**2."""
    assert compress(context, 1, pool=4).hints == {"tile_grid": 2, "tile_whole": 0.25}
    assert compress(context, 1, pool=9, grid=3).hints == {"tile_grid": 3, "tile_whole": pytest.approx(1 / 9)}
    assert compress(context, 1, pool=4, grid=1).hints == {}


@pytest.mark.parametrize(("side", "resize"), [(28, 28), (32, 32), (64, 64), (127, 127), (128, 146), (224, 256)])
def test_the_scripts_view_for_each_side(context: MethodContext, side: int, resize: int) -> None:
    """Whole images on CIFAR and Tiny-ImageNet; 256 to 224 and 146 to 128 px on ImageNet and its parts."""
    wide = np.random.default_rng(3).integers(0, 256, (70, 101, 3), np.uint8)
    images = made(compress(replace(context, image_size=side, image=lambda index: wide), 1, pool=4, grid=1))
    assert np.array_equal(images[0], view(wide, resize, side))


def test_mosaics_of_another_side_keep_the_cropped_share() -> None:
    """256 to 224 px corresponds to 293 to 256; a list may be used at another side."""
    wide = np.random.default_rng(3).integers(0, 256, (70, 101, 3), np.uint8)
    mosaic = Mosaic(grid=1, fit="squash", resize="nearest", view=256 / 224)
    for side, resize in ((224, 256), (256, 293), (32, 37)):
        (image,) = make_mosaics(lambda index: wide, np.zeros((1, 1), np.int64), side, mosaic)
        assert np.array_equal(image, view(wide, resize, side))
    for side in range(8, 300):
        assert all(round(resize / side * side) == resize for resize in range(side, 2 * side, 7))


def test_an_odd_side_is_filled(context: MethodContext) -> None:
    """Tiles have 16 and 17 px, or 17 and 16: the edge is where every mosaic of fastdc has it."""
    image = made(compress(replace(context, image_size=33, image=lambda index: np.full((40, 50, 3), 9, np.uint8)), 1))[0]
    assert image.shape == (33, 33, 3)
    assert (image == 9).all()


def test_the_pool_is_that_of_rded_and_grows_if_necessary(context: MethodContext) -> None:
    pools = random_pools(context, 6, derive_seed(3, "patch pool"))
    found = compress(context, 1, seed=3, pool=6)
    assert all(set(found.sources[label]) <= set(pools[label].tolist()) for label in range(len(CLASSES)))
    most = compress(context, 10, pool=2)
    for label in range(len(CLASSES)):
        assert len(np.unique(most.sources[most.labels == label])) == 40, "every image of the class, once"
    assert not np.array_equal(compress(context, 1, seed=4, pool=6).sources, found.sources)


def test_the_losses_belong_to_the_chosen_images(context: MethodContext) -> None:
    found = compress(context, 2, pool=12)
    losses = [
        reference_loss([TinyNet(0)], view(context.image(int(i)), SIDE), int(context.labels[i]))
        for i in found.sources.ravel()
    ]
    assert found.details["loss_min"] == pytest.approx(min(losses), rel=1e-5)
    assert found.details["loss_max"] == pytest.approx(max(losses), rel=1e-5)


def test_several_teachers_vote_by_their_mean_logits(context: MethodContext) -> None:
    nets = [TinyNet(1), TinyNet(2)]
    found = compress(with_teachers(context, *nets), 1, pool=40, grid=1)
    for label in range(len(CLASSES)):
        members = np.flatnonzero(context.labels == label)
        losses = [reference_loss([TinyNet(1), TinyNet(2)], view(context.image(int(i)), SIDE), label) for i in members]
        assert found.sources[label, 0] == members[int(np.argmin(losses))]


def test_omissions_are_reported() -> None:
    method = get_method("cim")
    (alone,) = method.reductions(method.configure({}), 224)
    assert "without CIM's matching of features" in alone
    assert method.reductions(method.configure({"pool": 40}), 224) == (
        alone,
        "40 candidate images per class instead of 300",
    )


def test_training_crops_are_known_before_the_set() -> None:
    cim, pact = get_method("cim"), get_method("pact")
    assert cim.training_crop(cim.configure({})).hints == {"tile_grid": 2, "tile_whole": 0.25}
    assert [pact.training_crop(pact.configure({"grid": grid})).hints for grid in (None, 3)] == [
        {"tile_grid": 2},
        {"tile_grid": 3},
    ]
    for method in (cim, pact):
        assert method.training_crop(method.configure({"augment": "tile:2+views=3"})).views == 3


def test_visits_of_the_dry_run() -> None:
    """Each pooled image once forward, a third of a visit."""
    method = get_method("cim")
    assert method.network_visits(method.configure({}), 100, 9_000, 64, 10) == 1_000
    assert method.network_visits(method.configure({}), 100, 600, 64, 10) == 200
    assert method.network_visits(method.configure({"teachers": "a+b", "pool": 3}), 100, 9_000, 64, 10) == pytest.approx(
        800 / 3
    )


def test_invalid_requests_are_refused(context: MethodContext) -> None:
    with pytest.raises(MethodError, match="class 't-shirt' has 40"):
        compress(context, 11)
    with pytest.raises(MethodError, match="cim: needs a teacher"):
        compress(replace(context, teaching=None), 1)
    with pytest.raises(ConfigError, match="resize=31"):
        compress(context, 1, resize=31)
    with pytest.raises(ConfigError, match="fit=pad changes nothing"):
        compress(context, 1, fit="pad")
    with pytest.raises(ConfigError, match="grid=0"):
        compress(context, 1, grid=0)
    broken = with_teachers(context, torch.nn.Sequential(TinyNet(0), torch.nn.Threshold(math.inf, math.nan)))
    with pytest.raises(MethodError, match=r"tiny net: its loss on training image \d+ is not finite"):
        compress(broken, 1, pool=4)


def test_from_a_beton_to_a_subset_with_a_trained_observer(betons: Betons, tmp_path: Path) -> None:
    settings = {"arch": "convnet_w32", "epochs": 3, "image_size": 28, "threads": 1}
    observer, stored = ObserverConfig.make(settings, "observer"), []
    for number in range(2):
        made = compress_beton(
            "cim",
            betons.train,
            tmp_path / f"{number}.beton",
            ipc=4,
            image_size=28,
            workdir=tmp_path / "work",
            observer=observer,
            threads=1,
        )
        stored.append((tmp_path / f"{number}.beton").read_bytes())
        assert made.manifest.counts == (4, 4, 4)
        assert made.manifest.hints == {"tile_grid": 2, "tile_whole": 0.25}
        assert len(made.manifest.ids[0].split("+")) == 4
    assert stored[0] == stored[1]
    listed = tmp_path / "0.list.tsv"
    again = compress_list(listed, betons.train, tmp_path / "again.beton")
    assert (tmp_path / "again.beton").read_bytes() == stored[0], "the list holds all that the mosaics need"
    assert again.hints == made.manifest.hints
    assert (tmp_path / "again.list.tsv").read_text().splitlines()[0] == listed.read_text().splitlines()[0]
