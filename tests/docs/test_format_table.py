"""The tests of lists and of scores read files for each row of the guide's table of formats."""

import re
from pathlib import Path

from tests.subsets import test_list_formats, test_score_files

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "pruning.md"
OWN = "tests/subsets/test_from_list.py and test_all_scores.py"
ROWS: dict[str, tuple[str, str]] = {
    "`.npy`": ("npy indices, npy mask", "npy"),
    "text": ("text ids, text paths", "tsv, savetxt"),
    "`np.savetxt`": ("savetxt, savetxt of whole numbers", "savetxt, savetxt with indices"),
    "CSV or TSV with a header, also `.gz`": (
        "csv of ids and classes, csv of paths, csv of indices, csv with quotes, csv.gz",
        "csv with a header, csv of indices, csv of paths and classes, csv of pandas, csv of scores alone, csv.gz",
    ),
    "`.parquet`": ("parquet", "parquet"),
    "`.json`": (
        "json ids, json paths, json indices, json mask, json classes, json indices by name",
        "json list, json by id, json by name, json records",
    ),
    "DeepCore's checkpoint": ("deepcore, deepcore subset", "deepcore"),
    "CCS's `.pickle`": ("pickled coreset, pickled indices", "ccs"),
    "other `.pth`, `.pt`, `.ckpt`, `.pkl`": ("torch indices, torch mask, pickled list", "torch, pickled array"),
    "fastdc's `X.list.tsv`": (OWN, "list of fastdc"),
    "fastdc's `scores.parquet`, `.csv`, `.csv.gz`": (OWN, OWN),
}


def test_every_row_is_read_in_a_test() -> None:
    table = GUIDE.read_text().partition("| file | as a list | as scores |\n|---|---|---|\n")[2].partition("\n\n")[0]
    assert re.findall(r"^\| (.+?) \|", table, re.MULTILINE) == list(ROWS)
    for lists, scores in ROWS.values():
        assert lists == OWN or set(lists.split(", ")) <= set(test_list_formats.FORMS)
        assert scores == OWN or set(scores.split(", ")) <= set(test_score_files.FORMS)
