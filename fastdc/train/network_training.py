"""The training of one network under a protocol, and the result that it reports."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fastdc.beton import count_image_bytes
from fastdc.common.keys import content_key
from fastdc.loader import Loader
from fastdc.nn.device import Compute
from fastdc.nn.fit import Fit
from fastdc.nn.fit_plan import FitPlan
from fastdc.nn.models import build_model, decay_weights_only, make_sgd
from fastdc.train.curve import Curve
from fastdc.train.data_pair import Pair
from fastdc.train.evaluate_settings import EvaluateSettings, EvaluationResult
from fastdc.train.evaluation_request import EvaluationRequest
from fastdc.train.labels.layout import label_bytes
from fastdc.train.labels.stored import StoredLabelling
from fastdc.train.labels.targets import Labelling
from fastdc.train.protocols import Protocol
from fastdc.train.schedules import rate_share
from fastdc.train.target_losses import make_loss

if TYPE_CHECKING:
    from fastdc.teachers.network import Teacher


@dataclass(frozen=True)
class Training:
    """Network with everything that trains and validates it.

    Attributes:
        pair: the data sets.
        settings: settings of the evaluation.
        compute: device and precision.
        curve: validations so far.
        fit: the training run.
        labelling: maker of the targets; None for plain hard labels.
        teacher: network that makes soft labels; None for hard labels.
    """

    pair: Pair
    settings: EvaluateSettings
    compute: Compute
    curve: Curve
    fit: Fit
    labelling: Labelling | None = None
    teacher: "Teacher | None" = None

    def result(self, engine: str, seconds: float) -> EvaluationResult:
        """Return the result of the finished run.

        Args:
            engine: engine of the loader that fed it.
            seconds: wall time of the call.
        """
        last, plan = self.curve.last, self.fit.plan
        return EvaluationResult(
            top1=last.top1,
            top5=last.top5,
            top1_best=self.curve.best,
            per_class=last.per_class,
            curve=tuple(self.curve.entries),
            epochs=plan.epochs,
            steps=plan.epochs * plan.steps,
            seconds=seconds,
            train_seconds=self.fit.seconds,
            loader=engine,
            **self._described(),
            **self._labelled(),
        )

    def _described(self) -> dict[str, Any]:
        """Return the result's fields on data, settings and machine."""
        stored, settings = self.pair.stored, self.settings
        size = len(stored.ids), len(stored.classes), self.pair.views(settings)
        return {
            "images": len(stored.ids),
            "image_bytes": count_image_bytes(self.pair.subset, stored),
            "label_bytes": label_bytes(settings.protocol, *size),
            "dataset": stored.dataset,
            "arch": settings.arch,
            "protocol": settings.protocol.name,
            "batch_size": settings.protocol.batch_for(len(stored.ids)),
            "image_size": self.pair.side(settings),
            "augment": settings.augment,
            "seed": settings.seed,
            **self.compute.facts(),
        }

    def _labelled(self) -> dict[str, Any]:
        """Return the result's fields on labels and teacher."""
        fields: dict[str, Any] = {"labels": self.settings.protocol.labels}
        if self.labelling is not None:
            fields["relabel_seconds"] = self.labelling.seconds
        if isinstance(self.labelling, StoredLabelling):
            fields["label_file"] = self.labelling.file.sha256
        if self.teacher is not None:
            fields |= {"teacher": self.teacher.name, "teacher_note": self.teacher.note}
            fields["teacher_seconds"] = self.teacher.seconds
        return fields


def make_training(
    request: EvaluationRequest,
    number: int,
    pair: Pair,
    compute: Compute,
    val_loader: Loader,
    steps: int,
    labelling: Labelling | None,
) -> Training:
    """Build training `number` of a request without starting it.

    Args:
        steps: training steps per epoch.
        labelling: see `Training`.
    """
    settings, teacher = request.settings[number], request.teacher
    size, protocol = pair.side(settings), settings.protocol
    epochs = pair.epochs(protocol)
    model = build_model(settings.arch, len(pair.stored.classes), size, settings.seed).to(compute.device)
    curve = Curve(model, val_loader, pair, protocol, compute, labelling, request.names[number])
    plan = FitPlan(
        epochs=epochs,
        steps=steps,
        learning_rate=lambda epoch, _step, _steps: learning_rate(protocol, epoch, epochs),
        loss=make_loss(protocol),
        seed=settings.seed,
        checkpoint=request.checkpoints[number],
        identity=_identity(pair, settings, size, compute, teacher),
        checkpoint_seconds=request.checkpoint_seconds,
        targets=labelling,
    )
    # The compiled module shares its weights with `model`, which the optimizer and the validation use.
    network: nn.Module = _compiled(model) if settings.compile else model
    fit = Fit(network, make_optimizer(model, protocol, compute.precision), compute, plan, curve)
    return Training(pair, settings, compute, curve, fit, labelling, teacher)


def _compiled(model: nn.Module) -> nn.Module:
    """Compile a network as the first one of its process.

    torch keeps at most eight compilations of a forward pass, for all networks of a process together. Later networks
    would run uncompiled, and others by kernels for another batch size.
    """
    torch.compiler.reset()
    compiled: nn.Module = torch.compile(model)  # type: ignore[assignment]
    return compiled


def learning_rate(protocol: Protocol, epoch: int, epochs: int) -> float:
    """Return the learning rate of `epoch` (counted from 0) of `epochs`, by the protocol's schedule."""
    return protocol.lr * rate_share(protocol.schedule, epoch, epochs)


def make_optimizer(model: nn.Module, protocol: Protocol, precision: str = "fp32") -> torch.optim.Optimizer:
    """Return SGD, which decays every parameter, or AdamW, which decays weight matrices only unless `decay_all`."""
    if protocol.optimizer == "sgd":
        return make_sgd(model, protocol.lr, protocol.momentum, protocol.weight_decay, precision)
    if protocol.decay_all:
        return torch.optim.AdamW(model.parameters(), lr=protocol.lr, weight_decay=protocol.weight_decay, fused=True)
    return torch.optim.AdamW(decay_weights_only(model, protocol.weight_decay), lr=protocol.lr, fused=True)


def _identity(
    pair: Pair, settings: EvaluateSettings, size: int, compute: Compute, teacher: "Teacher | None" = None
) -> str:
    # Excluded: what does not change the result, and what follows below in its resolved form.
    plain = settings.model_dump(exclude={"loader", "loader_workers", "threads", "precision", "image_size"})
    return content_key(
        {
            "subset": pair.stored.content_hash,
            "val": pair.validation.content_hash,
            "settings": plain,
            "image_size": size,
            "precision": compute.key,
            "threads": compute.threads if compute.device.type == "cpu" else None,
            **({} if teacher is None else {"teacher": teacher.identity}),
        }
    )
