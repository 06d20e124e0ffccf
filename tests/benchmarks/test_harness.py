"""The harness: turns, number of workers, hanging contenders, and the reported numbers."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness.numbers import spread
from harness.process import ContenderError, ContenderProcess
from harness.race import Contender, Peer, Race
from harness.rows import csv_rows, summary_rows
from harness.run import Record, run_race

HERE = Path(__file__).resolve().parents[2]
MACHINE = {"cpu": "toy", "cpu_family_model": "1/2", "cores": 2, "memory_gb": 1, "kernel": "6", "gpu": "", "date": "now"}


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    return tmp_path / "diary"


def toy(name: str, diary: Path, kind: str = "Toy", workers: tuple[int, ...] = (1,), **more: Any) -> Contender:
    timeout = more.pop("timeout", 30.0)
    compiles = more.pop("compiles", False)
    arguments = {"name": name, "diary": str(diary), **more}
    environment = {"PYTHONPATH": os.pathsep.join((str(HERE / "benchmarks"), str(HERE)))}
    return Contender(name, f"tests.benchmarks.toys:{kind}", arguments, workers, environment, timeout, compiles=compiles)


def run(ours: Contender, *peers: Peer, repetitions: int = 3, **race: Any) -> tuple[Race, list[Record]]:
    made = Race("toy work", race.pop("unit", "things/s"), ours, peers, **race)
    return made, run_race(made, repetitions, lambda _: None)


def test_contenders_take_turns(diary: Path) -> None:
    sides = [toy(name, diary, seconds=0.1) for name in "ABC"]
    run(sides[0], Peer(sides[1]), Peer(sides[2]), repetitions=4)
    turns = [line.split()[0] for line in diary.read_text().splitlines()]
    assert turns == list("ABC") + list("ABC") * 4  # one warm-up of each, then turns


def test_the_fastest_number_of_workers_is_chosen_once(diary: Path) -> None:
    side = toy("A", diary, seconds=1.0, workers=(1, 2, 4), best=2, compiles=True)
    _, (record, _) = run(side, Peer(toy("B", diary, seconds=1.0)))
    assert record.workers == 2
    assert record.trials == pytest.approx({1: 5.0, 2: 10.0, 4: 10 / 3})
    lines = [line.split() for line in diary.read_text().splitlines() if line.startswith("A")]
    assert [line[1:] for line in lines[:6]] == [["0.25", count] for count in "112244"]
    assert [line[1:] for line in lines[6:]] == [["1", "2"]] * 4  # warm-up and three repetitions


def test_shorter_times_are_better(diary: Path) -> None:
    side = toy("A", diary, seconds=1.0, workers=(1, 2), best=2)
    race, records = run(side, Peer(toy("B", diary, seconds=3.0), 2), kind="time", scale=1e3, unit="ms", most=50)
    (row,) = summary_rows("toy", race, records, MACHINE)
    assert (records[0].workers, row["ours"], row["theirs"]) == (2, 100, 300)
    assert (row["ratio"], row["met"]) == (3, False)  # three times as fast, but above the 50 ms allowed


def test_a_hanging_contender_is_killed_with_its_children_and_the_others_continue(diary: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    other = tmp_path / "child"
    hanging = toy("H", other, "Hanging", timeout=1.5)
    race, records = run(toy("A", diary, seconds=0.1), Peer(hanging, 2), Peer(toy("B", diary, seconds=0.2), 2))
    assert time.monotonic() - start < 15
    assert records[1].failure == "repeat: no answer within 1.5 s, ended"
    rows = summary_rows("toy", race, records, MACHINE)
    assert [(row["ratio"], row["met"], row["n"]) for row in rows] == [(None, None, 0), (2, True, 3)]
    wait_for_end(int(other.read_text()))


def wait_for_end(pid: int) -> None:
    """Wait, because a killed process may linger until its new parent collects it."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} still runs")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("Failing", "repeat: ValueError: no such thing"),
        ("Dying", "repeat: its process ended with code 3; last words"),
        ("Missing", "prepare: AttributeError: module 'tests.benchmarks.toys' has no attribute 'Missing'"),
        ("Wrong", "check: 2 of 10 are wrong"),
    ],
)
def test_a_failure_has_its_reason(kind: str, message: str, diary: Path) -> None:
    race, records = run(toy("A", diary, seconds=0.1), Peer(toy("B", diary, kind, seconds=0.1), 2), repetitions=1)
    (row,) = summary_rows("toy", race, records, MACHINE)
    assert row["failed"] == {"ours": "", "theirs": message}


def test_a_failure_of_ours_meets_no_goal(diary: Path) -> None:
    race, records = run(toy("A", diary, "Wrong", seconds=0.1), Peer(toy("B", diary, seconds=0.9), 2), repetitions=2)
    (row,) = summary_rows("toy", race, records, MACHINE)
    assert (row["ratio"], row["met"]) == (9, False)


def test_cpu_time_and_memory_count_child_processes(diary: Path) -> None:
    process = ContenderProcess(toy("A", diary, "Busy", seconds=0.8))
    try:
        process.prepare(1)
        answer = process.repeat(sample_memory=True)
    finally:
        process.close()
    assert 0.8 <= answer["cpu"] < 2.2 * answer["wall"]
    assert process.peak_bytes > 120e6  # its own 64 MB and its child's


def test_a_closed_process_has_ended(diary: Path) -> None:
    process = ContenderProcess(toy("A", diary))
    process.prepare(1)
    process.close()
    with pytest.raises((ContenderError, ValueError)):
        process.repeat()
    wait_for_end(process.pid)


def test_spread() -> None:
    assert spread([5.0, 1.0, 2.0, 3.0, 4.0]) == [1, 2, 4, 5]
    assert spread([7.0]) == [7, 7, 7, 7]


def test_ratio_is_of_medians_and_its_spread_of_turns(diary: Path) -> None:
    race = Race("w", "x/s", toy("A", diary), (Peer(toy("B", diary), 2.0, "a wall", wall="B"),))
    answers = [{"count": 1, "seconds": 1, "wall": 1, "cpu": 1.5, "facts": {}}] * 3
    ours = Record(race.ours, 1, values=[10, 30, 20], repetitions=answers)
    theirs = Record(race.peers[0].contender, 1, values=[10, 10, 5], repetitions=answers)
    (row,) = summary_rows("toy", race, [ours, theirs], MACHINE)
    assert (row["ours"], row["theirs"], row["ratio"]) == (20, 10, 2)
    assert row["spread"] == [1, 4]
    assert (row["met"], row["n"], row["cpu_percent"]["ours"]) == (True, 3, 150)
    assert row["limit"] == "B would allow 1.00x; a wall"
    lines = csv_rows("toy", race, [ours, theirs], MACHINE)
    assert [(line["contender"], line["value"]) for line in lines[2:4]] == [("A", 20), ("B", 10)]


def test_contenders_of_one_name_share_a_trial(diary: Path) -> None:
    for turn in range(2):
        side = toy("A", diary, seconds=1.0, workers=(1, 2), best=2)
        named = replace(side, trial=f"toy {diary}")
        _, (record, _) = run(named, Peer(toy("B", diary, seconds=1.0)), repetitions=1)
        assert (record.workers, record.tried_in) == (2, "toy work, things/s")
        trials = [line for line in diary.read_text().splitlines() if line.startswith("A 0.25")]
        assert len(trials) == 2, f"race {turn}"
