"""The observer: one training on the full set, whose record of each sample serves every score-based method."""

from typing import TYPE_CHECKING

from fastdc.observe.choose_observer import choose_observer, observer_folder
from fastdc.observe.dynamics_log import Observation, load_observation
from fastdc.observe.observer_config import ObserverConfig

if TYPE_CHECKING:
    from fastdc.observe.train_observer import observe

__all__ = ["Observation", "ObserverConfig", "choose_observer", "load_observation", "observe", "observer_folder"]


def __getattr__(name: str) -> object:
    """Import `observe`, which needs torch, on first access."""
    if name == "observe":
        from fastdc.observe.train_observer import observe

        return observe
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
