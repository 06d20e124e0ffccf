"""The GPU check: verdicts, time limits, sections that crash, and the report after each of them."""

import importlib
import json
import math
import sys
import traceback
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import gpu_bundle
import gpu_check
import pytest
from gpu_sections.bundle import BundleFault, child_environment, fits, open_bundle
from gpu_sections.cells import ARCH, reference
from gpu_sections.claims import Claim, Verdict, judge, table
from gpu_sections.findings import Findings, read_findings
from gpu_sections.profiles import busy_seconds
from gpu_sections.report import Report
from gpu_sections.running import Ended, Section, run_section, run_sections, verdicts_of
from gpu_sections.sections import SECTIONS
from gpu_sections.setup import SIZES, Setup
from gpu_sections.unit_tests import outcomes
from gpu_sections.waits import WaitLog, innermost

from tests.benchmarks.test_harness import wait_for_end

SMALL = Claim("small", "a small number", 5, "things", cpu=5)
RARE = Claim("rare", "a rare number", 5, "things", cpu=5)
GPU = Claim("fast", "a rate", 10, "things/s", least=True)
EMPTY = Findings({}, {}, {})
HUNG = ("fails", "no end within 9 s")
ENVIRONMENT = child_environment("cpu", None)


def toy(kind: str, seconds: float = 60.0, **more: bool) -> Section:
    return Section(kind, f"tests.benchmarks.gpu_toys:{kind}", seconds, (SMALL, RARE, GPU), **more)


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup("cpu", "tiny", "", "", "", str(tmp_path), 60.0)


def words(section: Section, ended: Ended) -> list[str]:
    return [each.verdict for each in verdicts_of(section, ended, "cpu")]


@pytest.mark.parametrize(
    ("claim", "found", "verdict"),
    [
        (SMALL, 5.0, "holds"),
        (SMALL, 5.1, "fails"),
        (SMALL, math.nan, "fails"),
        (replace(SMALL, least=True), 5.0, "holds"),
        (replace(SMALL, least=True), 4.9, "fails"),
        (replace(SMALL, cpu=0.0), 5.0, "fails"),
        (replace(SMALL, cpu=None), 5.0, "not run"),
    ],
)
def test_a_number_decides_a_claim(claim: Claim, found: float, verdict: str) -> None:
    findings = EMPTY._replace(found={"small": found})
    assert judge("s", claim, "cpu", findings, HUNG).verdict == verdict  # type: ignore[arg-type]


def test_a_claim_without_a_number_never_holds() -> None:
    absent = EMPTY._replace(absent={"small": "no such GPU"})
    assert judge("s", SMALL, "cuda", absent, HUNG)[5:] == ("not run", "no such GPU")  # type: ignore[arg-type]
    assert judge("s", SMALL, "cuda", EMPTY, HUNG)[5:] == HUNG  # type: ignore[arg-type]
    assert judge("s", SMALL, "cuda", EMPTY, ("not run", "no time"))[5:] == ("not run", "no time")


def test_the_bound_stands_beside_each_claim() -> None:
    verdicts = [judge("s", GPU, "cuda", EMPTY._replace(found={"fast": 12.0}), ("fails", ""))]
    verdicts += [judge("s", GPU, "cpu", EMPTY, ("fails", ""))]
    assert table(verdicts).splitlines()[2:] == [
        "| s | a rate | >= 10 things/s | 12 | holds |",
        "| s | a rate | >= 10 things/s | - | not run: needs CUDA |",
    ]


def test_a_section_reports_from_its_own_process(setup: Setup) -> None:
    ended = run_section(toy("good"), setup, ENVIRONMENT)
    assert (ended.status, ended.reason, ended.findings.facts) == ("done", "", {"device": "cpu"})
    assert words(toy("good"), ended) == ["holds", "not run", "not run"]


def test_a_crashed_section_keeps_its_findings_and_fails_the_rest(setup: Setup) -> None:
    ended = run_section(toy("crash"), setup, ENVIRONMENT)
    assert ended.status == "crashed"
    assert ended.reason == "its process ended with code 1: ValueError: broken on purpose"
    assert "Traceback" in ended.log
    assert words(toy("crash"), ended) == ["holds", "fails", "not run"]


def test_a_section_that_ends_without_a_number_fails(setup: Setup) -> None:
    ended = run_section(toy("silent"), setup, ENVIRONMENT)
    assert words(toy("silent"), ended) == ["fails", "fails", "not run"]


def test_a_hanging_section_is_ended_with_its_children(setup: Setup) -> None:
    section = toy("hang", 2.0)
    ended = run_section(section, replace(setup, seconds=section.limit_on("cpu")), ENVIRONMENT)
    assert (ended.status, ended.reason) == ("hung", "no end within 6 s")
    assert words(section, ended) == ["holds", "fails", "not run"]
    wait_for_end(int((setup.folder / "child").read_text()))


def test_a_section_cut_off_by_the_whole_time_was_not_run(setup: Setup) -> None:
    ended = run_section(toy("hang"), replace(setup, seconds=6.0), ENVIRONMENT)
    assert (ended.status, ended.reason) == ("not run", "ended after 6 s, which were all that was left")
    assert words(toy("hang"), ended) == ["holds", "not run", "not run"]


def test_no_section_starts_when_the_time_is_used_up(setup: Setup) -> None:
    ((_, ended),) = run_sections([toy("good")], setup, ENVIRONMENT, 0.05)
    assert (ended.status, ended.reason) == ("not run", "the 0.05 minutes are used up")


def test_nothing_follows_a_failed_section_that_stops(setup: Setup) -> None:
    ends = [ended for _, ended in run_sections([toy("large", stops=True), toy("good")], setup, ENVIRONMENT, 8)]
    assert [(ended.status, ended.reason) for ended in ends] == [("done", ""), ("not run", "section large fails")]


def test_a_section_that_needs_cuda_is_not_started_without_it(setup: Setup) -> None:
    ((_, ended),) = run_sections([toy("crash", cuda=True)], setup, ENVIRONMENT, 8)
    assert (ended.status, ended.reason) == ("not run", "needs CUDA")


def test_the_report_is_rewritten_after_each_section(tmp_path: Path) -> None:
    sections, path = [toy("good"), toy("large")], tmp_path / "report.json"
    report = Report(path, {"device": "cpu"}, "cpu", sections)
    assert json.loads(path.read_text())["counts"] == {"holds": 0, "fails": 0, "not run": 6}
    report.add(sections[0], Ended("done", 1.0, "", EMPTY._replace(facts={"a": 1}, found={"small": 1.0, "rare": 2.0})))
    content = json.loads(path.read_text())
    assert content["counts"] == {"holds": 2, "fails": 0, "not run": 4}
    assert [(each["name"], each["facts"]) for each in content["sections"]] == [("good", {"a": 1})]
    assert {each["reason"] for each in content["verdicts"] if each["section"] == "large"} == {
        "not reached",
        "needs CUDA",
    }
    report.add(sections[1], Ended("crashed", 1.0, "why", EMPTY, "log"))
    content = json.loads(path.read_text())
    assert content["counts"] == {"holds": 2, "fails": 2, "not run": 2}
    assert content["sections"][1]["log"] == "log"
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "findings"
    path.write_text('["Found", "small", 1.0]\n["Fact", "x", [1]]\n["Found", "rare", 2')
    assert read_findings(path) == Findings({"x": [1]}, {"small": 1.0}, {})
    assert read_findings(tmp_path / "none") == EMPTY


def test_every_section_has_a_function_and_claims_of_its_own() -> None:
    for section in SECTIONS:
        module, _, function = section.work.partition(":")
        assert callable(getattr(importlib.import_module(module), function))
    keys = [claim.key for section in SECTIONS for claim in section.claims]
    assert len(keys) == len(set(keys))
    assert len({section.name for section in SECTIONS}) == len(SECTIONS)
    code = "".join(path.read_text() for path in Path(gpu_check.__file__).parent.glob("gpu_sections/*.py"))
    assert [
        key for key in keys if f'"{key}"' not in code.replace(f'Claim("{key}"', "") and "accuracy-" not in key
    ] == []


@pytest.mark.parametrize(
    ("name", "fitting"),
    [
        ("rich-15.0.0-py3-none-any.whl", True),
        ("shellingham-1.5.4-py2.py3-none-any.whl", True),
        ("safetensors-0.8.0-cp310-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        (f"pillow-13.0.0-cp3{sys.version_info.minor}-cp3{sys.version_info.minor}-manylinux_2_28_x86_64.whl", True),
        ("pillow-13.0.0-cp27-cp27mu-manylinux_2_28_x86_64.whl", False),
    ],
)
def test_wheels_are_chosen_by_python(name: str, fitting: bool) -> None:
    assert fits(Path(name)) == fitting


def write_archive(path: Path, **files: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


def test_wheels_are_unpacked_only_if_all_fit(tmp_path: Path) -> None:
    write_archive(tmp_path / "bundle" / "betons.zip", a="1")
    write_archive(tmp_path / "bundle" / "wheels" / "one-1-py3-none-any.whl", one="1")
    site = open_bundle(tmp_path / "bundle", tmp_path / "work").site
    assert site is not None
    assert [path.name for path in site.iterdir()] == ["one"]
    write_archive(tmp_path / "bundle" / "wheels" / "two-1-cp27-cp27mu-any.whl", two="2")
    assert open_bundle(tmp_path / "bundle", tmp_path / "work").site is None


def test_the_path_of_a_section_begins_with_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", "/own")
    path = child_environment("cuda", tmp_path)["PYTHONPATH"].split(":")
    root = Path(gpu_check.__file__).parents[1]
    assert path == [str(root), str(root / "benchmarks"), str(tmp_path), "/own"]
    assert child_environment("cpu", None)["CUDA_VISIBLE_DEVICES"] == ""


def test_a_missing_or_damaged_bundle_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--device", "cpu", "--bundle", str(tmp_path), "--out", str(tmp_path / "out.json")]
    assert gpu_check.main(command) == 2
    assert f"{tmp_path}/betons.zip: no such file; make the bundle with a network" in capsys.readouterr().err
    (tmp_path / "betons.zip").write_bytes(b"half")
    with pytest.raises(BundleFault, match="not a whole archive"):
        open_bundle(tmp_path, tmp_path / "work")


def test_an_unknown_section_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu_check.main(["--only", "views", "--out", str(tmp_path / "out.json")])
    assert "no section views, expected some of environment, tests" in capsys.readouterr().err


def test_busy_time_counts_overlaps_once() -> None:
    assert busy_seconds([(0, 10), (5, 20), (6, 7), (30, 40)]) == pytest.approx(30e-6)
    assert busy_seconds([]) == 0


def test_outcomes_of_a_junit_report(tmp_path: Path) -> None:
    report = tmp_path / "tests.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="a" name="ok"/>'
        '<testcase classname="a" name="bad"><failure message="1 != 2">long</failure></testcase>'
        '<testcase classname="a" name="broken"><error message="no fixture"/></testcase>'
        '<testcase classname="a" name="out"><skipped message="no GPU"/></testcase></testsuite></testsuites>'
    )
    assert outcomes(report) == ({"a.bad": "1 != 2", "a.broken": "no fixture"}, 3, 1)


def test_waits_are_counted_by_line_and_only_between_start_and_stop() -> None:
    modes: list[str] = []
    log = WaitLog(modes.append)
    with warnings.catch_warnings():
        log.start()
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
        log.stop()
    ((place, count),) = log.places.items()
    assert (place.partition(":")[0], count) == ("tests/benchmarks/test_gpu_check.py", 3)
    assert modes == ["warn", "default"]


def test_a_wait_inside_torch_is_that_of_the_line_that_called_it() -> None:
    root = Path(gpu_check.__file__).parents[1]
    frames = [("/x/run.py", 1), (f"{root}/fastdc/nn/fit.py", 20), ("/lib/torch/optim/adamw.py", 300)]
    stack = traceback.StackSummary.from_list([(path, line, "f", "") for path, line in frames])
    assert innermost(stack) == "fastdc/nn/fit.py:20"
    assert innermost(traceback.StackSummary.from_list([("/x/run.py", 1, "f", "")])) == "/x/run.py:1"


def test_accuracies_of_the_cpu_serve_cells_of_their_length_only(setup: Setup, tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    given = replace(setup, reference=str(path))
    assert reference(given) is None
    path.write_text(json.dumps({"arch": ARCH, "epochs": SIZES["tiny"].epochs, "top1": [1.0, 2.0, 3.0]}))
    assert reference(given) == [1.0, 2.0]
    assert reference(replace(given, sizes="full")) is None


def test_the_bundle_holds_all_that_fastdc_needs_and_not_what_the_machine_has() -> None:
    found = gpu_bundle.needed(("fastdc", "pytest", "pytest-timeout"))
    assert {"pydantic-core", "annotated-types", "typing-inspection", "simplejpeg", "pluggy"} <= set(found)
    assert not {"torch", "numpy", "numba", "llvmlite", "sympy", "nvidia-cublas"} & set(found)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_the_whole_check_runs_on_a_cpu(tmp_path: Path) -> None:
    """On tiny work, whose accuracies mean nothing: every claim has a number, or needs CUDA."""
    betons, out = tmp_path / "betons", tmp_path / "report.json"
    betons.mkdir()
    gpu_bundle.make_betons(betons, None)
    gpu_bundle.pack_betons(betons, tmp_path)
    sizes = ["--sizes", "tiny", "--minutes", "18"]
    code = gpu_check.main(["--device", "cpu", "--bundle", str(tmp_path), "--out", str(out), *sizes])
    report = json.loads(out.read_text())
    verdicts = [Verdict(**each) for each in report["verdicts"]]
    assert {each.reason for each in verdicts if each.found is None} == {"needs CUDA"}
    assert [each for each in verdicts if each.verdict == "fails" and each.claim not in TOO_TINY] == []
    assert code == int(report["counts"]["fails"] > 0)


TOO_TINY = ("memory-next", "accuracy-bf16", "decode-rate", "bf16-gain")
"""Claims on accuracies after three epochs, and on rates of a few images."""
