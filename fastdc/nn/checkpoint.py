"""Checkpoints: one file, replaced atomically, loaded without running code from it."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from fastdc.errors import CheckpointError
from fastdc.files import write_atomic

# What torch raises of a file with a changed byte: it may lie in the archive, the pickle, or a text in either.
DAMAGE = (RuntimeError, LookupError, TypeError, ValueError, AttributeError, EOFError, pickle.UnpicklingError)
CHECKPOINT_SECONDS = 300.0
"""Longest time between two checkpoints, at most 10 minutes (design.md, Repeatability)."""


def save_checkpoint(path: Path, identity: str, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, text, lists and dictionaries of them) under the run's identity."""
    buffer = io.BytesIO()
    torch.save({"identity": identity, "state": state}, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def load_checkpoint(path: Path, identity: str) -> dict[str, Any] | None:
    """The state saved under `identity`, or None when there is none.

    Raises:
        CheckpointError: the file is damaged, or belongs to another run.
    """
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)  # of a run that was killed while it saved; the run is ours alone
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found, state = content["identity"], content["state"]
        state = dict(state)
    except DAMAGE as error:
        if "allocate" in str(error):
            raise  # short of memory, which says nothing about the file
        kind = type(error).__name__
        raise CheckpointError(f"{path}: not a whole checkpoint ({kind}); move it away to start over") from error
    if found != identity:
        raise CheckpointError(f"{path}: belongs to run {found}, expected {identity}; move it away to start over")
    return state


def set_aside(path: Path) -> None:
    """Rename a checkpoint that cannot be used, so that a training can start over and nothing is lost."""
    os.replace(path, path.with_name(f"{path.name}.damaged"))
