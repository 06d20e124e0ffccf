"""RDED, CA2D and the starts of recoveries against the same choice in float64 with Pillow's pixels."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import CenterCrop, Compose, Resize

from fastdc.beton import BetonFile, fit_image
from fastdc.common.errors import MethodError
from fastdc.common.keys import derive_seed
from fastdc.loader import TrainView
from fastdc.methods import Compressed, MethodContext, get_method
from fastdc.methods.bases.patches import CropLaw, outward
from fastdc.methods.bases.recovery_methods import RecoverMethod
from fastdc.methods.bases.recovery_starts import (
    Start,
    easy_mosaics,
    images_again,
    medium_images,
    medium_mosaics,
    mirrored,
    random_images,
)
from fastdc.nn.device import Compute
from fastdc.observe import ObserverConfig
from fastdc.subsets.compress import compress_beton
from fastdc.teachers.network import Teacher, freeze
from fastdc.teachers.resources import Teaching
from tests.conftest import CLASSES, Betons
from tests.kernels.views.test_crops import drawn_box, pillow_crop
from tests.methods.observed import make_case

SIDE = 32
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class TinyNet(nn.Sequential):
    """Small network with fixed random weights; its losses differ widely between images."""

    def __init__(self, seed: int) -> None:
        super().__init__(
            nn.Conv2d(3, 6, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, len(CLASSES))
        )
        generator = torch.Generator().manual_seed(seed)
        for tensor in self.parameters():
            tensor.data = torch.randn(tensor.shape, generator=generator) * 0.3


class Broken(nn.Module):
    """Network that fails as `fail` does."""

    def __init__(self, fail: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.fail = fail

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fail(images)


def teacher_of(model: nn.Module, identity: str = "tiny") -> Teacher:
    return Teacher("tiny net", identity, "tiny", freeze(model, torch.device("cpu")), SIDE, 0.0)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def context(betons: Betons, tmp_path: Path) -> MethodContext:
    beton = BetonFile(betons.train)
    compute = Compute(torch.device("cpu"), "fp32", 1)
    teaching = Teaching((teacher_of(TinyNet(0)),), compute, betons.train, tmp_path / "scratch")
    return MethodContext(beton.labels, CLASSES, SIDE, beton.decode, teaching=teaching)


def with_teachers(context: MethodContext, *models: nn.Module) -> MethodContext:
    assert context.teaching is not None
    teachers = tuple(teacher_of(model, f"{number}") for number, model in enumerate(models))
    return replace(context, teaching=replace(context.teaching, teachers=teachers))


def made(compressed: Compressed | Start) -> np.ndarray:
    assert compressed.images is not None
    return np.stack(list(compressed.images()))


def reference_loss(models: list[nn.Module], pixels: np.ndarray, label: int) -> float:
    """Return the cross-entropy of the mean logits in float64; the picture is padded with zeros."""
    framed = np.zeros((SIDE, SIDE, 3))
    low = (SIDE - len(pixels)) // 2
    framed[low : low + len(pixels), low : low + len(pixels)] = (pixels / 255 - MEAN) / STD
    images = torch.from_numpy(framed.transpose(2, 0, 1)[None])
    with torch.no_grad():
        logits = np.mean([model.double()(images)[0].numpy() for model in models], axis=0)
    return float(math.log(np.exp(logits - logits.max()).sum()) - (logits[label] - logits.max()))


def crop_of(context: MethodContext, law: CropLaw, sample: int, crop: int, side: int) -> np.ndarray:
    """Crop one candidate with Pillow, at the address of its draws."""
    source = context.image(sample)
    seed = derive_seed(derive_seed(law.seed, "patches", crop=crop), "augment")
    view = TrainView(side, law.scale, law.ratio, law.flip)
    return np.asarray(pillow_crop(source, drawn_box(seed, sample, *source.shape[:2], view), (side, side)))


def reference_rded(context: MethodContext, seed: int, ipc: int, factor: int, crops: int, pool: int) -> np.ndarray:
    """Run RDED over the first `pool` images of a shuffle per class: uint8 [C * ipc, S, S, 3]."""
    law, side, net = CropLaw(seed, crops), SIDE // factor, TinyNet(0)
    images = []
    for label in range(len(CLASSES)):
        members = np.flatnonzero(context.labels == label)
        generator = np.random.Generator(np.random.PCG64([derive_seed(seed, "patch pool"), label]))
        best = []
        for sample in sorted(generator.permutation(members)[:pool]):
            candidates = [crop_of(context, law, int(sample), crop, side) for crop in range(crops)]
            losses = [reference_loss([net], candidate, label) for candidate in candidates]
            best.append((min(losses), candidates[losses.index(min(losses))]))
        best.sort(key=lambda pair: pair[0])
        for number in range(ipc):
            mosaic = Image.new("RGB", (SIDE, SIDE))
            for tile in range(factor**2):
                patch = Image.fromarray(best[tile * ipc + number][1])
                mosaic.paste(patch, (tile % factor * side, tile // factor * side))
            images.append(np.asarray(mosaic))
    return np.stack(images)


@pytest.mark.parametrize(("factor", "ipc"), [(2, 3), (1, 4)])
def test_rded_equals_a_plain_reference(context: MethodContext, factor: int, ipc: int) -> None:
    method = get_method("rded")
    config = method.configure({"pool": 14, "crops": 3, "factor": factor, "batch_size": 17})
    compressed = method.compress(context, config, ipc, seed=5)
    assert np.array_equal(made(compressed), reference_rded(context, 5, ipc, factor, 3, 14))
    assert np.array_equal(made(compressed), made(compressed)), "made anew, the same"
    assert compressed.labels.tolist() == sorted(list(range(len(CLASSES))) * ipc)
    assert compressed.sources.shape == (ipc * len(CLASSES), factor**2)
    assert (context.labels[compressed.sources] == compressed.labels[:, None]).all()
    assert compressed.hints == {}


def test_the_choice_depends_on_the_seed_and_not_on_batches(context: MethodContext, tmp_path: Path) -> None:
    method, chosen = get_method("rded"), []
    for batch_size, seed in ((500, 0), (3, 0), (500, 1)):
        assert context.teaching is not None
        fresh = replace(context, teaching=replace(context.teaching, scratch=tmp_path / f"{batch_size}-{seed}"))
        config = method.configure({"pool": 12, "batch_size": batch_size, "factor": 2})
        chosen.append(made(method.compress(fresh, config, 2, seed)))
    assert np.array_equal(chosen[0], chosen[1])
    assert not np.array_equal(chosen[0], chosen[2])


@pytest.mark.parametrize(("side", "factor"), [(32, 1), (64, 1), (127, 1), (128, 2), (224, 2)])
def test_the_papers_grid_for_each_side(context: MethodContext, side: int, factor: int) -> None:
    method = get_method("rded")
    compressed = method.compress(replace(context, image_size=side), method.configure({"pool": 4, "crops": 1}), 1, 0)
    assert compressed.sources.shape[1] == factor**2
    assert made(compressed).shape == (len(CLASSES), side, side, 3)


def test_the_pool_grows_with_the_mosaics(context: MethodContext) -> None:
    method = get_method("rded")
    compressed = method.compress(context, method.configure({"pool": 2, "crops": 1, "factor": 2}), 10, 0)
    for label in range(len(CLASSES)):
        assert len(np.unique(compressed.sources[compressed.labels == label])) == 40, "every image of the class, once"


@pytest.mark.parametrize("settings", [{"factor": 2}, {}])
def test_a_class_with_too_few_images_is_named(context: MethodContext, settings: dict[str, int]) -> None:
    method = get_method("rded")
    with pytest.raises(MethodError, match=r"'t-shirt' has 40"):
        method.compress(replace(context, image_size=128), method.configure(settings), 11, 0)


def test_without_a_teacher_the_error_is_one_sentence(context: MethodContext) -> None:
    method = get_method("rded")
    with pytest.raises(MethodError, match="rded: needs a teacher"):
        method.compress(replace(context, teaching=None), method.configure({}), 1, 0)


def test_a_broken_teacher_is_named(context: MethodContext) -> None:
    method, config = get_method("rded"), get_method("rded").configure({"pool": 2})
    nan = with_teachers(context, Broken(lambda images: torch.full((len(images), 3), math.nan)))
    with pytest.raises(MethodError, match=r"tiny net: its loss on training image \d+ is not finite"):
        method.compress(nan, config, 1, 0)
    assert nan.teaching is not None
    assert not list(nan.teaching.scratch.glob("*")), "nothing of it is kept"


def test_an_out_of_memory_error_names_the_settings_to_lower(context: MethodContext) -> None:
    method, config = get_method("rded"), get_method("rded").configure({"pool": 2, "batch_size": 40})
    greedy = with_teachers(context, Broken(lambda images: images.new_zeros(2**50)))
    with pytest.raises(MethodError, match=r"batch_size=40 views of 32 px; lower"):
        method.compress(greedy, config, 1, 0)


def test_a_killed_method_reuses_its_losses(context: MethodContext) -> None:
    def refuse(_images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("was scored already")

    method, config = get_method("rded"), get_method("rded").configure({"pool": 6})
    first = method.compress(with_teachers(context, TinyNet(0)), config, 1, 0)
    again = method.compress(with_teachers(context, Broken(refuse)), config, 1, 0)
    assert np.array_equal(made(first), made(again))
    with pytest.raises(AssertionError, match="scored already"):
        method.compress(with_teachers(context, Broken(refuse)), config, 1, 1)


def test_ca2d_takes_its_pool_from_cad_prune(context: MethodContext, tmp_path: Path) -> None:
    observed = make_case(tmp_path, per_class=40, classes=3).context
    method = get_method("ca2d")
    settings = {"pool": 8, "crops": 2, "factor": 2}
    scored = replace(context, observations=observed.observations)
    compressed = method.compress(scored, method.configure(settings), 2, 0)
    scores = get_method("cad_prune").scores(scored, get_method("cad_prune").configure({}))
    assert scores is not None
    for label in range(len(CLASSES)):
        members = np.flatnonzero(scored.labels == label)
        hardest = members[np.argsort(-scores[members])[:8]]
        assert set(compressed.sources[compressed.labels == label].ravel()) == set(hardest), "8 patches of 8 images"
    easy = method.compress(scored, method.configure({**settings, "keep": "easy"}), 2, 0)
    assert not set(easy.sources.ravel()) & set(compressed.sources.ravel())
    assert method.observer_epochs(method.configure({"last_epoch": 9})) == 9
    assert compressed.details["inferred"] == {"reading": "true_class", "last_epoch": 8}, "the pool was chosen"


def test_random_images_are_whole_and_depend_on_the_seed(context: MethodContext) -> None:
    start = random_images(context, 5, 3)
    assert start.sources.shape == (15, 1)
    assert len(set(start.sources.ravel().tolist())) == 15
    assert context.labels[start.sources.ravel()].tolist() == [0] * 5 + [1] * 5 + [2] * 5
    expected = [fit_image(context.image(int(index)), SIDE, "crop") for index in start.sources.ravel()]
    assert np.array_equal(made(start), np.stack(expected))
    assert not np.array_equal(random_images(context, 5, 4).sources, start.sources)


@pytest.mark.parametrize(
    ("count", "middle", "order"),
    [(1, 0, [0]), (4, 1, [1, 2, 0, 3]), (5, 2, [2, 3, 1, 4, 0]), (4, 2, [2, 3, 1, 0]), (1, 1, [0])],
)
def test_outward_from_the_middle(count: int, middle: int, order: list[int]) -> None:
    assert outward(count, middle).tolist() == order


def whole_loss(context: MethodContext, models: list[nn.Module], sample: int, resize: int = 37) -> float:
    """Return the loss of a central view of 32 px: 28 px enlarged to `resize`, 37 in validation."""
    image = Image.fromarray(context.image(sample)).resize((resize, resize), Image.Resampling.BILINEAR)
    low = round((resize - 32) / 2)
    return reference_loss(models, np.asarray(image.crop((low, low, low + 32, low + 32))), int(context.labels[sample]))


def test_medium_images_are_around_the_middle(context: MethodContext) -> None:
    """DELT takes the least confident first, from place ceil(40 / 2) outwards, easier neighbours first."""
    assert context.teaching is not None
    start, nets = medium_images(context, context.teaching.teachers[0], 4), [TinyNet(0)]
    for label in range(len(CLASSES)):
        members = np.flatnonzero(context.labels == label)
        ranking = sorted(members, key=lambda sample: -whole_loss(context, nets, int(sample), resize=32))
        expected = [ranking[place] for place in (20, 21, 19, 22)]
        assert start.sources[label * 4 : label * 4 + 4, 0].tolist() == expected


@pytest.mark.parametrize("side", [28, 32, 64, 96])
def test_medium_images_are_resized_to_eight_sevenths_and_cropped(context: MethodContext, side: int) -> None:
    wide = np.random.default_rng(3).integers(0, 256, (70, 101, 3), np.uint8)
    scene = replace(context, image_size=side, image=lambda index: wide)
    assert scene.teaching is not None
    images = made(medium_images(scene, scene.teaching.teachers[0], 1))
    transform = Compose([Resize(max(side // 7 * 8, side), antialias=True), CenterCrop(side)])
    assert np.array_equal(images[0], np.asarray(transform(Image.fromarray(wide))))
    squashed = made(medium_images(scene, scene.teaching.teachers[0], 1, fit="squash"))
    assert np.array_equal(squashed[0], fit_image(wide, side, "squash"))


def test_images_are_squashed(context: MethodContext) -> None:
    start = images_again(context, 60, 4)
    chosen = start.sources[:, 0]
    assert (context.labels[chosen] == np.repeat(np.arange(3), 60)).all()
    assert 20 < len(set(chosen[:60].tolist())) < 40, "60 draws of 40 images: many come twice, about 9 never"
    assert np.array_equal(made(start)[7], fit_image(context.image(int(chosen[7])), SIDE, "squash"))
    assert not np.array_equal(images_again(context, 60, 5).sources, start.sources)


def test_starts_are_mirrored_half_of_the_time_and_shuffled_on_request(context: MethodContext) -> None:
    plain = images_again(context, 40, 1)
    images, flipped = made(plain), made(mirrored(plain, 9))
    turned = [np.array_equal(new, old[:, ::-1]) for new, old in zip(flipped, images, strict=True)]
    assert all(turned[n] or np.array_equal(flipped[n], images[n]) for n in range(120))
    assert 40 < sum(turned) < 80
    assert np.array_equal(flipped, made(mirrored(plain, 9)))
    halves, orders = SIDE // 2, set()
    for new, old in zip(made(mirrored(plain, 9, shuffled=2)), flipped, strict=True):
        found = [
            (down, right)
            for down in (0, halves)
            for right in (0, halves)
            if np.array_equal(np.roll(old, (down, right), (0, 1)), new)
        ]
        assert found, "rows of tiles change places, or columns, or both"
        orders |= set(found)
    assert len(orders) == 4


def test_edcs_starts_follow_its_scripts(context: MethodContext) -> None:
    """Starts are crops of 128 px mosaics; tiles stay in place except with the paper's setting."""
    method = get_method("edc")
    assert isinstance(method, RecoverMethod)
    config = method.configure({})
    small = method.start(context, config, 20, 2)
    assert small is not None
    assert np.array_equal(made(small), made(mirrored(images_again(context, 20, 2), 2)))
    large = replace(context, image_size=128)
    every = easy_mosaics(large, 8, 2)
    start = method.start(large, config, 8, 2)
    assert start is not None
    rows = [tuple(row) for row in every.sources.tolist()]
    drawn = [rows.index(tuple(row)) // 8 for row in start.sources.tolist()]
    assert drawn == np.repeat(np.arange(3), 8).tolist()
    assert len({tuple(row) for row in start.sources.tolist()}) < 24
    shuffled = method.start(large, method.configure({"shuffle": "paper"}), 8, 2)
    assert shuffled is not None
    assert np.array_equal(shuffled.sources, start.sources)
    first, second = made(start), made(shuffled)
    assert not np.array_equal(first, second)
    assert np.array_equal(np.sort(first, axis=None), np.sort(second, axis=None))


def test_easy_mosaics_hold_the_lowest_crops_of_the_lowest_images(context: MethodContext) -> None:
    models: list[nn.Module] = [TinyNet(0), TinyNet(1)]
    both = with_teachers(context, *[TinyNet(0), TinyNet(1)])
    start = easy_mosaics(both, 2, 7, pool=6, crops=3, factor=2)
    for label in range(len(CLASSES)):
        members = np.flatnonzero(context.labels == label)
        pool = sorted(members, key=lambda sample: whole_loss(context, models, int(sample)))[:6]
        assert set(start.sources[label * 2 : label * 2 + 2].ravel()) <= set(pool)
    assert made(start).shape == (6, SIDE, SIDE, 3)
    assert np.array_equal(made(start), made(easy_mosaics(both, 2, 7, pool=6, crops=3, factor=2)))


def test_easy_mosaics_take_crops_by_loss_alone(context: MethodContext) -> None:
    """With one tile, a mosaic is a crop as it was scored, so its loss follows from its pixels."""
    start = easy_mosaics(context, 9, 1, pool=6, crops=2, factor=1)
    images = made(start)
    for label in range(len(CLASSES)):
        own = images[label * 9 : label * 9 + 9]
        losses = [reference_loss([TinyNet(0)], image, label) for image in own]
        assert losses == sorted(losses)
        assert len(np.unique(start.sources[label * 9 : label * 9 + 9])) < 9, "12 crops of 6 images: some come twice"
    with pytest.raises(MethodError, match="6 images to choose from, 7 images of 2 crops each are needed"):
        easy_mosaics(context, 13, 1, pool=6, crops=2, factor=1)


def test_medium_mosaics_are_around_the_median_of_the_best_crops(context: MethodContext) -> None:
    method = get_method("rded")
    for factor in (1, 2):
        every = method.compress(context, method.configure({"factor": factor}), 40 // factor**2, 2)
        start = medium_mosaics(context, 3, 2, factor=factor)
        for label in range(len(CLASSES)):
            ranking = every.sources[every.labels == label].T.ravel()  # all 40 images, the easiest first
            middle = [19, 20, 18, 21, 17, 22, 16, 23, 15, 24, 14, 25][: 3 * factor**2]
            patches = start.sources[label * 3 : label * 3 + 3].T.ravel()
            assert patches.tolist() == ranking[middle].tolist()


def test_settings_below_the_papers_are_reported() -> None:
    method = get_method("rded")
    assert method.reductions(method.configure({}), 224) == ()
    reductions = method.reductions(method.configure({"pool": 40, "crops": 2}), 64)
    assert reductions == ("40 candidate images per class instead of 300", "2 candidate crops per image instead of 5")


def test_from_a_beton_to_a_subset_with_a_trained_observer(betons: Betons, tmp_path: Path) -> None:
    settings = {"arch": "convnet_w32", "epochs": 8, "image_size": 28, "threads": 1}
    observer, stored = ObserverConfig.make(settings, "observer"), []
    for number, method in enumerate(("rded", "rded", "ca2d", "noise")):
        out = tmp_path / f"{number}.beton"
        made = compress_beton(
            method,
            betons.train,
            out,
            ipc=4,
            image_size=28,
            settings={"factor": 2, "pool": 20} if method != "noise" else {},
            workdir=tmp_path / "work",
            observer=observer,
            threads=1,
        )
        stored.append(out.read_bytes())
        assert made.manifest.counts == (4, 4, 4)
        assert len(made.manifest.ids[0].split("+")) == (1 if method == "noise" else 4)
    assert stored[0] == stored[1]
    assert len(set(stored)) == 3
