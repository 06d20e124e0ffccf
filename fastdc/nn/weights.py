"""Weights files: written as safetensors, read from safetensors or checkpoints without executing pickled code."""

import errno
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from fastdc.common.errors import MethodError, is_out_of_memory
from fastdc.common.files import write_atomic
from fastdc.common.log import log_message
from fastdc.nn.architectures.convnet import PATTERN as CONVNET_PATTERN
from fastdc.nn.models import build_model
from fastdc.nn.weights_facts import Facts, is_archive

NESTED = ("state_dict", "model", "model_state_dict")
"""Keys under which training scripts store the weights in a checkpoint."""
AVERAGED = ("model_ema", "state_dict_ema", "ema_state_dict", "ema")
"""Keys of the running mean of the weights, which is read only if the checkpoint has no other weights."""
WRAPPERS = ("module", "_orig_mod")
"""Name parts that DataParallel and torch.compile insert, for a whole network or for parts of it."""
AVERAGE_COUNT = "n_averaged"  # a counter that torch.optim.swa_utils.AveragedModel saves among the weights
PROBE_CLASSES = 9973
"""Number of classes that no layer's width equals by chance, so that it identifies the output layer."""

State = dict[str, torch.Tensor]


def save_weights(path: Path, model: nn.Module, facts: Facts) -> None:
    """Write a network's weights and buffers; equal values give equal bytes."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomic(path, safetensors.torch.save(state, facts.to_metadata()))


def read_weights(path: Path) -> State:
    """Read the weights of a safetensors file, or of a checkpoint that `torch.save` wrote (.pt, .pth), to the CPU.

    A checkpoint may hold them under "state_dict", "model" or "model_state_dict", or averaged ones under a key of
    `AVERAGED`. No code from the file is executed.

    Raises:
        MethodError: the file is damaged, holds more than plain data, or holds no weights; or a weight is NaN or
            infinite.
    """
    state = _plain(path, _read(path))
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise MethodError(f"{path}: weight '{name}' holds NaN or infinity; train this teacher again")
    return state


def _read(path: Path) -> Any:
    _check_program(path)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of the pickle's protocol; unreadable files fail below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not _is_checkpoint(path):
            raise MethodError(f"{path}: not a whole checkpoint; copy or make it again") from error
        raise MethodError(
            f"{path}: holds more than weights, which could run foreign code; none of it was run. Save its "
            "state_dict alone, best as safetensors"
        ) from error
    except Exception as error:  # for damaged bytes torch and Python's readers raise almost any exception
        if not _is_damage(error):
            raise
        raise MethodError(
            f"{path}: not a whole weights file ({type(error).__name__}); copy or make it again"
        ) from error


def _is_damage(error: Exception) -> bool:
    """Return whether an error is due to the file's content, rather than to the disk, permissions or memory."""
    if isinstance(error, OSError):
        return error.errno == errno.EINVAL  # for a truncated file torch seeks to before its start
    return not is_out_of_memory(error)


def _is_checkpoint(path: Path) -> bool:
    """Return whether a file starts like one of `torch.save` or pickle."""
    with path.open("rb") as file:
        head = file.read(4)
    return head[:1] == b"\x80" or (head == b"PK\x03\x04" and is_archive(path))


PROGRAMS = {
    "constants.pkl": ("TorchScript", "torch.jit.load({!r}).state_dict()"),
    "serialized_exported_program.json": ("torch.export", "torch.export.load({!r}).state_dict"),
    "models/model.json": ("torch.export", "torch.export.load({!r}).state_dict"),
}
"""Files that identify an archive as a program: the kind of program, and the code that extracts its weights."""


def _check_program(path: Path) -> None:
    """Refuse an archive that holds a program besides the weights.

    Raises:
        MethodError: it does; the message explains how to extract the weights.
    """
    names = _names(path)
    found = [PROGRAMS[end] for end in PROGRAMS if any(name == end or name.endswith(f"/{end}") for name in names)]
    if found:
        kind, weights = found[0]
        raise MethodError(
            f"{path}: is a {kind} file, a program with weights; none of it was run; if you trust it, save "
            f"its weights alone in Python: torch.save({weights.format(path.name)}, 'weights.pth')"
        )


def _names(path: Path) -> list[str]:
    """Return the file names in an archive; none if it is damaged or not an archive, which torch reports better."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:
        return []


def _plain(path: Path, content: Any) -> State:
    # Some frameworks nest more than once.
    while isinstance(content, dict) and (nested := _nested(path, content)):
        content = content[nested]
    tensors = isinstance(content, dict) and content and all(isinstance(item, torch.Tensor) for item in content.values())
    if not tensors:
        found = ", ".join(map(repr, list(content)[:3])) if isinstance(content, dict) and content else "no names"
        raise MethodError(
            f"{path}: holds no weights, found {found}; expected a state_dict, by itself or under "
            f"{' or '.join(NESTED)}; save it alone"
        )
    return {str(name): tensor for name, tensor in content.items()}


def _nested(path: Path, content: dict[Any, Any]) -> str:
    """Return the key that holds the weights, or "" if they are not nested."""
    plain = [key for key in NESTED if isinstance(content.get(key), dict)]
    averaged = [key for key in AVERAGED if isinstance(content.get(key), dict)]
    if plain and averaged:
        log_message(
            f"{path}: '{plain[0]}' is read, not the averaged weights in '{averaged[0]}'; to use those, save them alone"
        )
    return next(iter([*plain, *averaged]), "")


def build_from(path: Path, state: State, arch: str, image_size: int) -> tuple[nn.Module, int]:
    """Build the network that these weights belong to, and return it with its number of outputs.

    Args:
        path: file name for error messages.
        arch: architecture name.
        image_size: side of its training images in pixels; see `side_of`.

    Raises:
        MethodError: the weights belong to another network.
    """
    with torch.device("meta"):  # names and shapes only, without memory
        probe = build_model(arch, PROBE_CLASSES, image_size, 0).state_dict()
    heads = [name for name, tensor in probe.items() if tensor.ndim and tensor.shape[0] == PROBE_CLASSES]
    state = _named_as(path, state, probe)
    if not heads or heads[0] not in state or state[heads[0]].ndim == 0:
        head = f"weight '{heads[0]}'" if heads else "output layer"
        raise MethodError(f"{path}: has no {head}, so it is not of a {arch}; name its own architecture")
    outputs = state[heads[0]].shape[0]
    model = build_model(arch, outputs, image_size, 0)
    expected = model.state_dict()
    for name, tensor in expected.items():
        if name.endswith("num_batches_tracked"):  # old checkpoints lack it, and eval mode ignores it
            state.setdefault(name, tensor)
    _compare(path, arch, expected, state)
    model.load_state_dict(state)
    return model, outputs


def _named_as(path: Path, state: State, expected: State) -> State:
    """Rename weights to the network's own names, without wrappers or the name of the attribute that held the network.

    Entries beside that attribute, such as a loss's buffers in a Lightning checkpoint, are dropped.

    Raises:
        MethodError: the file holds one weight twice, or several networks that match.
    """
    unwrapped = state if expected.keys() <= state.keys() else _unwrapped(path, state)
    unwrapped.pop(AVERAGE_COUNT, None)
    needed = [name for name in expected if not name.endswith("num_batches_tracked")]
    # Every prefix of a whole network precedes its first weight, so these are all the candidates.
    ends = f".{needed[0]}"
    starts = ["", *(name.removesuffix(ends) + "." for name in unwrapped if name.endswith(ends))]
    whole = sorted(start for start in starts if all(start + name in unwrapped for name in needed))
    if not whole or "" in whole:
        return unwrapped
    if len(whole) > 1:
        found = ", ".join(f"'{start}'" for start in whole)
        raise MethodError(f"{path}: holds several networks, under {found}; save the state_dict of one alone")
    return {name.removeprefix(whole[0]): each for name, each in unwrapped.items() if name.startswith(whole[0])}


def _unwrapped(path: Path, state: State) -> State:
    found: State = {}
    for name, tensor in state.items():
        plain = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        if plain in found:
            raise MethodError(
                f"{path}: holds '{plain}' twice, wrapped and not; save the state_dict of one network alone"
            )
        found[plain] = tensor
    return found


def _compare(path: Path, arch: str, expected: State, found: State) -> None:
    missing, unknown = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing or unknown:
        what = f"lacks '{min(missing)}'" if missing else f"has '{min(unknown)}' besides"
        raise MethodError(f"{path}: not the weights of a {arch}: {what}; name its own architecture")
    for name, tensor in expected.items():
        if tensor.shape != found[name].shape:
            shapes = f"{list(found[name].shape)}, expected {list(tensor.shape)}"
            raise MethodError(f"{path}: not the weights of a {arch}: '{name}' is {shapes}; name its own architecture")


def side_of(state: State, arch: str, guess: int) -> int:
    """Return the input side in pixels of a "convnet" with these weights: `guess` if it fits, else the smallest.

    For any other architecture return `guess`.
    """
    if CONVNET_PATTERN.fullmatch(arch) is None:
        return guess
    maps = [tensor for tensor in state.values() if tensor.ndim == 4]
    heads = [tensor for tensor in state.values() if tensor.ndim == 2]
    if not maps or not heads:
        return guess
    # The output layer reads channels * side**2 values; each block has one convolution and halves the side.
    depth, side = len(maps), round((heads[-1].shape[1] / maps[-1].shape[0]) ** 0.5)
    return guess if guess >> depth == side else max(side, 1) << depth
