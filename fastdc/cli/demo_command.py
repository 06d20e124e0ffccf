"""Define the command that runs a first comparison on real images."""

from pathlib import Path
from typing import Annotated

import typer

from fastdc.common.choices import DemoSet


def demo(
    name: Annotated[
        DemoSet, typer.Option("--set", help="fashion_mnist: 28 px, minutes on two cores; imagenette: 64 px, longer.")
    ] = "fashion_mnist",
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Published files of the set that you have: the folder of Fashion-MNIST's four *-ubyte.gz files, or "
            "Imagenette's archive or folder. Without it, Debian's package is read, or they are downloaded.",
        ),
    ] = None,
    workdir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for results and images.  [default: runs/ and data/ of the current folder]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Compare methods on real images: get the images, run a sweep, print its table and write its page.

    Downloads 31 MB of Fashion-MNIST or 94 MB of Imagenette, unless they are there. A second call takes seconds,
    because every result is stored.

    Example:

    \b
    fastdc demo --source FashionMNIST/raw --workdir runs/first
    """
    from fastdc.demo.run_demo import run_demo

    raise typer.Exit(run_demo(name, source, workdir))
