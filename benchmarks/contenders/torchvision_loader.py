"""Contender: torchvision's `ImageFolder` and torch's `DataLoader`, configured as in the released code (`rethinkdc`).

It uses PIL, RandomResizedCrop + flip + ToTensor + Normalize, `shuffle` and `pin_memory`. Workers are not persistent,
so they restart in every epoch.
"""

from typing import Any

import torch
from harness.race import Outcome
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from contenders.delivered import Delivered

NORMALIZE = transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


def train_transform(size: int) -> transforms.Compose:
    """Return the training transform of the released code, for views of `size` pixels."""
    crop = transforms.RandomResizedCrop(size, scale=(0.08, 1.0))
    return transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.ToTensor(), NORMALIZE])


def val_transform(size: int) -> transforms.Compose:
    """Return its validation transform."""
    resize = transforms.Resize(round(size * 256 / 224))
    return transforms.Compose([resize, transforms.CenterCrop(size), transforms.ToTensor(), NORMALIZE])


def train_loader(folder: str, size: int, batch_size: int, workers: int, share: float = 1.0) -> DataLoader[Any]:
    """Return the training loader; a share below 1 limits it to that part of the images."""
    data: Any = ImageFolder(folder, train_transform(size))
    if share < 1:
        step = round(1 / share)
        data = Subset(data, range(0, len(data), step))
    return DataLoader(data, batch_size=batch_size, shuffle=True, num_workers=workers, pin_memory=True)


def val_loader(folder: str, size: int, batch_size: int, workers: int) -> DataLoader[Any]:
    """Return the validation loader, whose batches have a quarter of the training's size."""
    data = ImageFolder(folder, val_transform(size))
    return DataLoader(data, batch_size=batch_size // 4, shuffle=False, num_workers=workers, pin_memory=True)


class Epoch:
    """Runner of epochs of the training loader."""

    def __init__(self, folder: str, size: int, batch_size: int = 128, epochs: int = 1) -> None:
        self._settings = (folder, size, batch_size)
        self._epochs, self._workers = epochs, 1
        self._loader: DataLoader[Any] | None = None

    def prepare(self, workers: int) -> None:
        """List the folder; worker processes start later, with each epoch."""
        torch.set_num_threads(1)  # in this process torch only moves batches
        self._workers = workers
        self._loader = train_loader(*self._settings, workers)

    def repeat(self, share: float) -> Outcome:
        """Run the epochs over all images, or one epoch over a share of them."""
        loader = self._loader if share == 1 else train_loader(*self._settings, self._workers, share)
        delivered = Delivered()
        for _ in range(self._epochs if share == 1 else 1):
            for images, labels in loader or ():
                delivered.take(images, labels)
        return Outcome(delivered.images, facts=delivered.facts)

    def check(self) -> dict[str, Any]:
        """Check nothing; the facts hold the counts."""
        return {}
