"""Differences between the machine and software of two runs."""

from fastdc.sweep.bundle.same_machine import machine_changes


def test_commits_are_named_and_short() -> None:
    then, now = {"git": "02feffd4" + "0" * 32, "python": "3.11"}, {"git": "05775082" + "1" * 32, "python": "3.12"}
    assert machine_changes(then, now) == [
        "fastdc's commit 02feffd40000, now 057750821111",
        "python 3.11, now 3.12",
    ]
    dirty = {"git": "02feffd4" + "0" * 32 + "+changes"}
    assert machine_changes(dirty, now) == ["fastdc's commit 02feffd40000+changes, now 057750821111"]
