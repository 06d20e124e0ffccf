"""Define the commands on results: report, compare, rank."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fastdc.cli.common import report_error
from fastdc.common.choices import RankFormat, ReportFormat
from fastdc.common.errors import ConfigError
from fastdc.common.text import format_bytes

Epoch = Literal["last", "best"]
Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="A sweep's workdir, a bundle, or a folder with rows.jsonl.")
]
Ipc = Annotated[int | None, typer.Option(min=1, help="Only this IPC.")]
OnlyProtocol = Annotated[str | None, typer.Option(help="Only this protocol.")]
Arch = Annotated[str | None, typer.Option(help="Only this network.")]
Crops = Annotated[str | None, typer.Option("--augment", help="Only these crops, for example method or protocol.")]
OnlyPrecision = Annotated[str | None, typer.Option("--precision", help="Only this precision.")]
Side = Annotated[int | None, typer.Option("--image-size", min=1, help="Only this image side, in pixels.")]
WhichEpoch = Annotated[Epoch, typer.Option(help="last is the benchmark's choice; best overstates accuracy.")]


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A sweep's workdir, or a bundle.")],
    style: Annotated[
        ReportFormat,
        typer.Option("--format", help="table is for people, the others are for programs; parquet has a row per seed."),
    ] = "table",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="The file of --format parquet.")] = None,
    epochs: Annotated[
        bool,
        typer.Option(
            "--epochs",
            help="Also print accuracy by epoch within each training, and its best epoch, which is never ranked. "
            "Trainings of different lengths have separate tables, and a chart in --html.",
        ),
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Also write an offline page with charts and stored images."),
    ] = None,
) -> None:
    """Print the results of a sweep: mean and standard deviation over seeds, bytes, seconds, and failures.

    A mean over only some of the seeds is marked, for example 2/3. Accuracy is that of the last epoch; std uses ddof=1.
    DIR may also be a folder with a study's rows.jsonl. --format parquet writes every run with the columns of its row,
    its own accuracies, its key and what computed it (extra hf).

    Example:

    \b
    fastdc report runs/first --format csv > results.csv

    Example:

    \b
    fastdc report runs/first --format parquet --out runs.parquet
    """
    from fastdc.report import render, show, write_page
    from fastdc.report.epochs import epochs_json, epochs_table
    from fastdc.report.read_results import open_results
    from fastdc.report.rows import group_rows
    from fastdc.report.run_table import write_runs

    if epochs and style not in ("table", "json"):
        raise ConfigError(f"--epochs: --format {style} cannot show it; use table or json")
    if out is None and style == "parquet":
        raise ConfigError("--format parquet: is binary and not printed; name its file with --out FILE")
    if out is not None and style != "parquet":
        raise ConfigError(f"--out {out}: --format {style} is printed; redirect it with > FILE, or use parquet")
    with open_results(folder, whole=True) as results:
        groups = group_rows(results.records())
        rows, more = [row for row, _ in groups], ""
        if epochs:
            more = (epochs_table if style == "table" else epochs_json)(results, groups)
        if out is not None:
            report_error(f"{out}: {write_runs(results, groups, out)} rows, one for each seed", "runs: ")
        if html is not None:
            written = write_page(results, folder, html)
            report_error(f"{html}: {format_bytes(written)}, opens in any browser without a network", "page: ")
    if style == "table":
        show(rows)
        print(f"\n{more}" if more else "", end="\n" if more else "")
    elif style != "parquet":
        print(more or render(rows, style))


def compare(
    folder: Folder,
    methods: Annotated[
        list[str] | None,
        typer.Argument(metavar="METHOD...", help="Pairs of methods, as the table names them: A B [C D ...]."),
    ] = None,
    all_against: Annotated[
        str | None, typer.Option(metavar="METHOD", help="Compare METHOD with each method given, or with all.")
    ] = None,
    other: Annotated[
        Path | None,
        typer.Option("--with", metavar="DIR", help="Other results; a method in both is METHOD@DIR in these."),
    ] = None,
    ipc: Ipc = None,
    protocol: OnlyProtocol = None,
    arch: Arch = None,
    augment: Crops = None,
    precision: OnlyPrecision = None,
    image_size: Side = None,
    epoch: WhichEpoch = "last",
    detect: Annotated[
        float | None,
        typer.Option(metavar="POINTS", min=0.01, help="Report the number of seeds needed to detect this difference."),
    ] = None,
    form: Annotated[
        Literal["table", "json"], typer.Option("--format", help="table is for people, json for programs.")
    ] = "table",
) -> None:
    """Compare pairs of methods over the seeds that both finished, in every setting that they share.

    Prints the mean difference, its 95 % interval, the p-value of the exact two-sided permutation test on the pairs (of
    the paired t test above 40 pairs), and the number of seeds needed to detect a difference. With several comparisons,
    p is also adjusted for their number (Holm). `full` has no IPC, so it is compared at each IPC of the other methods.

    Example:

    \b
    fastdc compare runs/first pca random rded random --ipc 10

    Example:

    \b
    fastdc compare benchmarks/results/imagenette64 --all-against random --ipc 10

    METHOD@SETTING=VALUE takes the runs with this augment, precision, arch, protocol, ipc or image-size. A setting that
    both sides name may differ, or one that either names if both are the same method; all others are shared.

    Example:

    \b
    fastdc compare runs/first pca@augment=protocol pca@augment=method

    --with adds the runs of another workdir or bundle, named by its folder or file: `pca pca@second` compares PCA in DIR
    with PCA in second.zip. Without methods, each method that both have is compared with itself.

    Example:

    \b
    fastdc compare first.zip --with second.zip
    """
    from fastdc.report.comparable import choose_groups
    from fastdc.report.compare import compare_chosen, comparison_json, comparison_table
    from fastdc.report.join_results import join_records, source_name
    from fastdc.report.read_results import open_results

    source = None if other is None else source_name(other)
    with open_results(folder) as results:
        records = results.records()
    if other is not None and source is not None:
        with open_results(other) as results:
            records = join_records(records, results.records(), source)
    groups = choose_groups(
        records, ipc=ipc, protocol=protocol, arch=arch, augment=augment, precision=precision, image_size=image_size
    )
    each, lost = compare_chosen(groups, methods or [], all_against, source, epoch)
    render = comparison_json if form == "json" else comparison_table
    print(render(each, detect, epoch))
    if lost:
        reference = all_against or "themselves"
        report_error(f"no seed in common with {reference} in any setting: {', '.join(lost)}", "note: ")


def rank(
    folder: Folder,
    methods: Annotated[str | None, typer.Option(metavar="A,B,...", help="Only these methods.")] = None,
    min_seeds: Annotated[
        int | None,
        typer.Option(
            min=1, help="Only methods with at least this many finished seeds.  [default: 2, if two methods have them]"
        ),
    ] = None,
    ipc: Ipc = None,
    protocol: OnlyProtocol = None,
    arch: Arch = None,
    augment: Crops = None,
    precision: OnlyPrecision = None,
    image_size: Side = None,
    epoch: WhichEpoch = "last",
    form: Annotated[
        RankFormat, typer.Option("--format", help="table and markdown are for people, json for programs.")
    ] = "table",
) -> None:
    """Rank the methods of each setting by their mean over the seeds that all of them finished; ties share places.

    A rank is a range of places: 2-4 means that one method is significantly better, and that this one and two others
    cannot be separated. Significant means at 5 % in the exact paired permutation test, after Holm over all pairs.

    Example:

    \b
    fastdc rank runs/first --ipc 10 --min-seeds 8
    """
    from fastdc.common.settings import split_names
    from fastdc.report.comparable import choose_groups
    from fastdc.report.ranking import rank_methods, render_ranking
    from fastdc.report.read_results import open_results

    with open_results(folder) as results:
        records = results.records()
    groups = choose_groups(
        records, ipc=ipc, protocol=protocol, arch=arch, augment=augment, precision=precision, image_size=image_size
    )
    rankings = rank_methods(groups, split_names(methods or ""), min_seeds, epoch)
    print(render_ranking(rankings, form, epoch))
