"""Summarise a demo's rows in sentences: the paper's order, the order found, and the differences from the baseline."""

from collections.abc import Iterable
from typing import Any

from fastdc.common.errors import ConfigError
from fastdc.common.text import counted
from fastdc.methods.registry import load_registry
from fastdc.report import make_rows
from fastdc.report.comparable import choose_groups
from fastdc.report.compare import compare_pairs
from fastdc.report.paired_tests import Paired
from fastdc.sweep.store.results import Record
from fastdc.sweep.sweep_config import SweepConfig

BASELINE, PAPERS = "random", "pca"
GREY, PHOTOGRAPHS = "fashion_mnist", "fastdc demo --set imagenette"


def describe(records: Iterable[Record], config: SweepConfig) -> list[str]:
    """Return a summary of a demo's rows, one sentence per line: the paper's order, ours, and the differences.

    Only rows with the first network, IPC and protocol of `config` are used.
    """
    records = list(records)
    setting: dict[str, Any] = {"ipc": config.ipc[0], "protocol": config.protocols[0], "arch": config.archs[0]}
    rows = [row for row in make_rows(records) if row.n and all(getattr(row, key) == setting[key] for key in setting)]
    means = {row.method: row.top1_mean for row in rows if row.method in config.methods and row.top1_mean is not None}
    published = {name: value for name in means if (value := published_top1(name, config.ipc[0])) is not None}
    lines = []
    if len(published) > 1:
        ours = {name: means[name] for name in published}
        same = "the same" if ordered(ours) == ordered(published) else "another"
        lines.append(f"The paper's order on ImageNet-1K, with ResNet-18: {listed(published)}.")
        lines.append(f"Here, with {setting['arch']} at {config.image_size} px, it is {same} one: {listed(ours)}.")
    pairs = {name: against_baseline(records, name, setting) for name in means if name != BASELINE and BASELINE in means}
    found = {name: result for name, result in pairs.items() if result is not None}
    if found:
        judged = "; ".join(judge(name, result) for name, result in found.items())
        some = next(iter(found.values()))
        interval = "" if some.low is None else ", with 95 % intervals"
        lines += [f"Points above {BASELINE}{interval}: {judged}.", weigh(some)]
    if PAPERS in found and not is_above(found[PAPERS]) and {row.dataset for row in rows} == {GREY}:
        lines.append(
            f"{PAPERS} is not above {BASELINE} on these grey images of clothes. For photographs, run {PHOTOGRAPHS}."
        )
    return lines


def against_baseline(records: list[Record], method: str, setting: dict[str, Any]) -> Paired | None:
    """Return a method's paired difference from the baseline; None if they share no seed."""
    try:
        return compare_pairs(choose_groups(records, **setting), [(method, BASELINE)])[0].result
    except ConfigError:
        return None


def published_top1(method: str, ipc: int) -> float | None:
    """Return a method's published top-1 on ImageNet-1K in percent (ResNet-18, hard labels); None if there is none."""
    return load_registry().get(method.partition("[")[0]).info.published.get(f"imagenet1k/resnet18/hard/ipc{ipc}")


def ordered(means: dict[str, float]) -> list[str]:
    """Return the methods from the lowest accuracy to the highest."""
    return sorted(means, key=means.__getitem__)


def listed(means: dict[str, float]) -> str:
    """Return methods with their accuracies, lowest first: `random 4.6 < el2n 12.2 %`."""
    return " < ".join(f"{name} {means[name]:.1f}" for name in ordered(means)) + " %"


def judge(name: str, result: Paired) -> str:
    """Return a method's difference from the baseline as text: `pca +8.1 (+7.6 to +8.6: better)`."""
    difference = f"{name} {result.mean:+.1f}"
    if result.low is None or result.high is None:
        return difference
    verdict = "better" if is_above(result) else "worse" if result.high < 0 else "not separated"
    return f"{difference} ({result.low:+.1f} to {result.high:+.1f}: {verdict})"


def is_above(result: Paired) -> bool:
    """Return whether the complete interval of a difference is above 0."""
    return result.low is not None and result.low > 0


def weigh(result: Paired) -> str:
    """Return a sentence about what this number of seeds can prove."""
    seeds = counted(result.n, "paired seed")
    if result.smallest_p <= 0.05:
        return f"These are {seeds}; fastdc compare gives the exact p-values."
    return f"{seeds} prove{'s' * (result.n == 1)} nothing: the exact test gives p = {result.smallest_p:.2g} at best."
