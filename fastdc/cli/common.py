"""Define the options that several commands share, and the form of their errors."""

from pathlib import Path
from typing import Annotated

import typer

from fastdc.common.choices import OrderName
from fastdc.common.log import LogStyle, choose_log, log_message

PRECISION_HELP = "fp32 (IEEE), tf32, bf16 or fp16; auto: bf16 on GPUs from Ampere on, else fp32."
AUGMENT_HELP = (
    "method: each subset's own hints (PCA's crop inside one tile); protocol: no hints; "
    "tile:GRID[+whole=SHARE][+align=SHARE][+scale=LOW-HIGH][+views=COUNT]: the same crops for every set."
)
OBSERVER_KEYS = (
    "arch, epochs, batch_size, lr, lr_min, momentum, weight_decay, image_size, precision, device, threads, seed, runs"
)
LOADER_HELP = "Engine that makes the batches; device needs CUDA."

Train = Annotated[Path, typer.Argument(metavar="TRAIN.beton", help="Beton of the training set.")]
Workdir = Annotated[Path, typer.Option(metavar="DIR", help="Folder for observers and results.")]
AllowMissing = Annotated[
    bool,
    typer.Option(
        "--allow-missing-classes",
        help="Match classes by name; the validation set may lack some, whose accuracy is then null.",
    ),
]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting; may be repeated.")]
ObserverSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--observer",
        metavar="KEY=VALUE",
        help=f"A setting of the observer, for example arch=convnet; may be repeated. Keys: {OBSERVER_KEYS}.",
    ),
]
Teacher = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Source of soft labels: observer, observer:ARCH, FILE.safetensors, ARCH@FILE, efficientnet_lite0, "
        "torchvision:NAME[@WEIGHTS], timm:NAME.  [default: observer]",
    ),
]
TeacherOrder = Annotated[
    OrderName | None,
    typer.Option(
        help="Class order of ARCH@FILE's outputs: text (class1, class10, class2), natural (class1, class2, class10), "
        "numeric (0, 1, 10), wordnet.  [default: the data set's]"
    ),
]
Track = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Send the curves to tensorboard, wandb, mlflow (extra trackers); results do not change.",
    ),
]
LogOption = Annotated[
    LogStyle,
    typer.Option(
        "--log",
        help="Progress on stderr. auto: bars on a terminal, plain lines elsewhere; json: one object per line.",
        callback=lambda log: choose_log(log) or log,  # a callback returns the value; `choose_log` returns None
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print only JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress on stderr.")]
Seed = Annotated[int, typer.Option(min=0, help="Root of every random decision.")]


def report_error(message: str, prefix: str = "error: ") -> None:
    """Print one line on stderr."""
    log_message(f"{prefix}{message}")
