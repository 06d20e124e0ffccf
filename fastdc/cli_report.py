"""Commands on results: compare."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Form(StrEnum):
    """Form of a comparison."""

    table = "table"
    json = "json"


class Epoch(StrEnum):
    """The epoch whose accuracy is compared."""

    last = "last"
    best = "best"


def compare_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A sweep's workdir.", show_default=False)],
    first: Annotated[str, typer.Argument(metavar="A", help="A method as the table shows it.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.", show_default=False)],
    ipc: Annotated[int | None, typer.Option(min=1, help="Only this IPC.", show_default=False)] = None,
    protocol: Annotated[str | None, typer.Option(help="Only this protocol.", show_default=False)] = None,
    arch: Annotated[str | None, typer.Option(help="Only this network.", show_default=False)] = None,
    epoch: Annotated[Epoch, typer.Option(help="last is the benchmark's; best overstates accuracy.")] = Epoch.last,
    detect: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS", min=0.01, help="Report the seeds that this difference needs.", show_default=False
        ),
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="table is for people, json for programs.")] = Form.table,
) -> None:
    """Compare two methods over the seeds that both finished, in every setting that they share.

    Prints the mean difference, its 95 % interval, the p-value of the exact two-sided permutation test on the pairs (of
    the paired t test above 40), and how many seeds it takes to show a difference.

    Example:

    \b
    fastdc compare runs/first pca random --ipc 10
    """
    from fastdc.report.compare import compare_methods, comparison_json, comparison_table
    from fastdc.sweep.store import Store

    with Store(folder / "store.sqlite", readonly=True) as store:
        records = store.records()
    found = compare_methods(records, first, second, ipc=ipc, protocol=protocol, arch=arch, epoch=epoch.value)
    print(comparison_json(found, detect) if form is Form.json else comparison_table(found, detect))
