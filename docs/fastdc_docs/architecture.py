"""Generate the drawing of the data flow and the table of packages, from import-linter's layers and the docstrings."""

import ast
import tomllib
from pathlib import Path

from fastdc_docs.settings_table import table

ROOT = Path(__file__).parents[2]
FLOW = (
    ("beton", "images, manifest"),
    ("loader", "batches"),
    ("nn", "networks"),
    ("observe", "dynamics log"),
    ("teachers", "frozen networks"),
    ("methods", "compressed set"),
    ("subsets", "subset's beton"),
    ("train", "accuracy"),
    ("sweep", "result rows"),
    ("report", ""),
)
"""The packages that data passes through, each with what it passes on; `layers` has the same order."""
WIDTH, HEIGHT, GAP, DROP, PER_ROW = 120, 44, 60, 60, 4


def architecture_pages() -> dict[str, str]:
    """Return the generated parts of the page on architecture, by path below `docs`."""
    return {"generated/packages.txt": "\n".join(package_table()) + "\n", "generated/flow.html": drawing()}


def layers() -> list[str]:
    """Return the packages in the order in which they may import each other, from the one that imports no other."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return [package for layer in reversed(found) for package in layer.split(" | ")]


def package_table() -> list[str]:
    """Return the table of packages and of those inside them, each with the first line of its docstring."""
    root = ROOT / "fastdc"
    rows = [
        [f"`{path.parent.relative_to(root).as_posix()}/`", first_line(path)]
        for package in layers()
        for path in sorted((root / package).rglob("__init__.py"))
    ]
    return table(["folder of `fastdc/`", "what it does"], rows)


def first_line(path: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def drawing() -> str:
    """Return the flow as an inline SVG: rows of boxes with arrows, every second row from right to left."""
    corners = [corner(place) for place in range(len(FLOW))]
    boxes = [box(package, *at) for (package, _), at in zip(FLOW, corners, strict=True)]
    ways = zip(FLOW, corners, corners[1:], strict=False)
    arrows = [arrow(passed, *start, *end) for (_, passed), start, end in ways]
    width = PER_ROW * (WIDTH + GAP) - GAP
    height = max(y for _, y in corners) + HEIGHT
    head = (
        f'<svg class="flow" viewBox="-2 -2 {width + 4} {height + 4}" role="img" aria-label="Flow through fastdc">'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="currentColor"/></marker></defs>'
    )
    return "\n".join([head, *arrows, *boxes, "</svg>", ""])


def corner(place: int) -> tuple[int, int]:
    """Return the upper left corner of a box."""
    row, column = divmod(place, PER_ROW)
    column = PER_ROW - 1 - column if row % 2 else column
    return column * (WIDTH + GAP), row * (HEIGHT + DROP)


def box(package: str, x: int, y: int) -> str:
    """Return a package as a box."""
    return (
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
        f'<text x="{x + WIDTH // 2}" y="{y + HEIGHT // 2 + 5}">{package}</text>'
    )


def arrow(passed: str, x: int, y: int, next_x: int, next_y: int) -> str:
    """Return the arrow from one box to the next, with what it passes on below the box that it leaves."""
    if y == next_y:
        start, end = (x + WIDTH, next_x) if x < next_x else (x, next_x + WIDTH)
        path = f"M{start} {y + HEIGHT // 2}H{end}"
    else:
        path = f"M{x + WIDTH // 2} {y + HEIGHT + 22}V{next_y}"
    note = f'<text class="passed" x="{x + WIDTH // 2}" y="{y + HEIGHT + 16}">{passed}</text>'
    return f'<path d="{path}" marker-end="url(#head)"/>{note}'
