"""What one evaluation is run with, and what comes out of it. Imports no torch."""

from typing import Any, Literal

from pydantic import Field

from fastdc.beton.hints import Augment
from fastdc.nn.options import Precision
from fastdc.settings import Settings
from fastdc.train.protocols import Labels, Protocol


class EvaluateSettings(Settings):
    """Settings of one evaluation.

    Attributes:
        protocol: how to train and validate.
        arch: network by name (`fastdc.nn.models`).
        seed: training seed: initial weights, shuffling, augmentation.
        augment: `method` follows the subset's hints (PCA's crop inside one tile), `protocol` ignores them, `tile:2` and
            its like crop inside tiles whatever the hints are (`fastdc.beton.hints`).
        precision: fp32 is IEEE; tf32, bf16 and fp16 are faster on a GPU; `auto` is bf16 on CUDA and fp32 on CPU.
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
        images: stored images; image_bytes: of these, JPEG files as they are and raw pixels as PNG.
        labels: what was trained on: `hard`, or a teacher's `online` or `stored` labels.
        label_bytes: of hard labels, the whole bytes that name a class; of stored ones, the bytes of their file; of
            online ones what nobody stores: fp16 logits of every image in every epoch.
        label_file: SHA-256 of the file of stored labels, else None.
        teacher: name of the network that gave the labels, None for hard ones. teacher_note: what to know about it.
        teacher_seconds: wall time of the teacher's training, 0 for a pretrained one.
        relabel_seconds: time of the teacher's forward passes: within this training for online labels, once for all
            trainings for stored ones.
        seconds: wall time of this call.
        train_seconds: wall time of training steps and validation, those before a resume included.
        per_class: last epoch's accuracy of every class in percent, in class order; None without validation images.
        curve: one entry per epoch: epoch, lr, loss, and top1 where validated.
        protocol: the protocol's name with what was changed.
        precision: the resolved one (fp32, tf32, bf16, fp16).
        threads: torch CPU threads. device: "cpu" or the CUDA device's name. machine: model of the GPU, or of the CPU.
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
    labels: Labels = "hard"
    label_file: str | None = None
    teacher: str | None = None
    teacher_note: str = ""
    teacher_seconds: float = 0.0
    relabel_seconds: float = 0.0
    seconds: float
    train_seconds: float
    per_class: tuple[float | None, ...]
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
    machine: str = ""
    loader: str
    environment: dict[str, Any]
