"""Pickle a plan for a worker in another process, and name the plug-in that cannot get there."""

import pickle
from collections.abc import Callable
from pathlib import Path

from fastdc.common.errors import WorkerError
from fastdc.common.text import one_line
from fastdc.sweep.launch.remote_worker import Home, this_fastdc
from fastdc.sweep.plan import Plan

REMEDY = (
    "define it at the top level of an installed module, with settings that pickle can take; or run in the sweep's "
    "process, without --workers, --gpus and --launcher ray"
)
"""What to do if another process cannot get a plug-in."""


def pickled(
    plan: Plan,
    cpu_share: float | None = None,
    gpu_share: float | None = None,
    dumps: Callable[[object], bytes] = pickle.dumps,
) -> bytes:
    """Return the first message to a worker: the plan, and what it has in common with this process.

    Args:
        plan: the sweep of its cells.
        cpu_share, gpu_share: see `Home`.
        dumps: pickles an object, so that `pickle.loads` restores it.

    Raises:
        WorkerError: the plan holds a plug-in's object that cannot leave this process.
    """
    try:
        content = dumps((plan, Home(this_fastdc(), Path.cwd(), cpu_share, gpu_share)))
    except Exception as error:  # a plug-in's method may fail to pickle with any type of error
        what, reason = _unsendable(plan, dumps), f"{type(error).__name__}: {one_line(error)[:200]}"
        raise WorkerError(f"{what} cannot be sent to another process ({reason}); {REMEDY}") from error
    return pickle.dumps((this_fastdc(), content))


def unpickled(message: bytes) -> tuple[Plan, Home]:
    """Return what a message of `pickled` holds.

    Raises:
        WorkerError: this process cannot read a plug-in's object, or has another fastdc.
    """
    sender, content = pickle.loads(message)
    try:
        plan, home = pickle.loads(content)
    except Exception as error:  # such as no class of this name, because the sweep's `__main__` defines it
        reason = f"{type(error).__name__}: {one_line(error)[:200]}"
        if (own := this_fastdc()) != sender:  # whose plan may have other classes
            raise WorkerError(f"it has fastdc {own}, the sweep {sender}; install the same on all") from error
        raise WorkerError(f"it cannot read a plug-in ({reason}); {REMEDY}") from error
    return plan, home


def _unsendable(plan: Plan, dumps: Callable[[object], bytes]) -> str:
    """Name the first part of a plan that cannot be pickled."""
    for cell in plan.cells:
        parts: dict[str, object] = {f"protocol {cell.protocol.name}": cell.protocol}
        if cell.subset is not None:
            parts |= {f"{cell.subset.variant.sort} {cell.subset.variant.stem}": cell.subset.variant}
        for name, part in parts.items():
            try:
                dumps(part)
            except Exception:  # see `pickled`
                return name
    return "the sweep"
