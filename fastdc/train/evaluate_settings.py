"""Settings and result of one evaluation. Imports no torch."""

from typing import Any

from pydantic import Field

from fastdc.beton.hints import Augment
from fastdc.common.choices import EngineChoice, Precision
from fastdc.common.settings import Settings
from fastdc.train.protocols import Labels, Protocol


class EvaluateSettings(Settings):
    """Settings of one evaluation.

    Attributes:
        protocol: settings of training and validation.
        arch: architecture name (`fastdc.nn.arch_names`).
        seed: training seed of initial weights, shuffling and augmentation.
        augment: `method` follows the subset's hints (such as PCA's crop inside one tile), `protocol` ignores them, and
            values like `tile:2` crop inside tiles whatever the hints are (`fastdc.beton.hints`).
        precision: fp32 is IEEE; tf32, bf16 and fp16 are faster on a GPU; `auto` is bf16 on GPUs with it, else fp32.
        threads: CPU threads of torch; 0 takes every usable CPU. Part of the result's identity on CPU.
        image_size: side S of training crops in pixels; None takes the subset's side, or 224 where sides differ.
        loader: engine that feeds the training; only `device`, which `auto` takes on CUDA where the images fit, can
            change the result (`fastdc.loader.open_loader`).
        loader_workers: number of decoding threads; the result does not depend on it.
        compile: whether to run the network through torch.compile.
    """

    protocol: Protocol
    arch: str = "resnet18"
    seed: int = Field(0, ge=0)
    augment: Augment = "method"
    precision: Precision = "auto"
    threads: int = Field(0, ge=0)
    image_size: int | None = Field(None, ge=8)
    loader: EngineChoice = "auto"
    loader_workers: int | None = Field(None, ge=1)
    compile: bool = False


class EvaluationResult(Settings):
    """Outcome of one evaluation.

    Attributes:
        top1, top5: accuracy of the last epoch in percent; top5 is None below 6 classes.
        top1_best: best accuracy over all validations in percent; shown, but never used for ranking.
        epochs, steps: training length; a step is one optimizer update.
        images: number of stored images.
        image_bytes: their size, with JPEG files as stored and raw pixels as PNG.
        label_bytes: size of the labels, see `fastdc.train.labels.layout.label_bytes`. Online labels, which are not
            stored, count as fp16 logits of every view in every epoch.
        labels: kind of labels: `hard`, or a teacher's `online` or `stored` labels.
        label_file: SHA-256 of the file of stored labels, else None.
        teacher: name of the network that made the labels; None for hard labels.
        teacher_note: caveat about the teacher.
        teacher_seconds: wall time of the teacher's training; 0 for a pretrained teacher.
        relabel_seconds: time of the teacher's forward passes. It is part of this training for online labels, and
            spent once for all trainings for stored labels.
        seconds: wall time of this call.
        train_seconds: wall time of training steps and validation, including those before a resume. Networks that train
            at the same time on a GPU divide the time of each epoch equally.
        per_class: accuracy of each class at the last epoch in percent, in class order; None without validation images.
        curve: one entry per epoch with epoch, lr, loss, and top1 (None where not validated).
        dataset: name of the data set.
        arch: architecture name.
        protocol: full name of the protocol, which includes its changes.
        batch_size: images per step.
        image_size: side S of training crops in pixels.
        precision: resolved precision (fp32, tf32, bf16, fp16).
        augment: rule of the training crops, as given.
        seed: training seed.
        threads: torch CPU threads.
        device: "cpu" or the CUDA device's name.
        machine: model name of the GPU, or of the CPU.
        loader: engine that fed the training.
        environment: versions that the result depends on.
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
