"""Which observer serves a request that names none. Imports no torch."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fastdc.beton import BetonFile
from fastdc.observe.config import OBSERVER_VERSION, ObserverConfig
from fastdc.observe.record import INDEX_NAME

LARGEST_DEFAULT_SIDE = 224


def choose_observer(
    train: Path, train_hash: str, workdir: Path, image_size: int | None = None, given: dict[str, Any] | None = None
) -> ObserverConfig:
    """The observer for a compression at `image_size`.

    Settings that are given win. With none given, the default observer for this image size is taken if it has been
    trained; else the only observer in `workdir` for this training set; else the default, to be trained.

    Args:
        train_hash: content hash of `train`.
        image_size: side of the stored images in pixels, on which the observer trains too; None takes the training
            images' median shorter side, at most 224.
        given: settings of `ObserverConfig`.

    Raises:
        ConfigError: a given setting is unknown or out of range.
    """
    values = {"image_size": image_size or _typical_side(train), **(given or {})}
    default = ObserverConfig.make(values, "observer")
    if given:
        return default
    present = trained_observers(workdir, train_hash)
    if default in present or len(present) != 1:
        return default
    return present[0]


def trained_observers(workdir: Path, train_hash: str) -> list[ObserverConfig]:
    """Settings of every observer in `workdir` that was trained on this training set, with the runs it has."""
    runs: dict[str, int] = {}
    for index in sorted(workdir.glob(f"observers/*/{INDEX_NAME}")):
        try:
            identity = json.loads(index.read_text())["identity"]
            version, run, owner = identity.pop("version"), identity.pop("run"), identity.pop("train")
        except (ValueError, KeyError, TypeError):
            continue  # a damaged record is reported when it is used
        if (version, owner) == (OBSERVER_VERSION, train_hash):
            key = json.dumps(identity, sort_keys=True)
            runs[key] = max(runs.get(key, 0), run + 1)
    return [ObserverConfig.make({**json.loads(key), "runs": count}, "observer") for key, count in runs.items()]


def _typical_side(train: Path) -> int:
    with BetonFile(train) as beton:
        return min(LARGEST_DEFAULT_SIDE, int(np.median(np.minimum(beton.heights, beton.widths))))
