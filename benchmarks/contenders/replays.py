"""One training by fastdc and by the released code: with equal batches and first weights, or each with its own."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from contenders.released_code import Epoch, ReleasedRun, run_released
from fastdc.beton import describe_beton
from fastdc.loader import Loader
from fastdc.nn.device import Compute, choose_compute
from fastdc.nn.fit_loop import join_lone_sample, steps_per_epoch
from fastdc.nn.models import build_model
from fastdc.teachers.network import Teacher, freeze
from fastdc.train import EvaluateSettings
from fastdc.train.data_pair import Pair, open_pair
from fastdc.train.evaluation import evaluate
from fastdc.train.labels.targets import Labelling
from fastdc.train.streams import open_training_loader, open_val_loader

STUDENT, TEACHER = "resnet18", "resnet34"
"""Names under which the released code looks up the two networks; a replay builds others under these names."""


def train_ours(subset: Path, val: Path, settings: EvaluateSettings, teacher: Teacher | None = None) -> list[Epoch]:
    """Return loss, learning rate and top-1 of each epoch of fastdc's `evaluate`."""
    result = evaluate(subset, val, settings, teacher=teacher)
    return [Epoch(**{name: entry[name] for name in ("loss", "lr", "top1")}) for entry in result.curve]  # type: ignore[arg-type]


def replay(
    subset: Path, val: Path, folder: Path, settings: EvaluateSettings, teacher: Teacher | None = None
) -> list[Epoch]:
    """Run the released code on fastdc's batches, from fastdc's first weights.

    Its mixing is off for soft labels, because fastdc's batches arrive mixed.

    Args:
        folder: any folder of class folders with images; it is listed, and no image of it is read.
        settings: settings of the training, with precision fp32.
        teacher: network that makes the soft labels; None for hard labels.

    Returns:
        Loss, learning rate and top-1 in percent of each epoch.
    """
    pair = open_pair(subset, val)
    compute = choose_compute("fp32", settings.threads)
    with (
        open_training_loader(pair, (settings,), compute) as train,
        open_val_loader(pair, settings, compute) as validation,
    ):
        loaders = Mixed(train, compute, _mixing(settings, pair)), Plain(validation, compute)
        networks = {STUDENT: lambda: _network(settings, pair)}
        if teacher is not None:
            networks[TEACHER] = lambda: teacher.model
        return run_released(ReleasedRun(_arguments(folder, pair, settings), folder, networks, loaders, fused=True))


def run_separately(subset: Path, val: Path, folders: tuple[Path, Path], settings: EvaluateSettings) -> list[Epoch]:
    """Run the released code on exported folders, with loaders and random numbers of its own.

    Args:
        subset, val: the betons whose images lie in `folders`.
        folders: training and validation folder.
        settings: settings of the training, with hard labels and precision fp32; the seed is also that of torch.
    """
    pair = open_pair(subset, val)
    choose_compute("fp32", settings.threads)
    torch.manual_seed(settings.seed)
    networks = {STUDENT: lambda: _network(settings, pair)}
    run = ReleasedRun(_arguments(folders[0], pair, settings), folders[1], networks, side=pair.side(settings))
    return run_released(run)


def untrained_teacher(subset: Path) -> Teacher:
    """Return a teacher with fresh weights for the classes of a set."""
    network = freeze(build_model("resnet10_w16", len(describe_beton(subset).classes), 64, seed=1), torch.device("cpu"))
    return Teacher("untrained", "untrained", "resnet10_w16", network, 64, 0.0)


def _arguments(folder: Path, pair: Pair, settings: EvaluateSettings) -> list[str]:
    images, protocol = len(pair.stored.ids), settings.protocol
    options = {
        "epochs": pair.epochs(protocol),
        "batch-size": protocol.batch_for(images),
        "ipc": images // len(pair.stored.classes),
        "model": STUDENT,
        "output-dir": folder,
    }
    kind = ["--soft", "--teacher-model", TEACHER, "--mix-type", "None"] if protocol.soft else ["--hard"]
    return [str(folder), *kind, *(part for name, value in options.items() for part in (f"--{name}", str(value)))]


def _network(settings: EvaluateSettings, pair: Pair) -> nn.Module:
    return build_model(settings.arch, len(pair.stored.classes), pair.side(settings), settings.seed)


def _mixing(settings: EvaluateSettings, pair: Pair) -> Labelling:
    return Labelling(settings.protocol, settings.seed, len(pair.stored.classes))


class Plain:
    """Batches of a loader as the released code reads them: normalised images [B, 3, S, S] and labels [B]."""

    def __init__(self, loader: Loader, compute: Compute) -> None:
        self.loader, self.compute, self.epochs = loader, compute, 0

    def __len__(self) -> int:
        return steps_per_epoch(self.loader)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of the next epoch."""
        epoch, self.epochs = self.epochs, self.epochs + 1
        for step, (batch,) in enumerate(join_lone_sample(self.loader.epoch_views(epoch))):
            yield self.prepared(self.compute.images(batch.images), epoch, step), batch.labels.clone()

    def prepared(self, images: torch.Tensor, epoch: int, step: int) -> torch.Tensor:
        """Return the images themselves; a subclass mixes them."""
        return images


class Mixed(Plain):
    """Training batches, mixed as the protocol wants."""

    def __init__(self, loader: Loader, compute: Compute, labelling: Labelling) -> None:
        super().__init__(loader, compute)
        self.labelling = labelling

    def prepared(self, images: torch.Tensor, epoch: int, step: int) -> torch.Tensor:
        """Return the mixed images."""
        return self.labelling.mixed(images, self.labelling.place(epoch, step))[0]
