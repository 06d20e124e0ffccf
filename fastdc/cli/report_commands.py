"""Define the commands on results: compare, rank."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fastdc.cli.common import report_error
from fastdc.common.errors import ConfigError


class Form(StrEnum):
    """Form of a comparison."""

    table = "table"
    json = "json"


class RankForm(StrEnum):
    """Form of a ranking."""

    table = "table"
    markdown = "markdown"
    json = "json"


class Epoch(StrEnum):
    """Epoch whose accuracy is compared."""

    last = "last"
    best = "best"


Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="A sweep's workdir, or a folder with a study's rows.jsonl.", show_default=False),
]
Ipc = Annotated[int | None, typer.Option(min=1, help="Only this IPC.", show_default=False)]
OnlyProtocol = Annotated[str | None, typer.Option(help="Only this protocol.", show_default=False)]
Arch = Annotated[str | None, typer.Option(help="Only this network.", show_default=False)]
WhichEpoch = Annotated[Epoch, typer.Option(help="last is the benchmark's; best overstates accuracy.")]


def compare_command(
    folder: Folder,
    methods: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="METHOD...", help="Pairs of methods as the table shows them: A B [C D ...].", show_default=False
        ),
    ] = None,
    all_against: Annotated[
        str | None,
        typer.Option(metavar="METHOD", help="Compare METHOD with each method given, or with all.", show_default=False),
    ] = None,
    ipc: Ipc = None,
    protocol: OnlyProtocol = None,
    arch: Arch = None,
    epoch: WhichEpoch = Epoch.last,
    detect: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS", min=0.01, help="Report the seeds that this difference needs.", show_default=False
        ),
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="table is for people, json for programs.")] = Form.table,
) -> None:
    """Compare pairs of methods over the seeds that both finished, in every setting that they share.

    Prints the mean difference, its 95 % interval, the p-value of the exact two-sided permutation test on the pairs (of
    the paired t test above 40), and how many seeds a difference needs to show. With several comparisons, p is also
    adjusted for their number (Holm). `full` has no IPC, so it is compared with the other methods at each of theirs.

    Example:

    \b
    fastdc compare runs/first pca random rded random --ipc 10

    Example:

    \b
    fastdc compare benchmarks/results/imagenette64 --all-against random --ipc 10
    """
    from fastdc.report.compare import compare_against, compare_pairs, comparison_json, comparison_table
    from fastdc.report.read_results import open_results

    names, lost = methods or [], list[str]()
    if all_against is None and (not names or len(names) % 2):
        found = f"{len(names)} method{'s' * (len(names) != 1)}"
        raise ConfigError(f"compare: found {found}, expected pairs A B [C D ...], or --all-against METHOD")
    with open_results(folder) as results:
        records = results.records()
    if all_against is None:
        pairs = zip(names[::2], names[1::2], strict=True)
        each = compare_pairs(records, pairs, ipc=ipc, protocol=protocol, arch=arch, epoch=epoch.value)
    else:
        each, lost = compare_against(
            records, all_against, names, ipc=ipc, protocol=protocol, arch=arch, epoch=epoch.value
        )
    render = comparison_json if form is Form.json else comparison_table
    print(render(each, detect, epoch.value))
    if lost:
        report_error(f"no seed in common with {all_against} in any setting: {', '.join(lost)}", "note: ")


def rank_command(
    folder: Folder,
    methods: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Only these methods.", show_default=False)
    ] = None,
    min_seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Only methods with so many finished seeds.  [default: 2 where two have them]",
            show_default=False,
        ),
    ] = None,
    ipc: Ipc = None,
    protocol: OnlyProtocol = None,
    arch: Arch = None,
    epoch: WhichEpoch = Epoch.last,
    form: Annotated[
        RankForm, typer.Option("--format", help="table and markdown are for people, json for programs.")
    ] = RankForm.table,
) -> None:
    """Rank the methods of each setting by their mean over the seeds that all of them finished; ties share places.

    A rank is the range of places that a method may hold: 2-4 where one method is better for certain and three
    cannot be separated. Certain means significant at 5 % in the exact paired permutation test, after Holm over all
    pairs.

    Example:

    \b
    fastdc rank runs/first --ipc 10 --min-seeds 8
    """
    from fastdc.report.ranking import rank_methods, render_ranking
    from fastdc.report.read_results import open_results
    from fastdc.sweep.sweep_config import split_names

    with open_results(folder) as results:
        records = results.records()
    rankings = rank_methods(
        records,
        methods=split_names(methods or ""),
        min_seeds=min_seeds,
        ipc=ipc,
        protocol=protocol,
        arch=arch,
        epoch=epoch.value,
    )
    print(render_ranking(rankings, form.value, epoch.value))
