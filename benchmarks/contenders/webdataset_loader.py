"""Contender: WebDataset as its documentation shows, with tar shards, a shuffle buffer and torchvision's transforms."""

import random
from typing import Any

import torch
from harness.race import Outcome
from torch.utils.data import default_collate
from webdataset import WebDataset, WebLoader

from contenders.delivered import Delivered
from contenders.torchvision_loader import train_transform

BUFFER = 1000


class Epoch:
    """Runner of epochs over all shards."""

    def __init__(self, shards: list[str], size: int, batch_size: int = 128) -> None:
        self._shards, self._batch_size = shards, batch_size
        self._transform = train_transform(size)
        self._workers = 1

    def prepare(self, workers: int) -> None:
        """Set the number of workers, which start with each epoch and read separate shards."""
        torch.set_num_threads(1)
        self._workers = workers

    def repeat(self, share: float) -> Outcome:
        """Run an epoch over this share of the shards, rounded, but at least one shard per worker."""
        shards = list(self._shards)
        random.shuffle(shards)
        wanted = max(round(share * len(shards)), min(self._workers, len(shards)))
        data = (
            WebDataset(shards[:wanted], shardshuffle=False, empty_check=False)
            .shuffle(BUFFER)
            .decode("pil")
            .to_tuple("jpg", "cls")
            .map_tuple(self._transform, int)
            .batched(self._batch_size, collation_fn=default_collate)
        )
        delivered = Delivered()
        for images, labels in WebLoader(data, batch_size=None, num_workers=self._workers):
            delivered.take(images, labels)
        return Outcome(delivered.images, facts=delivered.facts)

    def check(self) -> dict[str, Any]:
        """Check nothing; the facts hold the counts."""
        return {}
