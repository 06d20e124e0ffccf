"""Equal finished runs give a page of equal bytes, charts included, in any order."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

from tests.report.test_report_page import detail, label, summary


def rows() -> list[str]:
    """Return runs with equal means on several machines and versions, so that an order could matter."""
    made = []
    for method, top1 in (("random", 40.0), ("pca", 44.0), ("tie-b", 42.0), ("tie-a", 42.0)):
        for ipc in (10, 50):
            for seed in range(3):
                details = detail(top1 + seed) | {"environment": {"torch": f"2.{seed}", "fastdc": "0.1"}}
                values = summary(top1 + seed * 1.1, machine=f"cpu{seed}")
                made.append({"key": f"{method}{ipc}{seed}", "label": label(method, seed, ipc=ipc),
                             "summary": values, "detail": details})  # fmt: skip
    return [json.dumps(row) + "\n" for row in made]


def test_the_page_is_a_function_of_the_results(tmp_path: Path) -> None:
    lines, pages = rows(), []
    for number in range(3):
        random.Random(number).shuffle(lines)
        folder, page = tmp_path / str(number) / "rows", tmp_path / f"{number}.html"
        folder.mkdir(parents=True)
        (folder / "rows.jsonl").write_text("".join(lines))
        command = [sys.executable, "-m", "fastdc", "report", str(folder), "--html", str(page)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": str(number)})
        pages.append(page.read_bytes())
    assert pages[0].count(b'<svg class="chart"') == 7  # two curves for each IPC, and three of what accuracy costs
    assert len(set(pages)) == 1
