"""Nothing that others rely on changes unnoticed: keys, bytes, digits, commands, files, names.

The values lie in `values/`; `python -m tests.golden.write` records them again. Each group is recorded in a process of
its own (`record.py`).
"""

import ast
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import fastdc
from tests.golden import golden
from tests.golden.record import GROUPS, ROOT, cpu, missing_kernels, start, values

HERE = Path(__file__).parent
SECTIONS = [(group, section) for group in GROUPS for section in golden.load(group)]
COMPUTED = ("betons", "subsets", "trainings", "evaluate", "scores", "recorded with")
"""Sections whose values depend on the versions of libraries, and on the processor's kernels."""


class Recordings:
    """The groups of values, recorded side by side from the first use on."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.found = folder, dict[str, dict[str, Any]]()
        self.processes = {group: start(group, folder / group) for group in GROUPS}

    def of(self, group: str) -> dict[str, Any]:
        """Return the values of a group by section."""
        if group not in self.found:
            self.found[group] = values(self.processes[group], self.folder / group)
        return self.found[group]

    def close(self) -> None:
        """End what still runs and remove its files."""
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recordings]:
    """The present values of all groups."""
    found = Recordings(tmp_path_factory.mktemp("golden"))
    yield found
    found.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("group", "section"), SECTIONS)
def test_golden_values(group: str, section: str, recordings: Recordings) -> None:
    reason = other_libraries() if section in COMPUTED else None
    if reason is not None:
        pytest.skip(reason)
    changed = golden.difference(golden.load(group)[section], recordings.of(group).get(section))
    reason = other_processor() if section in COMPUTED else None
    if changed and reason is not None:
        pytest.skip(reason)
    if changed:
        pytest.fail(golden.message(group, section, changed), pytrace=False)


def recorded_versions() -> dict[str, str]:
    """Return the versions of the libraries that golden digits were computed with."""
    return {name: found for name, found in golden.load("made")["recorded with"].items() if name != "cpu"}


def other_libraries() -> str | None:
    """Return why digits cannot be compared here; None where they can."""
    if (lacking := missing_kernels()) is not None:
        return f"golden digits are recorded with AVX2 kernels: {lacking}"
    installed = {name: version(name).partition("+")[0] for name in recorded_versions()}
    others = [f"{name} {found}" for name, found in installed.items() if found != recorded_versions()[name]]
    return f"golden digits are of the versions in constraints.txt, found {', '.join(others)}" if others else None


def other_processor() -> str | None:
    """Return the reason that digits may differ on this processor; None on the one that recorded them."""
    known = golden.load("made")["recorded with"]["cpu"]
    if cpu() == known:
        return None
    return f"digits differ from those of {known}, this is {cpu()}: compare with those of the commit before on this one"


def test_golden_digits_are_of_the_pinned_versions() -> None:
    """Otherwise an upgrade in constraints.txt would turn every comparison into a skip."""
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    advice = "constraints.txt was changed; record digits with its versions: python -m tests.golden.write made"
    assert recorded_versions() == {name: pins[name].split(";")[0].strip() for name in recorded_versions()}, advice


def test_stores_of_earlier_releases_are_found_done() -> None:
    """What is run again on purpose is taken out of the release's grid, with the reason."""
    for release, found in golden.load("stores").items():
        assert (found["exit code"], found["changed by the sweep"]) == (0, []), f"stores/{release}.yaml"
    assert {"0.1.0", "0.2.0"} <= set(golden.load("stores"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("group", GROUPS)
def test_every_section_has_golden_values(group: str, recordings: Recordings) -> None:
    assert sorted(recordings.of(group)) == sorted(golden.load(group))


def test_golden_tests_import_only_what_stays_where_it_is() -> None:
    allowed = {"fastdc", "fastdc.methods", *(f"fastdc.{name}" for name in fastdc.__all__)}
    for path in HERE.glob("*.py"):
        found = {name for node in ast.walk(ast.parse(path.read_text())) for name in imported(node)}
        assert {name for name in found if name.split(".")[0] == "fastdc"} <= allowed, path.name


def imported(node: ast.AST) -> list[str]:
    """Return the names that a statement imports, with their modules."""
    if isinstance(node, ast.Import):
        return [item.name for item in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{item.name}" for item in node.names]
    return []


def test_a_difference_is_shown_with_what_to_do() -> None:
    changed = golden.difference({"cell": {"key": "1f"}}, {"cell": {"key": "2f"}})
    text = golden.message("keys", "methods", changed)
    assert all(line in text.splitlines() for line in ('-  "key": "1f"', '+  "key": "2f"'))
    assert "raise the version" in text
    assert "python -m tests.golden.write keys" in text
    assert golden.difference({"a": 1, "b": [1.5]}, {"b": [1.5], "a": 1}) == []
