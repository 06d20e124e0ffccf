"""Rankings against their definition, counted by patterns; display of ties and missing seeds."""

import json
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdc.cli import main as cli
from fastdc.common.errors import ConfigError
from fastdc.report.comparable import choose_groups
from fastdc.report.ranking import Ranking, rank_methods, render_ranking
from fastdc.sweep.store.results import Record
from tests.report.test_report_compare import store_of
from tests.report.test_result_rows import done, other


def runs(scores: dict[str, list[float]], **label: object) -> list[Record]:
    return [done(seed, value, method=name, group=f"{name}{label}", **label)
            for name, values in scores.items() for seed, value in enumerate(values)]  # fmt: skip


def ranked(records: list[Record], **choice: Any) -> list[Ranking]:
    return rank_methods(choose_groups(records), **choice)


def only(rankings: list[Ranking]) -> Ranking:
    (ranking,) = rankings
    return ranking


def places_by_hand(scores: dict[str, list[int]]) -> dict[str, tuple[int, int]]:
    """Compute places from whole numbers, all sign patterns and Holm's steps; n = 1 has no test."""
    p: dict[tuple[str, str], float] = {}
    for first, second in combinations(scores, 2):
        differences = [a - b for a, b in zip(scores[first], scores[second], strict=True)]
        sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
                for signs in product((1, -1), repeat=len(differences))]  # fmt: skip
        p[first, second] = sum(value >= abs(sum(differences)) for value in sums) / len(sums)
    better: set[tuple[str, str]] = set()
    for step, pair in enumerate(sorted(p, key=p.__getitem__)):
        if p[pair] * (len(p) - step) >= 0.05:
            break
        better.add(pair if sum(scores[pair[0]]) > sum(scores[pair[1]]) else pair[::-1])
    return {name: (1 + sum(worse == name for _, worse in better), len(scores) - sum(best == name for best, _ in better))
            for name in scores}  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_places_equal_a_plain_reference(data: st.DataObject) -> None:
    n, k = data.draw(st.integers(1, 9)), data.draw(st.integers(2, 4))
    columns = data.draw(st.lists(st.lists(st.integers(0, 6), min_size=n, max_size=n), min_size=k, max_size=k))
    scores = {f"m{index}": [20 * index * data.draw(st.integers(0, 1)) + value for value in values]
              for index, values in enumerate(columns)}  # fmt: skip
    ranking = only(ranked(runs({name: [float(v) for v in values] for name, values in scores.items()})))
    found = {each.row.method: (each.first, each.last) for each in ranking.methods}
    assert found == places_by_hand(scores)
    means = [sum(scores[each.row.method]) / n for each in ranking.methods]
    assert [each.mean for each in ranking.methods] == pytest.approx(means)
    assert means == sorted(means, reverse=True)


EIGHT = {
    "pca": [48.0 + seed / 10 for seed in range(8)],
    "rded": [47.9 + (seed % 2) / 2 + seed / 10 for seed in range(8)],
    "random": [40.0 + seed / 10 for seed in range(8)],
}


def test_methods_without_a_significant_difference_share_places() -> None:
    ranking = only(ranked(runs(EIGHT)))
    assert [(each.row.method, each.first, each.last) for each in ranking.methods] == [
        ("rded", 1, 2), ("pca", 1, 2), ("random", 3, 3)]  # fmt: skip
    assert ranking.tests[1].p == 3 * 2 / 256
    text = render_ranking([ranking], "table").splitlines()
    assert text[0] == "tiny: hard, resnet18, fp32, 28 px, IPC 10"
    assert [line.split()[:2] for line in text[3:6]] == [["1-2", "rded"], ["1-2", "pca"], ["3", "random"]]
    assert "(exact two-sided permutation test on the pairs, Holm over 3)" in text[6]
    assert text[7] == "seeds: 0-7"


def test_equal_methods_share_all_places_in_the_order_of_their_names() -> None:
    ranking = only(ranked(runs({"b": [40.0] * 8, "a": [40.0] * 8})))
    assert [(each.row.method, each.first, each.last, each.p) for each in ranking.methods] == [
        ("a", 1, 2, None), ("b", 1, 2, 1.0)]  # fmt: skip


def test_seeds_without_spread_have_no_interval() -> None:
    lines = render_ranking(ranked(runs({"a": [30.0] * 2, "b": [40.0] * 2})), "table").splitlines()
    assert next(line for line in lines if " a " in line).split() == [
        "1-2",
        "a",
        "30.00",
        "-",
        "2",
        "-10.00",
        "-",
        "0.5",
    ]


def test_one_seed_ranks_by_the_mean_without_tests() -> None:
    ranking = only(ranked(runs({"a": [30.0], "b": [40.0]})))
    assert [(each.row.method, each.first, each.last, each.low, each.p) for each in ranking.methods] == [
        ("b", 1, 2, None, None), ("a", 1, 2, None, None)]  # fmt: skip
    assert ranking.claims == 0
    assert "one seed gives no interval and no test" in render_ranking([ranking], "table")


def test_too_few_seeds_for_many_methods_are_reported() -> None:
    scores = {f"m{index}": [10.0 * index + seed for seed in range(8)] for index in range(6)}
    ranking = only(ranked(runs(scores)))
    assert {(each.first, each.last) for each in ranking.methods} == {(1, 6)}  # 15 x 2 / 2^8 = 0.12
    text = render_ranking([ranking], "table")
    assert "8 seeds cannot separate any two of these methods; it takes 10, or fewer methods" in text
    fewer = only(ranked(runs(scores), methods=("m1", "m3", "m5")))
    assert [(each.row.method, each.first, each.last) for each in fewer.methods] == [
        ("m5", 1, 1), ("m3", 2, 2), ("m1", 3, 3)]  # fmt: skip


def test_means_are_over_the_seeds_that_all_finished() -> None:
    records = runs({"a": [30.0, 31.0, 99.0, 99.0], "b": [40.0, 41.0]})
    records += [other(2, "failed", "why", method="b", group="b{}")]
    ranking = only(ranked(records))
    assert ranking.seeds == (0, 1)
    assert [each.mean for each in ranking.methods] == [40.5, 30.5]
    assert "seeds common to all: 0-1; more were finished by: a 4" in render_ranking([ranking], "table")
    assert [each.finished for each in ranking.methods] == [(0, 1), (0, 1, 2, 3)]
    with pytest.raises(ConfigError, match="no setting has two methods with 3 or more finished seeds"):
        ranked(records, min_seeds=3)


def test_few_common_seeds_name_the_option_for_more() -> None:
    records = runs({**EIGHT, "late": [50.0, 51.0, 53.0]})
    text = render_ranking(ranked(records), "table")
    assert "--min-seeds 8 ranks the 3 methods that share 8 seeds" in text
    assert "--min-seeds" not in render_ranking(ranked(records, min_seeds=8), "table")
    several = runs({**EIGHT, "late": [50.0, 51.0, 53.0], "more": [*range(16)], "most": [*range(1, 17)]})
    assert "--min-seeds 8 ranks the 5 methods that share 8 seeds" in render_ranking(ranked(several), "table")
    near = runs({"a": [30.0, 31.0, 33.0], "b": [40.0, 42.0, 43.0], "late": [1.0, 2.0]})
    assert "--min-seeds" not in render_ranking(ranked(near), "table")  # 3 seeds instead of 2 are no gain


def test_a_single_run_does_not_reduce_the_seeds_of_others() -> None:
    records = runs({**EIGHT, "late": [99.0]})
    ranking = only(ranked(records))
    assert (ranking.seeds, ranking.left_out) == (tuple(range(8)), {"late": 1})
    assert "left out, for too few finished seeds: late 1" in render_ranking([ranking], "table")
    found = only(ranked(records, min_seeds=1))
    assert (found.seeds, found.methods[0].row.method) == ((0,), "late")


def test_each_setting_has_a_ranking_unless_it_has_one_method() -> None:
    records = runs({"a": [1.0, 2.0], "b": [2.0, 4.0]}) + runs({"b": [1.0, 2.0], "c": [2.0, 4.0]}, ipc=50)
    records += runs({"full": [80.0]}, ipc=None) + runs({"a": [1.0]}, arch="vgg11")
    rankings = ranked(records)
    assert [(each.row.ipc, [one.row.method for one in each.methods]) for each in rankings] == [
        (10, ["b", "a"]), (50, ["c", "b"])]  # fmt: skip
    assert [each.row.ipc for each in rank_methods(choose_groups(records, ipc=50))] == [50]
    with pytest.raises(ConfigError, match="method 'd': not among these runs"):
        ranked(records, methods=("d",))


def test_without_a_common_seed_there_is_no_ranking() -> None:
    apart = [done(0, 1.0, method="a", group="a"), done(1, 2.0, method="b", group="b")]
    with pytest.raises(
        ConfigError, match=r"no seed was finished by all .*IPC 10: b has seeds 1, a has seeds 0\); leave"
    ):
        ranked(apart)
    both = apart + runs({"a": [1.0], "b": [2.0]}, ipc=50)
    text = render_ranking(ranked(both), "table")
    assert "not ranked, because no seed was finished by all: b has seeds 1, a has seeds 0" in text


def test_the_output_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store_of(tmp_path, runs(EIGHT))
    assert cli.run(["rank", str(tmp_path), "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert [(each["method"], each["rank_first"], each["rank_last"]) for each in found["methods"]] == [
        ("rded", 1, 2), ("pca", 1, 2), ("random", 3, 3)]  # fmt: skip
    assert (found["seeds"], found["claims"], found["ipc"], len(found["pairs"])) == (list(range(8)), 3, 10, 3)
    assert found["pairs"][1]["p_holm"] == found["methods"][2]["p_holm"] == 3 * 2 / 256
    assert cli.run(["rank", str(tmp_path), "--format", "markdown", "--methods", "pca,random"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "**tiny: hard, resnet18, fp32, 28 px, IPC 10**"
    assert lines[4].startswith("| 1 | pca | 48.35 | 48.15 to 48.55 | 8 |")
    assert lines[5].startswith("| 2 | random | 40.35 |")
    assert {line.count("|") for line in lines[2:6]} == {9}
    assert cli.run(["rank", str(tmp_path), "--epoch", "best"]) == 0
    assert "IPC 10, best epoch of each run (overstated)" in capsys.readouterr().out
    assert cli.run(["rank", str(tmp_path / "nothing")]) == 2
