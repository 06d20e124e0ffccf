"""`fastdc compare`: the pairing of runs, and the output."""

import json
from pathlib import Path
from typing import Any

import pytest

from fastdc.cli import main as cli
from fastdc.common.errors import ConfigError
from fastdc.report.comparable import Epoch, choose_groups
from fastdc.report.compare import Comparison, compare_against, compare_pairs, comparison_json, comparison_table
from fastdc.report.paired_tests import EXACT_PAIRS
from fastdc.sweep.store.results import Record, Store
from fastdc.sweep.store.transitions import Planned
from tests.report.test_result_rows import LABEL, done, other

PCA = {"method": "pca", "group": "bbbbbbbbbb"}


def runs(count: int = 8) -> list[Record]:
    return [*(done(seed, 40.0 + seed / 10) for seed in range(count)),
            *(done(seed, 42.0 + seed / 5, **PCA) for seed in range(count))]  # fmt: skip


def compare_methods(
    records: list[Record], first: str, second: str, epoch: Epoch = "last", **setting: Any
) -> list[Comparison]:
    return compare_pairs(choose_groups(records, **setting), [(first, second)], epoch)


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


def test_every_shared_setting_is_compared_unless_filtered() -> None:
    wide: list[dict[str, Any]] = [{"ipc": 50}, {"arch": "resnet50"}, {"protocol": "hard-small"}]
    wide += [{"augment": "protocol"}, {"precision": "bf16"}, {"image_size": 64}]
    records = runs(2)
    for number, change in enumerate(wide):
        for method, top1 in (("random", 10.0), ("pca", 20.0)):
            label = {"method": method, "group": f"{method}{number}", **change}
            records += [done(seed, top1, **label) for seed in range(2)]
    assert len(compare_methods(records, "pca", "random")) == 7
    for change in wide:
        assert only(compare_methods(records, "pca", "random", **change)).means == (20.0, 10.0)


def test_the_best_epoch_is_compared_on_request_only() -> None:
    assert only(compare_methods(runs(), "pca", "random", epoch="best")).means[0] == pytest.approx(43.7)


def test_names_are_those_of_the_table() -> None:
    records = [done(0, 40.0), done(0, 50.0, method="mine", group="m" * 10, external="list kept.txt")]
    assert only(compare_methods(records, "mine (external)", "random")).first.method == "mine"
    assert only(compare_against(choose_groups(records), "random", ["mine (external)"])[0]).first.method == "mine"


def test_a_name_without_settings_is_the_only_variant(capsys: pytest.CaptureFixture[str]) -> None:
    records = [done(0, 40.0), *(done(0, 50.0, method=f"el2n[last_epoch=4]{end}", group=end) for end in ("", "@two"))]
    assert only(compare_methods(records, "el2n", "random")).first.method == "el2n[last_epoch=4]"
    assert "note: 'el2n' is 'el2n[last_epoch=4]' here, its only variant" in capsys.readouterr().err
    assert only(compare_methods(records, "el2n@two", "random")).first.method == "el2n[last_epoch=4]@two"
    records += [done(0, 50.0, method="el2n[keep=hard]", group="h" * 10)]
    with pytest.raises(ConfigError, match=r"method 'el2n': not among these runs; did you mean 'el2n\[keep=hard\]' or"):
        compare_methods(records, "el2n", "random")


def cropped() -> list[Record]:
    """Return two methods under both crops; hints off costs pca 3 points."""
    off = [done(seed, top1 + seed / 10, method=method, group=f"{method}off", augment="protocol")
           for method, top1 in (("pca", 39.0), ("random", 40.0)) for seed in range(3)]  # fmt: skip
    return [*(done(seed, 42.0 + seed / 10, **PCA) for seed in range(3)), *runs(3)[:3], *off]


def test_a_method_is_compared_with_itself_across_a_setting() -> None:
    for pair in (("pca@augment=protocol", "pca"), ("pca@augment=protocol", "pca@augment=method")):
        each = only(compare_methods(cropped(), *pair))
        assert (each.first.augment, each.second.augment, each.result.mean) == ("protocol", "method", pytest.approx(-3))
    text = comparison_table([each], None).splitlines()
    assert text[0] == "tiny: hard, resnet18, fp32, 28 px, hints off (augment=protocol), IPC 10"
    assert text[1] == "pca@augment=protocol 39.10, pca@augment=method 42.10, top-1 %, 3 paired seeds"
    (data,) = json.loads(comparison_json([each], None))
    assert (data["augment"], data["second_setting"]) == ("protocol", {"augment": "method"})
    assert "second_setting" not in json.loads(comparison_json(compare_methods(cropped(), "pca", "random"), None))[0]


def test_methods_are_contrasted_only_where_both_name_the_setting() -> None:
    each = only(compare_methods(cropped(), "pca@augment=protocol", "random"))
    assert (each.first.augment, each.second.augment, each.differ) == ("protocol", "protocol", ())
    each = only(compare_methods(cropped(), "pca@augment=method", "random@augment=protocol"))
    assert (each.first.augment, each.second.augment) == ("method", "protocol")
    found, _ = compare_against(choose_groups(cropped()), "pca@augment=protocol")
    assert [(each.first.method, each.first.augment) for each in found] == [("random", "protocol")]
    each = only(compare_against(choose_groups(cropped()), "pca@augment=protocol", ["pca"])[0])
    assert each.result.mean == pytest.approx(3)
    fifty = [done(seed, 60.0, ipc=50, method="pca", group="p50") for seed in range(3)]
    assert only(compare_methods(cropped() + fifty, "pca@ipc=50", "pca@ipc=10@augment=method")).differ == ("ipc",)
    sized = [done(0, 50.0, image_size=64, method="pca", group="p64")]
    assert only(compare_methods(cropped() + sized, "pca@image-size=64", "pca")).first.image_size == 64


def test_a_contrast_without_runs_is_refused() -> None:
    with pytest.raises(ConfigError, match="'pca@augment=tile:2': no such runs; 'pca' has augment method, protocol"):
        compare_methods(cropped(), "pca@augment=tile:2", "pca")
    with pytest.raises(ConfigError, match="compared with itself; name two methods, or two values of a setting"):
        compare_methods(cropped(), "pca@augment=protocol", "pca@augment=protocol")


def test_incomparable_runs_are_refused() -> None:
    with pytest.raises(ConfigError, match="method 'pcb': not among these runs; did you mean 'pca'"):
        compare_methods(runs(), "pcb", "random")
    with pytest.raises(ConfigError, match="compared with itself"):
        compare_methods(runs(), "pca", "pca")
    with pytest.raises(ConfigError, match="'random' is compared with itself"):
        compare_against(choose_groups(runs()), "random", ["pca", "random"])
    apart = [done(0, 40.0), done(1, 42.0, **PCA)]
    with pytest.raises(ConfigError, match="share no finished seed"):
        compare_methods(apart, "pca", "random")
    with pytest.raises(
        ConfigError, match=r"no runs with ipc 11, arch vgg11; the store has ipc 10; protocol hard; arch"
    ):
        compare_methods(runs(), "pca", "random", ipc=11, arch="vgg11")
    with pytest.raises(ConfigError, match=r"no runs with augment none; the store has .*; augment method"):
        compare_methods(runs(), "pca", "random", augment="none")


def test_a_refusal_names_what_is_missing() -> None:
    apart = [done(0, 40.0), done(1, 40.0), done(4, 42.0, **PCA)]
    with pytest.raises(ConfigError, match=r"tiny: hard, .*, IPC 10: pca finished seeds 4, random seeds 0-1; run both"):
        compare_methods(apart, "pca", "random")
    with pytest.raises(ConfigError, match="pca finished seeds 4, random none;"):
        compare_methods([other(0, "failed", "why"), done(4, 42.0, **PCA)], "pca", "random")
    shorter = [done(0, 40.0, protocol="hard*epochs=30", ipc=None, method="full"), done(0, 42.0, **PCA)]
    with pytest.raises(ConfigError, match=r"they were run with protocol hard\*epochs=30 and hard; run both"):
        compare_methods(shorter, "full", "pca")
    with pytest.raises(ConfigError, match="they were run with IPC 10 and IPC 50; run both"):
        compare_methods([done(0, 40.0), done(0, 40.0, ipc=50, **PCA)], "random", "pca")
    several = [done(0, 40.0, arch=arch, group=arch) for arch in ("a", "b")]  # two rows of IPC 10
    more = [done(0, 40.0, arch=arch, ipc=50, **{**PCA, "group": f"p{arch}"}) for arch in ("a", "b")]
    with pytest.raises(ConfigError, match="they were run with IPC 10 and IPC 50; run both"):
        compare_methods([*several, *more], "random", "pca")
    crossed = {"a": "hard", "b": "soft"}
    whole = [
        done(0, 1.0, arch=arch, protocol=crossed[arch], ipc=None, method="full", group=f"f{arch}") for arch in crossed
    ]
    swapped = [done(0, 1.0, arch=a, protocol=crossed[b], **{**PCA, "group": a}) for a, b in ("ab", "ba")]
    with pytest.raises(ConfigError, match="they were run with all images and IPC 10; run both"):
        compare_methods([*whole, *swapped], "full", "pca")


def test_the_whole_set_is_compared_at_every_ipc() -> None:
    whole = [done(seed, 80.0 + seed, ipc=None, method="full", group="f") for seed in range(3)]
    records = [*runs(3), *(done(seed, 60.0, ipc=50, method="pca", group="p50") for seed in range(2)), *whole]
    found = compare_methods(records, "full", "pca")
    assert [(each.ipc, each.first.ipc, each.second.ipc, each.seeds) for each in found] == [
        (10, None, 10, (0, 1, 2)),
        (50, None, 50, (0, 1)),
    ]
    assert found[1].result.mean == pytest.approx(20.5)
    turned = only(compare_methods(records, "pca", "full", ipc=50))
    assert (turned.ipc, turned.result.mean) == (50, pytest.approx(-20.5))
    text = comparison_table([turned], None)
    assert text.splitlines()[0] == "tiny: hard, resnet18, fp32, 28 px, IPC 50 against all images"
    assert only(compare_methods(records, "pca", "random", ipc=10)).ipc == 10
    with pytest.raises(ConfigError, match="no runs with ipc 11"):
        compare_methods(records, "full", "pca", ipc=11)


def four_methods() -> list[Record]:
    """Return four methods: pca is above random in each of 8 seeds, rded in 7; x has a single seed."""
    rded = [done(seed, 41.0 + seed / 10 - 2 * (seed == 3), method="rded", group="r") for seed in range(8)]
    return [*runs(), *rded, done(0, 1.0, method="x", group="x"), done(9, 1.0, method="y", group="y")]


def test_several_pairs_are_one_family_of_claims() -> None:
    pairs = [("pca", "random"), ("rded", "random"), ("pca", "rded"), ("pca", "x"), ("pca", "random")]
    found = compare_pairs(choose_groups(four_methods()), pairs)
    assert [(each.first.method, each.second.method) for each in found] == pairs[:4]
    p = [each.result.p for each in found]
    # Seven differences of 1 and one of -1: sums of at least 6 either way, 2 x (1 + 8) of 256 patterns.
    assert p == [2 / 256, 18 / 256, 2 / 256, None]
    # Holm by hand: 3 x 2/256, then 2 x 2/256 (not below the first), then 1 x 18/256.
    assert [each.p_holm for each in found] == [6 / 256, 18 / 256, 6 / 256, None]
    text = comparison_table(found, None)
    assert text.count("permutation p = 0.00781, Holm over 3 tests p = 0.0234") == 2
    assert "one seed gives no interval and no test" in text
    assert "Holm" not in comparison_table(compare_methods(four_methods(), "pca", "random"), None)


def test_all_methods_against_one() -> None:
    found, lost = compare_against(choose_groups(four_methods()), "random")
    assert [each.first.method for each in found] == ["pca", "rded", "x"]
    assert {each.second.method for each in found} == {"random"}
    assert lost == ["y"]
    found, lost = compare_against(choose_groups(four_methods()), "random", ["rded", "rded"])
    assert ([each.first.method for each in found], lost) == (["rded"], [])
    with pytest.raises(ConfigError, match="'y' and 'random' share no finished seed"):
        compare_against(choose_groups(four_methods()), "random", ["pca", "y"])
    with pytest.raises(ConfigError, match="method 'z': not among these runs"):
        compare_against(choose_groups(four_methods()), "random", ["z"])
    with pytest.raises(ConfigError, match="'y' shares no finished seed with any other method"):
        compare_against(choose_groups(four_methods()), "y")


def test_the_text_gives_the_seeds_that_the_claims_need() -> None:
    names = [f"m{number}" for number in range(9)]
    records = [done(seed, 30.0 + number + seed / 7, method=name, group=name) for number, name in enumerate(names)
               for seed in range(7)]  # fmt: skip
    found, _ = compare_against(choose_groups(records), "m0")
    assert {each.p_holm for each in found} == {8 * 2 / 128}
    assert comparison_table(found, None).endswith(
        "7 seeds cannot make any of 8 tests significant at 5 % after Holm; it takes 9, or fewer tests"
    )  # 8 x 2 / 2^8 = 0.0625, 8 x 2 / 2^9 = 0.031
    assert "cannot make any" not in comparison_table(found[:2], None)


def test_the_text_gives_the_limit_of_few_seeds() -> None:
    text = comparison_table(compare_methods(runs(3), "pca", "random"), None)
    assert "pca 42.20, random 40.10, top-1 %, 3 paired seeds" in text
    assert "difference +2.10" in text
    assert "permutation p = 0.25 (3 seeds cannot give less than 0.25)" in text
    text = comparison_table(compare_methods(runs(EXACT_PAIRS + 1), "pca", "random"), None)
    assert "paired t test p = " in text
    assert "one seed gives no interval" in comparison_table(compare_methods(runs(1), "pca", "random"), None)


def test_seeds_without_spread_give_no_interval() -> None:
    records = [*(done(seed, 40.0) for seed in range(2)), *(done(seed, 42.0, **PCA) for seed in range(2))]
    text = comparison_table(compare_methods(records, "pca", "random"), None)
    assert "difference +2.00, no spread over 2 seeds, so no interval, permutation p = 0.5" in text


def test_settings_that_differ_only_in_the_machine_have_their_own_titles() -> None:
    machines: list[dict[str, Any]] = [{"device": "cpu", "threads": 1}, {"device": "cuda", "threads": None}]
    records: list[Record] = []
    for number, machine in enumerate(machines):
        for method, top1 in (("random", 10.0), ("pca", 20.0)):
            records += [done(seed, top1, method=method, group=f"{method}{number}", **machine) for seed in range(2)]
    text = comparison_table(compare_methods(records, "pca", "random"), None)
    assert [paragraph.splitlines()[0] for paragraph in text.split("\n\n")[:2]] == [
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
    assert cli.run(["compare", str(tmp_path), "--all-against", "random"]) == 0
    assert "pca 42.70, random 40.35" in capsys.readouterr().out
    assert cli.run(["compare", str(tmp_path), "pca", "random", "--epoch", "best"]) == 0
    assert "IPC 10, best epoch of each run (overstated)\npca 43.70, random 41.35" in capsys.readouterr().out
    for option, value in (("--augment", "none"), ("--precision", "bf16"), ("--image-size", "64")):
        for command in (["compare", str(tmp_path), "pca", "random"], ["rank", str(tmp_path)]):
            assert cli.run([*command, option, value]) == 2
            assert f"no runs with {option[2:].replace('-', '_')} {value}; the store has" in capsys.readouterr().err
    for names in ([], ["pca"], ["pca", "random", "pca"]):
        assert cli.run(["compare", str(tmp_path), *names]) == 2
        assert "expected pairs A B [C D ...], or --all-against METHOD" in capsys.readouterr().err
