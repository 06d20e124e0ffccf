"""The example notebook runs from an empty folder, and is committed without outputs."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.docs.test_blocks import ROOT, SECONDS

EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "ranked-table.ipynb"


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_committed_without_outputs() -> None:
    cells = code_cells(json.loads(NOTEBOOK.read_text()))
    assert len(cells) > 5
    assert {(str(cell["outputs"]), cell["execution_count"]) for cell in cells} == {("[]", None)}


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 60)
def test_the_notebook_runs_and_shows_table_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbclient
    import nbformat  # heavy, and only here

    shutil.copy(EXAMPLES / "patterns.py", tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in code_cells(notebook) for output in cell["outputs"]]
    printed = "".join(output.get("text", "") for output in outputs if output.get("name") == "stdout")
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert all(method in printed for method in ("random", "el2n", "pca", "pact", "rank  method"))
    assert len(pictures) == 3
