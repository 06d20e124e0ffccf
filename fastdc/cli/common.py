"""Define the choices, options and error line that the commands share."""

import os
from enum import StrEnum
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from fastdc.common.log import choose_log, log_message


class Encoding(StrEnum):
    """Encoding of stored images."""

    keep = "keep"
    jpg = "jpg"
    raw = "raw"


class IndexOrder(StrEnum):
    """Numbering that the indices of a list refer to."""

    imagefolder = "imagefolder"
    own = "own"


class OnError(StrEnum):
    """Reaction to an unreadable image."""

    fail = "fail"
    skip = "skip"


PRECISION_HELP = "fp32 (IEEE), tf32, bf16 or fp16; auto: bf16 on CUDA, fp32 on CPU."


class Precision(StrEnum):
    """Number format of the forward pass."""

    auto = "auto"
    fp32 = "fp32"
    tf32 = "tf32"
    bf16 = "bf16"
    fp16 = "fp16"


class Order(StrEnum):
    """Order of classes by name."""

    text = "text"
    numeric = "numeric"
    natural = "natural"
    wordnet = "wordnet"


class Engine(StrEnum):
    """Engine that makes batches."""

    auto = "auto"
    ffcv = "ffcv"
    resident = "resident"
    device = "device"


class Together(StrEnum):
    """Policy for sharing one stream of decoded images between runs."""

    auto = "auto"
    always = "always"
    never = "never"


class Rerun(StrEnum):
    """Selection of the runs that a sweep repeats."""

    missing = "missing"
    failed = "failed"
    all = "all"


class Launcher(StrEnum):
    """Place where a sweep executes its runs."""

    local = "local"
    ray = "ray"


class Log(StrEnum):
    """Form of progress on stderr."""

    auto = "auto"
    plain = "plain"
    json = "json"


class Style(StrEnum):
    """Form of a report."""

    table = "table"
    csv = "csv"
    json = "json"
    latex = "latex"


Train = Annotated[Path, typer.Argument(metavar="TRAIN.beton", help="Beton of the training set.", show_default=False)]
Workdir = Annotated[Path, typer.Option(metavar="DIR", help="Folder for observers and results.", show_default=False)]
AllowMissing = Annotated[
    bool,
    typer.Option(
        "--allow-missing-classes", help="Match classes by name; the validation set may lack some (accuracy null)."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting; may be repeated.", show_default=False),
]
ObserverSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--observer", metavar="KEY=VALUE", help="One setting of the observer (arch=convnet); may be repeated."
    ),
]
Teacher = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Gives soft labels: observer, observer:ARCH, FILE.safetensors, ARCH@FILE, efficientnet_lite0, "
        "torchvision:NAME[@WEIGHTS], timm:NAME.  [default: observer]",
        show_default=False,
    ),
]
TeacherOrder = Annotated[
    Order | None,
    typer.Option(
        help="Class order of ARCH@FILE's outputs: text (class1, class10, class2), natural (class1, class2, class10), "
        "numeric (0, 1, 10), wordnet.  [default: the data set's]",
        show_default=False,
    ),
]
Track = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Show the curves in tensorboard, wandb, mlflow (pip install 'fastdc[trackers]'); no result changes.",
        show_default=False,
    ),
]
LogOption = Annotated[
    Log,
    typer.Option(
        "--log",
        help="Progress on stderr. auto: bars on a terminal, else plain lines; json: an object per line.",
        callback=lambda log: choose_log(log.value) or log,  # a callback returns the value; `choose_log` returns None
    ),
]
AUGMENT_HELP = (
    "method follows a subset's hints (PCA's crop inside one tile), protocol ignores them, "
    "tile:GRID[+whole=SHARE][+align=SHARE][+scale=LOW-HIGH][+views=COUNT] crops every set in this one way."
)
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Seed = Annotated[int, typer.Option(min=0, help="Root of every random decision.")]


class _LeavablePipe(FileIO):
    """Raw stream that drops its output once the reader has closed the pipe."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def outlive_reader(stream: TextIOWrapper) -> TextIOWrapper:
    """Return a replacement for stdout whose reader may exit early (`| head -1`).

    The command then finishes as if all output had been read, with its own exit code.
    """
    raw = _LeavablePipe(stream.fileno(), "wb", closefd=False)
    return TextIOWrapper(BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=stream.line_buffering)


def report_error(message: str, prefix: str = "error: ") -> None:
    """Print one line on stderr."""
    log_message(f"{prefix}{message}")
