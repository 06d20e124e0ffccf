"""Draw the study: make the page, the CSV files and the figures from rows.jsonl, entropy.csv and the YAML files.

This needs no beton, store or torch. Equal files give equal bytes.
"""

import json
from pathlib import Path

from fastdc.common.files import write_atomic
from studies.blocks import read_blocks, wanted_rows
from studies.cells import Study, environments
from studies.entropies import read_entropies
from studies.figures import figures
from studies.pages import page
from studies.results import group_results, lacking
from studies.rows import read_rows, rows_csv
from studies.sheets import claims_csv, effects_csv, tables_csv
from studies.specs import read_claims, read_questions
from studies.verdicts import judge

FIGURES = "figures"


def outputs(study: Path) -> dict[str, bytes]:
    """Return the files that `draw` writes, by path inside the folder.

    Raises:
        ConfigError, StoreError: a file of the study is invalid; names line and field.
    """
    rows, entropies = read_rows(study), read_entropies(study)
    wanted = wanted_rows(read_blocks(study))
    questions, claims = read_questions(study), read_claims(study)
    results = group_results(rows, wanted)
    drawn = figures(questions.questions, results, entropies)
    found = Study(
        name=study.name,
        rows=rows,
        wanted=wanted,
        missing=lacking(wanted, rows),
        results=results,
        questions=questions,
        claims=claims,
        judged=judge(results, claims),
        entropies=entropies,
        figures={figure.name: (figure.question, figure.alt) for figure in drawn},
    )
    texts = {
        "README.md": page(found),
        "rows.csv": rows_csv(rows, questions.column),
        "tables.csv": tables_csv(found),
        "effects.csv": effects_csv(found),
        "claims.csv": claims_csv(found),
        "environment.json": json.dumps(environments(rows), indent=1, sort_keys=True) + "\n",
        **{f"{FIGURES}/{figure.name}": figure.text for figure in drawn},
    }
    return {name: text.encode() for name, text in texts.items()}


def draw(study: Path) -> list[str]:
    """Write the outputs, remove stale figures, and return the names written."""
    found = outputs(study)
    for name, data in found.items():
        (study / name).parent.mkdir(exist_ok=True)
        write_atomic(study / name, data)
    for stale in (study / FIGURES).glob("*.svg"):
        if f"{FIGURES}/{stale.name}" not in found:
            stale.unlink()
    return sorted(found)
