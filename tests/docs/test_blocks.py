"""README and documentation: commands and examples run, links and paths exist."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastdc
from tests.docs.blocks import RUN, Block, read_blocks

ROOT = Path(__file__).parents[2]
GENERATED = {"methods", "generated"}
"""Folders of docs/ that `make docs` writes."""
PAGES = [
    ROOT / "README.md",
    ROOT / "artifacts" / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if not GENERATED & set(page.relative_to(ROOT).parts)),
]
COPIED = ("artifacts", "configs", "writers", "examples", "scripts", "benchmarks")
"""Folders of the repository that pages name, as they would lie in a clone."""
NOT_RUN = ("text", "yaml", "toml", "json", "bibtex", "console")
TOP = "artifacts|benchmarks|configs|docs|examples|fastdc|scripts|tests|writers"
SECONDS = 900


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    return list(read_blocks(page.read_text()))


def outside_blocks(page: Path) -> str:
    return re.sub(r"^(```+).*?^\1[ \t]*$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", outside_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def problems_of_links(page: Path) -> list[str]:
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", outside_blocks(page)):
        file, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        linked = (page.parent / file).resolve() if file else page
        if not linked.exists():
            found.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(linked):
            found.append(f"{target}: no such heading")
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_has_a_language_and_is_run_or_has_a_reason(page: Path) -> None:
    for block in blocks(page):
        known = block.language in (*RUN, *NOT_RUN) or block.language.startswith("{")
        assert known, f"{name(page)}:{block.line}: a fence of language '{block.language}'"
        assert not block.reason or block.language in RUN, f"{name(page)}:{block.line}: runs in no case"
    text = page.read_text()
    directed = sum(bool(block.reason or block.file) for block in blocks(page))
    assert len(re.findall(r"^<!-- (?:not run|file):", text, re.MULTILINE)) == directed, "a comment without its block"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_target_exists(page: Path) -> None:
    assert problems_of_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_path_of_the_repository_exists(page: Path) -> None:
    paths = re.findall(rf"(?<![\w/.@-])(?:{TOP})/[\w./-]*\w", page.read_text())
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_has_one_title(page: Path) -> None:
    assert len(re.findall(r"^# ", outside_blocks(page), re.MULTILINE)) == 1


def test_the_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 125


def test_the_readme_lists_every_method() -> None:
    section = (ROOT / "README.md").read_text().partition("\n## Methods\n")[2].partition("\n## ")[0]
    named = [found for line in section.splitlines() if line.startswith("|") for found in re.findall(r"`(\w+)`", line)]
    assert sorted(named) == sorted(fastdc.all_methods())


def test_blocks_are_read_with_their_directives() -> None:
    text = (
        "a\n\n```shell\nls\n```\n<!-- not run: needs x -->\n\n```shell\nx\n```\n<!-- setup:\ncd\n-->\n"
        "<!-- file: a.yaml -->\n```yaml\nb: 1\n```\n<!-- not run: far away -->\ntext\n```python\ny\n```\n"
    )
    assert list(read_blocks(text)) == [
        Block(4, "shell", "ls\n"),
        Block(9, "shell", "x\n", reason="needs x"),
        Block(12, "shell", "cd\n"),
        Block(16, "yaml", "b: 1\n", file="a.yaml"),
        Block(21, "python", "y\n"),
    ]
    assert [block.runs for block in read_blocks(text)] == [True, False, True, False, True]


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("page", [page for page in PAGES if any(block.runs for block in blocks(page))], ids=name)
def test_a_page_runs(page: Path, tmp_path: Path) -> None:
    for folder in COPIED:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    command = tmp_path / "bin" / "fastdc"  # this checkout's, whatever is installed
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fastdc "$@"\n')
    command.chmod(0o755)
    path = os.pathsep.join([str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    ran = subprocess.run(
        [sys.executable, "-m", "tests.docs.blocks", str(page)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "PYTHONPATH": python_path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    print(ran.stdout)
    assert ran.returncode == 0
