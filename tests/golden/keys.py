"""Content keys of cells, as sweeps register them in their stores."""

import json
from pathlib import Path
from typing import Any

from tests.golden import command, data

GRIDS = Path(__file__).parent / "grids"
PLANNED = ("defaults", "methods", "protocols", "augments", "precision", "holdout")
SHOWN = ("method", "ipc", "protocol", "augment", "arch", "precision", "seed")


def record(work: Path) -> dict[str, Any]:
    """Return the keys of every cell of the planned grids, and the exit code of an interrupted sweep."""
    data.write_betons(data.write_photos(work / "photos"), work)
    (work / "kept.txt").write_text("\n".join(f"{name}/{n:03d}.png" for n in range(12) for name in data.CLASSES))
    return {name: _of_grid(work, name) for name in PLANNED}


def _of_grid(work: Path, name: str) -> dict[str, Any]:
    store = work / name / "store.sqlite"
    code = command.plan_only(GRIDS / f"{name}.yaml", store)
    return {"exit code when interrupted": code, **of_store(store)}


def of_store(store: Path) -> dict[str, str]:
    """Return what identifies each cell: key, axes, group of the row, subset."""
    cells = {}
    for key, axes, label in command.rows(store, "SELECT key, axes, label FROM runs"):
        shown = json.loads(label)
        name = " | ".join(str(shown[part]) for part in SHOWN)
        cells[name] = f"{key} axes {axes} group {shown['group']} subset {shown['subset']}"
    return dict(sorted(cells.items()))
