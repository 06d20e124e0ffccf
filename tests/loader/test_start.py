"""An epoch can start at any batch: the batches equal those of a whole epoch."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fastdc.common.errors import LoaderError
from fastdc.loader import TrainView, open_loader


@pytest.mark.parametrize("engine", ["resident", "ffcv"])
def test_the_rest_of_an_epoch_equals_its_end(betons: Any, engine: Any) -> None:
    with open_loader(betons.train, TrainView(28), batch_size=50, seed=3, shuffle=True, engine=engine) as loader:
        whole = list(loader.epoch(2))
        for start in range(4):
            rest = list(loader.epoch(2, start))
            assert len(rest) == 3 - start
            for found, expected in zip(rest, whole[start:], strict=True):
                assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_a_batch_past_the_end_is_refused(betons: Any) -> None:
    path: Path = betons.train
    with (
        open_loader(path, TrainView(28), batch_size=50) as loader,
        pytest.raises(LoaderError, match="batch 4 does not exist"),
    ):
        loader.epoch(0, 4)
