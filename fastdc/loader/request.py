"""Everything that a loader is opened with, checked once."""

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from fastdc.common.choices import EngineChoice
from fastdc.common.errors import ConfigError
from fastdc.loader.stream import Delivery, Output, ViewPlan
from fastdc.loader.view_settings import ViewRequest


@dataclass(frozen=True, eq=False)
class LoaderRequest:
    """Settings of a loader. They are checked when the request is made.

    Attributes:
        path: the beton.
        requests: the view of each of K >= 1 consumers. All take the same samples.
        order_seed: seed of the order of samples.
        visits: visits to each sample in an epoch, `views` of `open_loader`.
        batch_size, shuffle, indices, engine, workers, output, device: see `open_loader`.

    Raises:
        ConfigError: there are no requests; or batch_size, workers, visits, engine, output or device is out of range.
    """

    path: Path
    requests: tuple[ViewRequest, ...]
    _: KW_ONLY
    batch_size: int
    order_seed: int
    shuffle: bool = False
    indices: NDArray[np.int64] | None = None
    visits: int = 1
    engine: EngineChoice = "auto"
    workers: int | None = None
    output: Output = "uint8"
    device: torch.device | str | None = None

    def __post_init__(self) -> None:
        if not self.requests:
            raise ConfigError("requests are empty, expected at least one ViewRequest")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size={self.batch_size}: expected at least 1")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers={self.workers}: expected at least 1")
        if self.visits < 1:
            raise ConfigError(f"views={self.visits}: expected at least 1 visit to each sample in an epoch")
        if self.engine not in get_args(EngineChoice):
            *others, last = get_args(EngineChoice)
            raise ConfigError(f"loader engine {self.engine!r} does not exist, expected {', '.join(others)} or {last}")
        if not self.plan.one_kind and self.engine == "device":  # `plan` also checks output and device
            found = f"{self.plan.random} training and {len(self.plan.requests) - self.plan.random} validation views"
            raise ConfigError(
                f"loader engine device makes training views or one validation view, found {found}; use auto, ffcv or "
                "resident"
            )

    @cached_property
    def plan(self) -> ViewPlan:
        """Return the distinct views and the form of their images.

        Raises:
            ConfigError: no such output or device.
        """
        if self.output not in get_args(Output):
            raise ConfigError(f"loader output {self.output!r} does not exist, expected uint8 or float32")
        return ViewPlan(self.requests, Delivery(self.output, _find_device(self.device)))


def _find_device(device: torch.device | str | None) -> torch.device:
    try:
        found = torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"device {device!r}: {str(error).splitlines()[0]}") from error
    if found.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {found}: expected cpu or cuda")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {found}: torch finds no CUDA device here; use cpu")
    if str(found) == "cuda":  # name each device one way, or its cache would hold images twice
        return torch.device("cuda", torch.cuda.current_device())
    return found
