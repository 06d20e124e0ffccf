"""Names of modules in docstrings and comments are those of modules that exist."""

import ast
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "fastdc"
ROOMS = {path.name for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
QUOTED = re.compile(r"`([a-z_]\w*(?:\.[A-Za-z_]\w*)+)(?:\([^`]*\))?`")
OTHER = {"fastdc.json", "fastdc.KIND"}
"""A file, and the name of an entry point."""


@cache
def modules() -> dict[str, list[Path]]:
    """Return the files of each module and package, by every end of its dotted name: `rng`, `core.rng`, ..."""
    found = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        for start in range(len(parts)):
            found[".".join(parts[start:])].append(path)
    return found


@cache
def defined(path: Path) -> set[str]:
    """Return the names at the top level of a module; those of a package are also its files and lazy names."""
    names = {file.stem for file in path.parent.iterdir()} if path.stem == "__init__" else set()
    stub = path.with_suffix(".pyi")
    for node in [*ast.parse(path.read_text()).body, *(ast.parse(stub.read_text()).body if stub.exists() else ())]:
        for child in ast.walk(node) if not isinstance(node, ast.FunctionDef | ast.ClassDef) else [node]:
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                names.add(child.name)
            elif isinstance(child, ast.alias):
                names.add((child.asname or child.name).partition(".")[0])
            elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                names.add(child.id)
    return names


def exists(name: str) -> bool:
    """Return whether a dotted name is a module, or the longest module that it begins with has its next part."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        files = modules().get(".".join(parts[:end]), [])
        if files:
            return end == len(parts) or any(parts[end] in defined(path) for path in files)
    return False


def texts(path: Path) -> Iterator[str]:
    """Yield the strings and comments of a module."""
    with tokenize.open(path) as handle:
        for token in tokenize.generate_tokens(handle.readline):
            if token.type in (tokenize.COMMENT, tokenize.STRING):
                yield token.string


@pytest.mark.parametrize("room", sorted(ROOMS - {"__pycache__"}))
def test_modules_that_docstrings_name_exist(room: str) -> None:
    files = [PACKAGE / room] if room.endswith(".py") else sorted((PACKAGE / room).rglob("*.py"))
    wrong = []
    for path in files:
        for text in texts(path):
            named = [name for name in QUOTED.findall(text) if name.split(".")[0] in {"fastdc", *ROOMS}]
            unknown = [name for name in named if name not in OTHER and not exists(name)]
            wrong += [f"{path.relative_to(PACKAGE)}: {name}" for name in unknown]
    assert not wrong


def test_a_name_of_no_module_is_found() -> None:
    assert exists("kernels.jpeg.streaming")
    assert exists("fastdc.kernels.core.rng.draw_bits")
    assert not exists("kernels.batches")
    assert not exists("fastdc.common.precision.IMAGENET_MEAN")
