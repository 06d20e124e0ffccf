"""Find the GPUs of this host that `--gpus` names."""

import os

from fastdc.common.errors import ConfigError
from fastdc.common.settings import expand_numbers

ALL = "all"


def gpu_numbers(wanted: str) -> tuple[int, ...] | None:
    """Return the numbers that `--gpus` names, in order; None for all GPUs.

    Raises:
        ConfigError: it is neither `all` nor a list of numbers, or names one twice.
    """
    if wanted.strip() == ALL:
        return None
    try:
        numbers = tuple(expand_numbers(wanted))
    except ValueError as error:
        raise ConfigError(f"--gpus {wanted}: expected all, or numbers of GPUs such as 0,2 ({error})") from error
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"--gpus {wanted}: names a GPU twice; --workers sets how many processes share the GPUs")
    return numbers


def find_gpus(wanted: str) -> tuple[str, ...]:
    """Return the GPUs that `--gpus` names, each as CUDA_VISIBLE_DEVICES names it.

    Raises:
        ConfigError: this host does not have them.
    """
    names, numbers = visible_gpus(), gpu_numbers(wanted)
    if not names:
        raise ConfigError(
            f"--gpus {wanted}: torch finds no GPU on this host{_reason()}; run fastdc doctor, or leave --gpus out: "
            "--workers N runs N processes on the CPU"
        )
    if numbers is None:
        return names
    absent = [str(number) for number in numbers if not 0 <= number < len(names)]
    if absent:
        found = "1 GPU, number 0" if len(names) == 1 else f"{len(names)} GPUs, numbers 0-{len(names) - 1}"
        raise ConfigError(f"--gpus {wanted}: there is no GPU {', '.join(absent)}; torch finds {found}{_reason()}")
    return tuple(names[number] for number in numbers)


def compute_on(name: str) -> None:
    """Let this thread compute on one of the GPUs that torch finds, given as CUDA_VISIBLE_DEVICES names it."""
    import torch

    number = visible_gpus().index(name)
    # Selecting a GPU takes memory there, so the first is left as it is. Torch sees one part of a divided GPU only.
    if number < torch.cuda.device_count() and (number or torch.cuda.is_initialized()):  # type: ignore[no-untyped-call]
        torch.cuda.set_device(number)


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that torch finds, in its order, each as CUDA_VISIBLE_DEVICES names it.

    Names stay as the user gave them, also UUIDs and parts of GPUs. Without names the GPUs are numbered. A child process
    numbers them the same way, because it has the same CUDA_DEVICE_ORDER.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = map(str, range(count)) if shown is None else (name.strip() for name in shown.split(","))
    found = tuple(names)
    if count and all(name.startswith("MIG-") for name in found):
        return found  # a process sees only the first part of a divided GPU, but each worker is given one of its own
    return found[:count]  # CUDA ignores what follows a name that it does not know


def _reason() -> str:
    """Describe what may hide GPUs from torch; empty if nothing does."""
    import torch

    if torch.version.cuda is None:
        return f" (torch {torch.__version__} is built without CUDA)"
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if shown is None else f" (CUDA_VISIBLE_DEVICES={shown} hides others)"
