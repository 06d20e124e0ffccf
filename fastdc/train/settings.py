"""What one evaluation is run with, and what comes out of it. Imports no torch."""

from typing import Any, Literal

from pydantic import Field

from fastdc.nn.options import Precision
from fastdc.settings import Settings
from fastdc.train.protocols import Protocol

Augment = Literal["method", "protocol"]


class EvaluateSettings(Settings):
    """Settings of one evaluation.

    Attributes:
        protocol: how to train and validate.
        arch: network by name (`fastdc.nn.models`).
        seed: training seed: initial weights, shuffling, augmentation.
        augment: `method` follows the subset's hints (PCA's crop inside one tile), `protocol` ignores them.
        precision: `auto` is bf16 autocast on CUDA and fp32 on CPU.
        threads: CPU threads of torch; 0 takes every usable CPU. Part of the result's identity on CPU.
        image_size: side S of training crops in pixels; None takes the subset's side, or 224 where sides differ.
        loader: engine that feeds training; the result does not depend on it.
        loader_workers: threads that decode; the result does not depend on it.
        compile: run the network through torch.compile.
    """

    protocol: Protocol
    arch: str = "resnet18"
    seed: int = Field(0, ge=0)
    augment: Augment = "method"
    precision: Precision = "auto"
    threads: int = Field(0, ge=0)
    image_size: int | None = Field(None, ge=8)
    loader: Literal["auto", "ffcv", "resident", "device"] = "auto"
    loader_workers: int | None = Field(None, ge=1)
    compile: bool = False


class EvaluationResult(Settings):
    """Outcome of one evaluation.

    Attributes:
        top1, top5: accuracy of the last epoch in percent; top5 is None below 6 classes.
        top1_best: best accuracy over all validations in percent; shown, never ranked.
        epochs, steps: training length; a step is one optimizer update.
        images: stored images; image_bytes, label_bytes: their payload and that of the labels.
        seconds: wall time of this call.
        train_seconds: wall time of training steps and validation, those before a resume included.
        per_class: last epoch's accuracy of every class in percent, in class order.
        curve: one entry per epoch: epoch, lr, loss, and top1 where validated.
        protocol: the protocol's name with what was changed.
        precision: the resolved one (fp32, bf16, fp16).
        threads: torch CPU threads. device: "cpu" or the CUDA device's name.
        environment: versions of what the result depends on.
    """

    top1: float
    top5: float | None
    top1_best: float
    epochs: int
    steps: int
    images: int
    image_bytes: int
    label_bytes: int
    seconds: float
    train_seconds: float
    per_class: tuple[float, ...]
    curve: tuple[dict[str, float | int | None], ...]
    dataset: str
    arch: str
    protocol: str
    batch_size: int
    image_size: int
    precision: str
    augment: Augment
    seed: int
    threads: int
    device: str
    loader: str
    environment: dict[str, Any]
