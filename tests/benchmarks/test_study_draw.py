"""The study's tables, claims and figures: computed from the rows alone, the same bytes each time."""

import csv
import io
import statistics
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import study
from scipy import stats
from studies.blocks import read_blocks, wanted_rows
from studies.drawing import draw, outputs
from studies.results import contrast, group_results, tables_of
from studies.rows import read_rows, rows_csv
from studies.specs import Table, read_claims, read_questions
from studies.verdicts import Judged, judge

from fastdc.report.paired_tests import holm, seeds_for_claims
from tests.benchmarks.conftest import BENCHMARKS
from tests.benchmarks.study_rows import CLAIMS, row, rows_of, write_study

RANDOM = [40.0, 41.0, 39.5, 40.5, 40.25, 39.0, 41.5, 40.75, 39.75, 40.1]
PCA = [47.0, 46.0, 48.5, 47.25, 46.5, 47.75, 48.0, 46.25, 47.5, 46.75]


def judged(folder: Path) -> dict[str, Judged]:
    results = group_results(read_rows(folder), wanted_rows(read_blocks(folder)))
    return {each.claim.name: each for each in judge(results, read_claims(folder))}


def lines_of(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(outputs(folder)[name].decode())))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write ten seeds of random, pca and el2n; el2n is neither better nor worse than pca."""
    near = [top1 + (0.5 if seed % 2 else -0.5) for seed, top1 in enumerate(PCA)]
    rows = [*rows_of("random", RANDOM), *rows_of("pca", PCA), *rows_of("el2n", near)]
    return write_study(tmp_path, rows)


def test_equal_rows_give_equal_bytes_in_any_order(folder: Path) -> None:
    first = outputs(folder)
    draw(folder)
    assert {name: (folder / name).read_bytes() for name in first} == first
    lines = (folder / "rows.jsonl").read_text().splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join(reversed(lines)))
    again = outputs(folder)
    assert {name for name in first if again[name] != first[name]} <= {"rows.csv"}


def test_the_committed_outputs_follow_from_the_committed_rows() -> None:
    """Rows, tables and claims agree; `python benchmarks/study.py draw` writes them again."""
    inputs = {"study.yaml", "questions.yaml", "claims.yaml", "choices.md", "rows.jsonl", "entropy.csv"}
    files = [path for path in study.STUDY.rglob("*") if path.is_file()]
    found = outputs(study.STUDY)
    assert {str(path.relative_to(study.STUDY)) for path in files} - inputs == set(found)
    assert [name for name in found if (study.STUDY / name).read_bytes() != found[name]] == []


def test_drawing_imports_no_torch_and_needs_no_beton(folder: Path) -> None:
    code = "import sys, study; sys.exit(study.main(['draw', '--study', sys.argv[1]]) or 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, folder], cwd=BENCHMARKS, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "README.md").exists()


def test_the_mean_and_the_difference_have_student_intervals(folder: Path) -> None:
    pca = next(line for line in lines_of(folder, "tables.csv") if line["method"] == "pca")
    error = statistics.stdev(PCA) / 10**0.5
    assert float(pca["top1_mean"]) == pytest.approx(statistics.fmean(PCA), abs=1e-6)
    assert float(pca["top1_half"]) == pytest.approx(stats.t.ppf(0.975, 9) * error, abs=1e-6)
    expected = stats.ttest_rel(PCA, RANDOM).confidence_interval()
    assert (pca["n"], pca["asked"], pca["pairs"], pca["baseline"]) == ("10", "10", "10", "random")
    assert float(pca["low"]) == pytest.approx(expected.low, abs=1e-6)
    assert float(pca["high"]) == pytest.approx(expected.high, abs=1e-6)
    assert float(pca["top1_best_mean"]) == pytest.approx(statistics.fmean(PCA) + 1)


def test_claims_are_supported_contradicted_undecided_or_not_run(folder: Path) -> None:
    """Of ten pairs with one sign p = 2 / 2^10; two such among four claims: Holm's factor is 4, then 3 but not less."""
    found = judged(folder)
    assert {name: each.verdict for name, each in found.items()} == {
        "pca-random": "supported",
        "random-el2n": "contradicted",
        "pca-el2n": "not decided",
        "ours-pca": "not run",
    }
    assert found["pca-random"].p == 2 / 2**10
    assert found["pca-random"].adjusted == found["random-el2n"].adjusted == 4 * 2 / 2**10
    assert found["pca-el2n"].why == "adjusted p is not below 0.05"
    assert found["ours-pca"].why == "study.yaml asks for no rows of A"
    assert [line["verdict"] for line in lines_of(folder, "claims.csv")] == [each.verdict for each in found.values()]


def test_a_claim_in_the_other_direction(folder: Path) -> None:
    turned = {"claims": [{**CLAIMS["claims"][0], "a": "random", "b": "pca", "direction": "<"}]}
    write_study(folder, read_rows(folder), claims=turned)
    assert judged(folder)["pca-random"].verdict == "supported"


def test_too_few_pairs_decide_nothing(tmp_path: Path) -> None:
    """Seven of eight needed pairs have no test; eight have one, but its p cannot survive Holm over seven claims."""
    rows = [*rows_of("random", RANDOM[:7]), *rows_of("pca", PCA[:9])]
    few = judged(write_study(tmp_path, rows))["pca-random"]
    assert (few.verdict, few.p, few.why) == ("not decided", None, "7 of 8 paired seeds")
    first = {**CLAIMS["claims"][0], "name": "0"}
    others = [{**first, "name": str(number), "a": "ours"} for number in range(1, 7)]
    rows = [*rows_of("random", RANDOM[:8]), *rows_of("pca", PCA[:8])]
    eight = judged(write_study(tmp_path, rows, claims={"claims": [first, *others]}))
    assert (eight["0"].verdict, eight["0"].p, eight["0"].adjusted) == ("not decided", 1 / 128, 7 / 128)
    assert "8 pairs pass only after other claims have passed, 9 can pass first" in eight["0"].why


def test_verdicts_read_the_seeds_of_the_claims_alone(folder: Path) -> None:
    """Tables show all seeds. Without the first two, eight pairs of one sign remain."""
    write_study(folder, read_rows(folder), claims={"seeds": "2-9"})
    found = judged(folder)
    assert (found["pca-random"].found.pairs.n, found["pca-random"].p) == (8, 2 / 2**8)
    assert found["pca-random"].found.pairs.mean == pytest.approx(
        statistics.fmean(PCA[2:]) - statistics.fmean(RANDOM[2:])
    )
    page = outputs(folder)["README.md"].decode()
    assert "over all of them; it reads seeds 2 to 9 alone. p is" in page
    assert "| `pca` | 10 | 47.15" in page


@pytest.mark.parametrize(("claims", "needed"), [(1, 6), (6, 8), (7, 9), (12, 9), (13, 10)])
def test_the_pairs_that_can_decide_among_claims(claims: int, needed: int) -> None:
    assert seeds_for_claims(claims, 0.05) == needed
    assert claims * 2 / 2**needed < 0.05 <= claims * 2 / 2 ** (needed - 1)


def test_a_page_without_rows_states_it(tmp_path: Path) -> None:
    write_study(tmp_path)
    page = outputs(tmp_path)["README.md"].decode()
    assert "0 of the 32 rows" in page
    assert "4 not run" in page
    assert "not run** (`el2n`, `pca`, `random`)" in page
    assert "* `pca`, IPC 10, hard-small, resnet10, 64 px, fp32: seeds 0 to 9" in page
    assert not [name for name in outputs(tmp_path) if name.endswith(".svg")]


def test_missing_rows_are_named_by_block(tmp_path: Path) -> None:
    rows = [*rows_of("random", RANDOM), *rows_of("el2n", PCA), *(row("pca", seed, 47.0) for seed in (0, 2, 9))]
    page = outputs(write_study(tmp_path, rows))["README.md"].decode()
    not_run = page.partition("## Not run")[2]
    assert (
        "Block 1, methods:\n\n* `pca`, IPC 10, hard-small, resnet10, 64 px, fp32: seeds 1, 3, 4, 5, 6, 7, 8\n"
        in not_run
    )
    assert "* `full`, all images, hard-small*epochs=30, resnet10, 64 px, fp32: seeds 0, 1" in not_run
    assert "| `pca` | 3 of 10 | 47.00 ± 0.00 |" in page


def test_lines_may_differ_in_crops_and_share_a_baseline(tmp_path: Path) -> None:
    """The parts of a method: a table over methods and crops against one baseline, and effects between axes."""
    bare = "pca[grid=1,score=random]"
    table = {
        "methods": ["pca", "pca[*]"],
        "lines": ["method", "augment"],
        "baseline": {"method": bare, "augment": "method"},
    }
    effects = [{"name": "A", "a": "pca", "b": {"method": "pca", "augment": "protocol"}}]
    questions = {"questions": [{"id": "b", "title": "t", "tables": [table], "contrasts": effects}]}
    rows = [*rows_of("pca", PCA[:3]), *rows_of("pca", RANDOM[:3], augment="protocol"), *rows_of(bare, RANDOM[1:4])]
    write_study(tmp_path, rows, questions=questions)
    found = {(line["method"], line["settings"], line["augment"]): line for line in lines_of(tmp_path, "tables.csv")}
    assert set(found) == {("pca", "", "method"), ("pca", "", "protocol"), ("pca", "grid=1,score=random", "method")}
    difference = statistics.fmean(RANDOM[:3]) - statistics.fmean(RANDOM[1:4])
    assert float(found["pca", "", "protocol"]["difference"]) == pytest.approx(difference, abs=1e-6)
    assert found["pca", "grid=1,score=random", "method"]["pairs"] == "0"
    effect = statistics.fmean(PCA[:3]) - statistics.fmean(RANDOM[:3])
    assert f"| A | `pca` | `pca`, crops: protocol | 3 | {effect:+.2f} |" in outputs(tmp_path)["README.md"].decode()


def test_runs_on_held_out_training_images_are_left_out(tmp_path: Path) -> None:
    rows = [*rows_of("pca", PCA), *rows_of("pca", RANDOM, holdout=0.2, group="9")]
    (found,) = group_results(rows, [])
    assert list(found.accuracies().values()) == PCA
    assert [line["holdout"] for line in csv.DictReader(rows_csv(rows, {}).splitlines())] == [""] * 10 + ["0.2"] * 10
    alone = outputs(write_study(tmp_path, [row("pca", 0, 60.0, holdout=0.2)]))["README.md"].decode()
    assert "0 of the 32 rows that `study.yaml` asks for have run." in alone


def test_an_older_version_of_a_method_has_its_own_line(tmp_path: Path) -> None:
    """Its runs are not averaged with newer ones and enter no claim."""
    old = [row("pca", seed, 20.0, group="0") for seed in range(3)]
    new = [row("pca", seed, 47.0, group="5") for seed in range(3)]
    found = group_results([*old, *new], [])
    assert {str(each.axes["method"])[:4]: each.accuracies()[0] for each in found} == {"pca": 47.0, "pca#": 20.0}


def test_another_observer_has_its_own_line(tmp_path: Path) -> None:
    rows = [*rows_of("pca", PCA), *rows_of("pca", RANDOM[:3], observer="resnet10, schedule of 60 epochs, 64 px")]
    found = group_results(rows, [])
    assert sorted((each.axes["method"], each.axes["observer"], len(each.runs)) for each in found) == [
        ("pca", "resnet10, schedule of 30 epochs, 64 px", 10),
        ("pca", "resnet10, schedule of 60 epochs, 64 px", 3),
    ]
    write_study(tmp_path, [*rows, *rows_of("random", RANDOM)])
    pairs = judged(tmp_path)["pca-random"].found.pairs
    assert pairs is not None
    assert pairs.n == 10  # the observer of most runs


def test_reductions_are_beside_the_numbers(tmp_path: Path) -> None:
    questions = {"questions": [{"id": "a", "title": "t", "tables": [{"methods": ["*"], "baseline": "random"}]}]}
    rows = [*rows_of("sre2l[iterations=50]", RANDOM), *rows_of("pca", PCA)]
    page = outputs(write_study(tmp_path, rows, questions=questions))["README.md"].decode()
    assert (
        "(here toys, 64 px, resnet10, 300 epochs, batches of 10, fp32; the paper: ImageNet-1K, 224 px, resnet18" in page
    )
    assert "| 50 iterations instead of 1000 |" in page
    assert "| observer: resnet10, schedule of 30 epochs, 64 px; inferred: grid |" in page


def test_figures_are_valid_svg_and_stale_ones_are_removed(folder: Path) -> None:
    draw(folder)
    names = sorted(path.name for path in (folder / "figures").iterdir())
    assert names == ["a-accuracy.svg", "a-epochs-ipc-10-hard-small-resnet10-64-px-fp32-crops-method.svg"]
    for name in names:
        root = ElementTree.parse(folder / "figures" / name).getroot()
        texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
        assert "pca (n = 10)" in texts
    (folder / "rows.jsonl").write_text("")
    draw(folder)
    assert list((folder / "figures").iterdir()) == []


def test_entropies_are_drawn_and_listed(folder: Path) -> None:
    lines = ["network,method,ipc,crops,area,entropy,spread,images,sets", "net,pca,10,image,1.0,0.5,0.1,100,1"]
    lines += ["net,pca,10,image,0.25,0.75,0.1,100,1", "net,random,10,image,1.0,0.9,0.1,100,1"]
    (folder / "entropy.csv").write_text("\n".join(lines) + "\n")
    found = outputs(folder)
    assert "| net | pca | 10 | image | 100 | 0.500 | 0.750 |" in found["README.md"].decode()
    assert b"pca, IPC 10" in found["figures/h-entropy-net.svg"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("claims.yaml", "column: {}\nclaims:\n - {name: x, statement: s, a: 3, b: pca}\n", "claims.yaml:3: claims.0.a"),
        ("claims.yaml", "column: {}\nclaims: [{name: x, statement: s, a: {method: pca, ipcs: 3}, b: c}]\n", "'ipcs'"),
        ("questions.yaml", "column: {}\nquestions: {", "questions.yaml:2"),
        ("study.yaml", "train: x\n", "no key 'val'"),
        ("rows.jsonl", '{"key": "x"}\n', "rows.jsonl:1: a row without axes"),
        ("rows.jsonl", "{\n", "rows.jsonl:1: not a row of JSON"),
        ("entropy.csv", "network\nx\n", "entropy.csv:2: expected network, method"),
    ],
)
def test_unsound_files_are_one_line(
    folder: Path, name: str, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / name).write_text(content)
    assert study.main(["draw", "--study", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("study: ")
    assert error.count("\n") == 1
    assert message in error


def test_a_claim_names_its_missing_rows(tmp_path: Path) -> None:
    found = judged(write_study(tmp_path, [row("random", 3, 40.0), row("pca", 4, 47.0)]))
    assert (found["pca-random"].verdict, found["pca-random"].why) == ("not run", "no seed in common")
    assert (found["pca-el2n"].verdict, found["pca-el2n"].why) == ("not run", "no rows of B")


def test_the_studys_claims_and_contrasts_refer_to_planned_rows() -> None:
    """Their columns have the precision and protocol of study.yaml; methods of no block are reported."""
    found = group_results([], wanted_rows(read_blocks(study.STUDY)))
    planned = [each.claim.name for each in judge(found, read_claims(study.STUDY)) if None not in each.found[:2]]
    assert {"pca-random-10", "pca-random-50"} <= set(planned)
    questions = read_questions(study.STUDY)
    contrasts = [contrast(found, questions.column, each) for each in questions.questions[1].contrasts]
    assert None not in contrasts[0][:2]


def test_the_studys_seeds_can_decide_each_of_its_claims() -> None:
    """If every difference has one sign in all seeds, every planned claim passes Holm's correction."""
    planned, results = read_claims(study.STUDY), group_results([], wanted_rows(read_blocks(study.STUDY)))
    sides = [contrast(results, planned.column, claim)[:2] for claim in planned.claims]
    pairs = [len(set(a.seeds) & set(b.seeds)) if a and b else 0 for a, b in sides]
    adjusted = holm([2 / 2**count for count in pairs])
    low = {
        claim.name: count for claim, count, p in zip(planned.claims, pairs, adjusted, strict=True) if p >= planned.level
    }
    assert low == {}


def test_every_planned_row_is_in_a_table() -> None:
    results = group_results(read_rows(study.STUDY), wanted_rows(read_blocks(study.STUDY)))
    tables = [table for question in read_questions(study.STUDY).questions for table in question.tables]
    shown = [line for table in tables for _, lines in tables_of(results, table) for line in lines]
    assert [each.axes for each in results if each not in shown] == []


@pytest.mark.parametrize(
    ("pattern", "fitting"),
    [("pca", {"pca"}), ("*", {"pca", "pca[grid=1]", "pca[grid=1,score=aum]", "pca[score=aum]"}),
     ("pca[*]", {"pca[grid=1]", "pca[grid=1,score=aum]", "pca[score=aum]"}), ("pca[grid=1]", {"pca[grid=1]"}),
     ("pca[grid=1,*", {"pca[grid=1,score=aum]"}), ("pca[score=*", {"pca[score=aum]"})],
)  # fmt: skip
def test_methods_are_chosen_by_patterns(pattern: str, fitting: set[str]) -> None:
    rows = [row(name, 0, 40.0) for name in ("pca", "pca[grid=1]", "pca[grid=1,score=aum]", "pca[score=aum]")]
    planned = Table(methods=(pattern,), baseline={"method": "pca"})
    found = [line for _, lines in tables_of(group_results(rows, ()), planned) for line in lines]
    assert {str(line.axes["method"]) for line in found} == fitting


def test_a_note_on_the_claims_is_on_the_page(folder: Path) -> None:
    write_study(folder, read_rows(folder), claims={"note": "Seed 0 was known."})
    assert "Seed 0 was known." in outputs(folder)["README.md"].decode()


def test_a_claim_takes_the_planned_rows(tmp_path: Path) -> None:
    """`pca` read another observer before: those rows are older and more numerous."""
    old = rows_of("pca", PCA, observer="another", group="o")
    rows = [*rows_of("random", RANDOM), *old, *rows_of("pca", [41.0, 42.0])]
    (found,) = [each for name, each in judged(write_study(tmp_path, rows)).items() if name == "pca-random"]
    assert found.found.pairs is not None
    assert found.found.pairs.n == 2
    assert found.found.pairs.mean == pytest.approx(statistics.fmean([41.0, 42.0]) - statistics.fmean(RANDOM[:2]))
