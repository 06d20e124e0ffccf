"""Compare recorded values with the golden ones, and say what differs."""

import difflib
import json
from pathlib import Path
from typing import Any

VALUES = Path(__file__).parent / "values"
SHOWN_LINES = 80
ADVICE = """
Scripts, stores and published results of others rely on these values. A rebuild must not change them: mend the code.
Where a change is meant, raise the version of the method, protocol or constant concerned, name the change in
CHANGELOG.md, and record the values again: python -m tests.golden.write {group}
What is only added (lines with + alone: a new method, option or name) is recorded in the commit that adds it.
"""


def path_of(group: str) -> Path:
    """Return the file of a group's golden values."""
    return VALUES / f"{group}.json"


def load(group: str) -> dict[str, Any]:
    """Return a group's golden values by section."""
    found: dict[str, Any] = json.loads(path_of(group).read_text())
    return found


def dump(values: Any) -> str:
    """Return values as text, a line for each, so that differences can be read."""
    return json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def difference(golden: Any, found: Any) -> list[str]:
    """Return the lines that differ, `-` golden and `+` found, with the names that they stand under."""
    before, now = (dump(values).splitlines() for values in (golden, found))
    return list(difflib.unified_diff(before, now, "golden", "found", lineterm=""))


def message(group: str, section: str, changed: list[str]) -> str:
    """Return what a failing test prints."""
    left = len(changed) - SHOWN_LINES
    more = [f"... and {left} lines more"] if left > 0 else []
    return "\n".join([f"{group}: {section} changed:", *changed[:SHOWN_LINES], *more, ADVICE.format(group=group)])
