"""Small networks trained on Fashion-MNIST, and contexts for methods that recover from them."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fastdc.beton import Sample, write_samples
from fastdc.methods import MethodContext
from fastdc.nn.device import Compute, choose_compute
from fastdc.nn.models import build_model
from fastdc.teachers.network import Teacher, freeze
from fastdc.teachers.resources import Teaching
from tests.conftest import FASHION_MNIST

CLASSES = 10
PER_CLASS = 200
SIDE = 28
NAMES = tuple(f"class{number}" for number in range(CLASSES))


class Other(nn.Sequential):
    """Network without BatchNorm or max-pooling, with other kernels and strides than the teacher."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(3, 16, 5, 2, 2), nn.GELU(), nn.Conv2d(16, 32, 5, 2, 2), nn.GELU()),
            *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, CLASSES)),
        )


@pytest.fixture(scope="session")
def fashion() -> tuple[np.ndarray, np.ndarray]:
    """Return the first 200 training images of every class: uint8 [2000, 28, 28, 3], int64 [2000]."""
    with gzip.open(FASHION_MNIST / "train-images-idx3-ubyte.gz") as handle:
        pixels = np.frombuffer(handle.read(16 + 784 * 4000), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(FASHION_MNIST / "train-labels-idx1-ubyte.gz") as handle:
        labels = np.frombuffer(handle.read(8 + 4000), np.uint8, offset=8)
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == label)[:PER_CLASS] for label in range(CLASSES)]))
    return np.repeat(pixels[chosen, :, :, None], 3, axis=3), labels[chosen].astype(np.int64)


@pytest.fixture(scope="session")
def train_beton(fashion: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the same images as a beton."""
    out = tmp_path_factory.mktemp("fashion10") / "train.beton"
    samples = (Sample(image, int(label), str(n)) for n, (image, label) in enumerate(zip(*fashion, strict=True)))
    write_samples(out, samples, classes=NAMES, dataset="fashion10", split="train", source="test", made={})
    return out


@pytest.fixture(scope="session")
def compute() -> Compute:
    return choose_compute("fp32", 1)


def train(model: nn.Module, fashion: tuple[np.ndarray, np.ndarray], compute: Compute, epochs: int) -> nn.Module:
    images, labels = torch.from_numpy(fashion[0]), torch.from_numpy(fashion[1])
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels), generator=generator).split(64):
            view = compute.images(images[rows])
            shift = torch.randint(-2, 3, (2,), generator=generator).tolist()
            view = view.roll(shift, (2, 3))
            loss = functional.cross_entropy(model(view), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return freeze(model, compute.device)


@pytest.fixture(scope="session")
def teacher(fashion: tuple[np.ndarray, np.ndarray], compute: Compute) -> Teacher:
    model = train(build_model("convnet_w16", CLASSES, SIDE, 0), fashion, compute, 4)
    return Teacher("small", "small teacher", "convnet_w16", model, SIDE, 0.0)


@pytest.fixture(scope="session")
def other(fashion: tuple[np.ndarray, np.ndarray], compute: Compute) -> nn.Module:
    torch.manual_seed(3)
    return train(Other(), fashion, compute, 8)


@pytest.fixture
def make_context(
    fashion: tuple[np.ndarray, np.ndarray], train_beton: Path, compute: Compute, teacher: Teacher, tmp_path: Path
) -> Callable[..., MethodContext]:
    """Return a function that builds a context of the training set and teachers; scratch is `tmp_path`."""

    def make(*teachers: Teacher, scratch: Path = tmp_path, side: int = SIDE) -> MethodContext:
        return MethodContext(
            labels=fashion[1],
            classes=NAMES,
            image_size=side,
            image=lambda index: fashion[0][index],
            teaching=Teaching(teachers or (teacher,), compute, train_beton, scratch),
        )

    return make
