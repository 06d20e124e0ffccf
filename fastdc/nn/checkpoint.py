"""Checkpoints in a single file, replaced atomically and loaded without executing pickled code."""

import io
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from fastdc.common.errors import CheckpointError, is_out_of_memory
from fastdc.common.files import write_atomic

# torch.load raises any of these for one changed byte, which may lie in the archive, in the pickle, or in a string.
DAMAGE = (RuntimeError, LookupError, TypeError, ValueError, AttributeError, EOFError, pickle.UnpicklingError)
CHECKPOINT_SECONDS = 300.0
"""Time between two checkpoints, and so the most work that a kill loses; keep it at 10 minutes or less."""


def save_checkpoint(path: Path, identity: str, state: dict[str, Any]) -> None:
    """Write `state` together with the run's identity.

    Args:
        state: tensors, numbers, strings, and lists and dictionaries of them; nothing else can be loaded again.
    """
    buffer = io.BytesIO()
    torch.save({"identity": identity, "state": state}, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def load_checkpoint(path: Path, identity: str) -> dict[str, Any] | None:
    """Load the state saved under `identity`, or return None if there is no checkpoint.

    Also deletes temporary files that a killed run left beside it.

    Raises:
        CheckpointError: the file is damaged, or belongs to another run.
    """
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)  # from a run killed while saving; no other process writes this checkpoint
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)  # data only: no code in the pickle runs
        found, state = content["identity"], content["state"]
        state = dict(state)  # a damaged file may hold something else, which fails here
    except DAMAGE as error:
        if is_out_of_memory(error):
            raise  # the file itself may be whole
        kind = type(error).__name__
        raise CheckpointError(f"{path}: not a whole checkpoint ({kind}); move it away to start over") from error
    if found != identity:
        raise CheckpointError(f"{path}: belongs to run {found}, expected {identity}; move it away to start over")
    return state


def set_aside(path: Path) -> None:
    """Rename an unusable checkpoint to `NAME.damaged`, replacing an earlier one, so that training can start over."""
    os.replace(path, path.with_name(f"{path.name}.damaged"))
