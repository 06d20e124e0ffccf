"""The paper's released evaluator (rethinkdc on PyPI), whose own `main` runs unchanged on a CPU.

The package needs a GPU, a web service for its log, and older releases of setuptools and torchvision. `run_released`
provides substitutes for these for the time of the call. A caller may also replace the loaders and networks that
`main` builds, which makes an exact replay possible.
"""

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
import torchvision
from torch import nn
from torchvision import transforms

Loader = Iterable[tuple[torch.Tensor, torch.Tensor]]
LARGE = {224: 1.0, 256: 256 / 224}
"""The sides in pixels that the released code fixes, as multiples of the side of a view."""


def is_installed() -> bool:
    """Return whether the released code can be imported."""
    return find_spec("rethinkdc") is not None


@dataclass(frozen=True)
class ReleasedRun:
    """Arguments and substitutes of one run.

    Attributes:
        arguments: command line after `rethinkdc`; the first one is the training folder.
        val: validation folder, one subfolder per class.
        networks: for each name of an architecture, the function that builds it.
        loaders: training and validation loader that replace those of the two folders; None keeps these.
        side: side of the views in pixels; the released code fixes 224.
        fused: whether AdamW uses torch's fused kernel, as fastdc does; it rounds otherwise than the default.
    """

    arguments: Sequence[str]
    val: Path
    networks: dict[str, Callable[[], nn.Module]]
    loaders: tuple[Loader, Loader] | None = None
    side: int = 224
    fused: bool = False


@dataclass
class Epoch:
    """What the released code logged of an epoch; `top1` is None where it did not validate."""

    loss: float
    lr: float
    top1: float | None


@dataclass
class _Log:
    """Substitute of the web service: keeps what is logged."""

    entries: list[dict[str, Any]] = field(default_factory=list)

    def module(self) -> ModuleType:
        module = ModuleType("wandb")
        module.__dict__.update(login=_ignore, init=_ignore, Settings=_ignore, log=self.entries.append)
        return module

    def epochs(self) -> list[Epoch]:
        validated = {entry["val/epoch"]: entry["val/top1"] for entry in self.entries if "val/epoch" in entry}
        return [
            Epoch(entry["train/loss"], entry["train/lr"], validated.get(entry["train/epoch"]))
            for entry in self.entries
            if "train/epoch" in entry
        ]


def run_released(run: ReleasedRun) -> list[Epoch]:
    """Run the released code's `main` and return what it logged of each epoch."""
    from rethinkdc import imagenet_ipc, train_KD, utils_fkd  # noqa: F401  # loaded before transforms are substituted

    log = _Log()
    with _substitutes(run, log), redirect_stdout(io.StringIO()):
        train_KD.main()
    return log.epochs()


@contextmanager
def _substitutes(run: ReleasedRun, log: _Log) -> Iterator[None]:
    from rethinkdc.imagenet_ipc import ImageFolderIPC

    modules = {"wandb": log.module(), "pkg_resources": _resources()}
    with ExitStack() as stack:
        for each in (
            patch.dict(sys.modules, modules),
            patch.object(sys, "argv", ["rethinkdc", *run.arguments]),
            patch.dict(os.environ, {"IMAGENET_VAL_DIR": str(run.val)}),
            patch.object(torch.cuda, "is_available", _is_released_code),
            patch.object(torch.Tensor, "cuda", lambda tensor: tensor),
            patch.object(nn.Module, "cuda", lambda module: module),
            patch.object(nn, "DataParallel", lambda module: module),
            patch.object(ImageFolderIPC, "make_dataset", _without_new_options(ImageFolderIPC.make_dataset)),
            patch.object(torch.optim, "AdamW", partial(torch.optim.AdamW, fused=run.fused)),
            patch.object(torch.utils.data, "DataLoader", _loader_maker(run)),
            patch.dict(torchvision.models.__dict__, {name: _maker(make) for name, make in run.networks.items()}),
            patch.object(transforms, "RandomResizedCrop", _smaller(transforms.RandomResizedCrop, run.side)),
            patch.object(transforms, "Resize", _smaller(transforms.Resize, run.side)),
            patch.object(transforms, "CenterCrop", _smaller(transforms.CenterCrop, run.side)),
        ):
            stack.enter_context(each)
        yield


def _is_released_code() -> bool:
    """Return whether the caller is the released code; torch itself also calls this, and must not look for a GPU."""
    return bool(sys._getframe(1).f_globals["__name__"] == "rethinkdc.train_KD")


def _ignore(*_args: Any, **_kwargs: Any) -> None:
    """Substitute of the web service's other functions."""


def _resources() -> ModuleType:
    """Return a substitute of pkg_resources, which recent setuptools no longer have."""
    import rethinkdc

    module = ModuleType("pkg_resources")
    module.__dict__["resource_filename"] = lambda _package, name: str(Path(rethinkdc.__file__).parent / name)
    return module


def _without_new_options(listing: Callable[..., Any]) -> "staticmethod[..., Any]":
    """Drop the argument `allow_empty` of recent torchvision, which the released code does not take."""
    return staticmethod(lambda *args, allow_empty=False, **options: listing(*args, **options))


def _loader_maker(run: ReleasedRun) -> Callable[..., Any]:
    """Return a substitute of DataLoader without worker processes and pinned memory, which does not change batches."""
    given = iter(run.loaders or ())
    real = torch.utils.data.DataLoader

    def make(dataset: Any, batch_size: int, shuffle: bool, num_workers: int, pin_memory: bool) -> Any:
        return next(given, None) or real(dataset, batch_size=batch_size, shuffle=shuffle)

    return make


def _maker(make: Callable[[], nn.Module]) -> Callable[..., nn.Module]:
    return lambda pretrained: make()


def _smaller(transform: Callable[..., Any], side: int) -> Callable[..., Any]:
    return lambda size, **settings: transform(round(side * LARGE[size]), **settings)
