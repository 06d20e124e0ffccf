"""Choice of the observer for a request. Imports no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastdc.beton import BetonFile
from fastdc.common.errors import ManifestError
from fastdc.common.keys import content_key
from fastdc.common.log import log_message, shows_progress
from fastdc.observe.dynamics_log import INDEX_NAME
from fastdc.observe.observer_config import OBSERVER_VERSION, ObserverConfig

LARGEST_DEFAULT_SIDE = 224
"""Largest training side, in pixels, of an observer whose side was not given."""


def choose_observer(
    train: Path,
    train_hash: str,
    workdir: Path,
    given: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> ObserverConfig:
    """Choose the observer for a request.

    Given settings win. Without any, the observer that was started first in `workdir` on this training set serves.
    The choice therefore does not change as more observers are trained. If there is none, return the settings of a new
    one.

    Args:
        train: the training set's beton; read only to find the default side.
        train_hash: content hash of `train`.
        workdir: folder that holds the observers.
        given: settings of `ObserverConfig` from the user.
        defaults: settings that a new observer takes from the request, such as the size of the stored images. Without
            "image_size" it trains at the training images' median shorter side, at most 224 pixels.

    Returns:
        Settings whose `auto` values are resolved for this machine, or those of the observer that was found.

    Raises:
        ConfigError: a given setting is unknown or out of range.
        ManifestError: a record in `workdir` is damaged, so that the first observer cannot be determined.
    """
    if not given and (first := first_observer(workdir, train_hash)) is not None:
        return first
    values = {**(defaults or {}), **(given or {})}
    if "image_size" not in values:
        values["image_size"] = _typical_side(train)
    return ObserverConfig.make(values, "observer").resolved()


def first_observer(workdir: Path, train_hash: str) -> ObserverConfig | None:
    """Return the settings of the observer that was started first in `workdir` on this training set, or None.

    Extra observers (`observer:ARCH`) and those of another `OBSERVER_VERSION` or `NUMERICS_VERSION` do not count.

    Raises:
        ManifestError: a record in `workdir` is damaged.
    """
    found: list[tuple[float, ObserverConfig]] = []
    for index in workdir.glob(f"observers/*/{INDEX_NAME}"):
        try:
            content = json.loads(index.read_text())
            identity = dict(content["identity"])
            version, run, owner = identity.pop("version"), identity.pop("run"), identity.pop("train")
            numerics = identity.pop("numerics", None)
            started, runs = float(content["started"]), int(content["runs"])
            extra = bool(content.get("extra", False))
        except (ValueError, KeyError, TypeError) as error:
            raise ManifestError(f"{index}: damaged observer record; delete its folder and observe again") from error
        if (version, run, owner, extra) == (OBSERVER_VERSION, 0, train_hash, False):
            config = ObserverConfig.make({**identity, "runs": runs}, str(index))
            if numerics == config.numerics().get("numerics"):
                found.append((started, config))
    return min(found, key=lambda pair: pair[0])[1] if found else None


def observer_folder(workdir: Path, train_hash: str, config: ObserverConfig, run: int) -> Path:
    """Return the folder of one run's record; its name is a key of everything that the run depends on."""
    key = content_key(config.identity(train_hash, run), 12)
    return workdir / "observers" / f"{config.arch}-{key}"


def report_observer(train_hash: str, workdir: Path, observer: ObserverConfig) -> None:
    """Report on stderr which observer is read, unless progress is hidden."""
    if not shows_progress():
        return
    folder = observer_folder(workdir, train_hash, observer, 0)
    more = f" and {observer.runs - 1} more runs" if observer.runs > 1 else ""
    log_message(f"observer {folder}{more}: {observer.arch}, {observer.image_size} px")


def _typical_side(train: Path) -> int:
    with BetonFile(train) as beton:
        return min(LARGEST_DEFAULT_SIDE, int(np.median(np.minimum(beton.heights, beton.widths))))
