"""Measure the structure of a package: rooms, arrows between them, circles, files, functions, comments.

    python scripts/structure.py [FOLDER] [--arrows] [--json]

A room is a folder or a file directly under FOLDER (default: fastdc). An arrow is an import of one room by another,
including imports inside functions and for type checkers. A circle is a set of rooms, or of files of one room, that
import each other. The script parses the measured code without importing it.
"""

import argparse
import ast
import io
import json
import tokenize
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

Arrows = Mapping[str, set[str]]
"""Imports of each room or file."""
LONG_FILE, LONG_FUNCTION = 300, 60


def measure(folder: Path) -> dict[str, Any]:
    """Return the figures of a package, by name."""
    trees = {path: ast.parse(path.read_text()) for path in sorted(folder.rglob("*.py"))}
    names = {module_name(path, folder): path for path in trees}
    files = {name: imports(trees[path], name, path, names) for name, path in names.items()}
    rooms = joined(files)
    lines = {path: path.read_text().count("\n") for path in trees}
    functions = [node.end_lineno - node.lineno + 1 for tree in trees.values() for node in functions_of(tree)]
    total = sum(lines.values())
    comments = sum(comment_count(path) for path in trees)
    stems = Counter(path.stem for path in trees if path.stem != "__init__")
    return {
        "rooms": len(rooms),
        "arrows": sum(map(len, rooms.values())),
        "circles of rooms": circles(rooms),
        "circles of files in a room": circles(within_rooms(files)),
        "files": len(trees),
        "files of one name": {stem: count for stem, count in sorted(stems.items()) if count > 1},
        "lines": total,
        f"files over {LONG_FILE} lines": sum(count > LONG_FILE for count in lines.values()),
        "longest file": max(lines.values()),
        "functions": len(functions),
        "median lines of a function": median(functions),
        f"functions over {LONG_FUNCTION} lines": sum(count > LONG_FUNCTION for count in functions),
        "longest function": max(functions),
        "comments per 100 lines": round(100 * comments / total, 2),
        "arrows by room": {room: sorted(found) for room, found in sorted(rooms.items())},
    }


def module_name(path: Path, folder: Path) -> str:
    """Return the dotted module name of a file: fastdc.beton.format, fastdc.beton."""
    parts = path.relative_to(folder.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.Module, name: str, path: Path, names: Mapping[str, Path]) -> set[str]:
    """Return the modules of the package that a file imports, except itself."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    wanted: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted += [item.name for item in node.names]
        elif isinstance(node, ast.ImportFrom):
            # Level 1 of a relative import is the file's own package, each further level one above.
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, node.module] if node.module else above)
            wanted += [f"{base}.{item.name}" for item in node.names]
    found = {known for each in wanted if (known := nearest(each, names)) is not None}
    return found - {name}


def nearest(wanted: str, names: Mapping[str, Path]) -> str | None:
    """Return the module of `wanted`, which is a module or a name in one; None for other packages."""
    if wanted in names:
        return wanted
    head = wanted.rpartition(".")[0]
    return head if head in names else None


def room_of(name: str) -> str:
    """Return the room of a module; the package's own `__init__` is a room too."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def joined(files: Arrows) -> dict[str, set[str]]:
    """Return the arrows between rooms."""
    rooms: dict[str, set[str]] = {room_of(name): set() for name in files}
    for name, found in files.items():
        rooms[room_of(name)] |= {room_of(other) for other in found} - {room_of(name)}
    return rooms


def within_rooms(files: Arrows) -> dict[str, set[str]]:
    """Return the arrows between files of one room."""
    return {name: {other for other in found if room_of(other) == room_of(name)} for name, found in files.items()}


def circles(arrows: Arrows) -> list[list[str]]:
    """Return the sets of two or more members that reach each other, largest first."""
    reached = {name: reachable(name, arrows) for name in arrows}
    groups = {tuple(sorted(other for other in reached[name] if name in reached[other])) for name in arrows}
    return sorted((list(group) for group in groups if len(group) > 1), key=lambda group: (-len(group), group))


def reachable(start: str, arrows: Arrows) -> set[str]:
    """Return everything that `start` imports, directly or indirectly."""
    found: set[str] = set()
    left = [start]
    while left:
        new = arrows.get(left.pop(), set()) - found
        found |= new
        left += new
    return found


def functions_of(tree: ast.Module) -> Iterable[Any]:
    """Yield the functions and methods of a file."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def comment_count(path: Path) -> int:
    """Return the number of comments in a file."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    return sum(token.type == tokenize.COMMENT for token in tokens)


def show(figures: Mapping[str, Any], arrows: bool) -> Iterable[str]:
    """Yield the figures as lines of text."""
    for name, value in figures.items():
        if name == "arrows by room":
            continue
        if isinstance(value, list):
            yield f"{name:<28} {len(value)}"
            yield from (f"  {' <-> '.join(circle)}" for circle in value)
        elif isinstance(value, dict):
            yield f"{name:<28} {', '.join(f'{stem} {count}' for stem, count in value.items())}"
        else:
            yield f"{name:<28} {value:,}"
    if arrows:
        yield from (f"  {room} -> {' '.join(found)}" for room, found in figures["arrows by room"].items())


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("fastdc"))
    parser.add_argument("--arrows", action="store_true", help="also every arrow")
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    given = parser.parse_args()
    figures = measure(given.folder.resolve())
    print(json.dumps(figures, indent=1) if given.json else "\n".join(show(figures, given.arrows)))


if __name__ == "__main__":
    main()
