"""`fastdc compare`: which runs are paired, and what is printed of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from fastdc import cli
from fastdc.errors import ConfigError
from fastdc.report.compare import Comparison, compare_methods, comparison_table
from fastdc.report.paired import EXACT_PAIRS
from fastdc.sweep.store import Planned, Record, Store
from tests.report.test_result_rows import LABEL, done, other

PCA = {"method": "pca", "group": "bbbbbbbbbb"}


def runs(count: int = 8) -> list[Record]:
    return [*(done(seed, 40.0 + seed / 10) for seed in range(count)),
            *(done(seed, 42.0 + seed / 5, **PCA) for seed in range(count))]  # fmt: skip


def only(found: list[Comparison]) -> Comparison:
    (each,) = found
    return each


def test_seeds_are_paired() -> None:
    records = [*runs(3), done(7, 99.0), done(9, 1.0, **PCA), other(1, "failed", "why", method="x", group="c" * 10)]
    each = only(compare_methods(records, "pca", "random"))
    assert each.seeds == (0, 1, 2)
    assert each.means == pytest.approx((42.2, 40.1))
    assert each.result.mean == pytest.approx(2.1)
    assert each.result.p == 0.25


def test_the_sign_follows_the_order() -> None:
    one, two = (only(compare_methods(runs(), *names)).result for names in (("pca", "random"), ("random", "pca")))
    assert (one.mean, one.low, one.high) == pytest.approx((-two.mean, -(two.high or 0), -(two.low or 0)))
    assert one.p == two.p == 2 / 2**8


def test_every_shared_setting_is_a_comparison_and_filters_choose() -> None:
    wide: list[dict[str, Any]] = [{"ipc": 50}, {"arch": "resnet50"}, {"protocol": "hard-small"}]
    records = runs(2)
    for number, change in enumerate(wide):
        for method, top1 in (("random", 10.0), ("pca", 20.0)):
            label = {"method": method, "group": f"{method}{number}", **change}
            records += [done(seed, top1, **label) for seed in range(2)]
    assert len(compare_methods(records, "pca", "random")) == 4
    for change in wide:
        assert only(compare_methods(records, "pca", "random", **change)).means == (20.0, 10.0)


def test_the_best_epoch_is_compared_on_request_only() -> None:
    assert only(compare_methods(runs(), "pca", "random", epoch="best")).means[0] == pytest.approx(43.7)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="method 'pcb': not among these runs; did you mean 'pca'"):
        compare_methods(runs(), "pcb", "random")
    with pytest.raises(ConfigError, match="compared with itself"):
        compare_methods(runs(), "pca", "pca")
    apart = [done(0, 40.0), done(1, 42.0, **PCA)]
    with pytest.raises(ConfigError, match="share no finished seed"):
        compare_methods(apart, "pca", "random")
    with pytest.raises(
        ConfigError, match=r"no runs with ipc 11, arch vgg11; the store has ipc 10; protocol hard; arch"
    ):
        compare_methods(runs(), "pca", "random", ipc=11, arch="vgg11")


def test_the_text_says_what_few_seeds_cannot_show() -> None:
    text = comparison_table(compare_methods(runs(3), "pca", "random"), None)
    assert "pca 42.20, random 40.10, top-1 %, 3 paired seeds" in text
    assert "difference +2.10" in text
    assert "permutation p = 0.25 (3 seeds cannot give less than 0.25)" in text
    text = comparison_table(compare_methods(runs(EXACT_PAIRS + 1), "pca", "random"), None)
    assert "paired t test p = " in text
    assert "one seed gives no interval" in comparison_table(compare_methods(runs(1), "pca", "random"), None)


def test_settings_that_differ_in_the_machine_alone_have_titles_of_their_own() -> None:
    machines: list[dict[str, Any]] = [{"device": "cpu", "threads": 1}, {"device": "cuda", "threads": None}]
    records: list[Record] = []
    for number, machine in enumerate(machines):
        for method, top1 in (("random", 10.0), ("pca", 20.0)):
            records += [done(seed, top1, method=method, group=f"{method}{number}", **machine) for seed in range(2)]
    text = comparison_table(compare_methods(records, "pca", "random"), None)
    assert [paragraph.splitlines()[0] for paragraph in text.split("\n\n")] == [
        "tiny: hard, resnet18, fp32, 28 px, cpu with 1 thread, IPC 10",
        "tiny: hard, resnet18, fp32, 28 px, cuda, IPC 10",
    ]


def store_of(folder: Path, records: list[Record]) -> None:
    with Store(folder / "store.sqlite") as store:
        store.register(Planned(record.key, record.key, record.label) for record in records)
        for record in records:
            lease = store.claim(record.key)
            assert lease is not None
            store.finish(lease, "done", summary=record.summary)


def test_the_command_reads_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store_of(tmp_path, runs())
    assert cli.run(["compare", str(tmp_path), "pca", "random", "--format", "json", "--detect", "1"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["first"], found["second"], found["n"], found["seeds"]) == ("pca", "random", 8, list(range(8)))
    assert found["difference"] == pytest.approx(2.35)
    assert (found["p"], found["detect"], found["ipc"], found["arch"]) == (2 / 2**8, 1.0, 10, LABEL["arch"])
    assert found["seeds_needed"] >= 6
    assert cli.run(["compare", str(tmp_path), "pca", "random"]) == 0
    assert "tiny: hard, resnet18, fp32, 28 px, IPC 10" in capsys.readouterr().out
    assert cli.run(["compare", str(tmp_path), "pca", "randon"]) == 2
    assert "did you mean 'random'" in capsys.readouterr().err
