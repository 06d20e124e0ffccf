"""Formats of the table, and escaping of hostile text."""

import csv
import io
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastdc.common.text import plain
from fastdc.report.escape import csv_text, latex
from fastdc.report.rows import Row
from fastdc.report.table import render


def row(**changes: object) -> Row:
    values: dict[str, object] = {
        "dataset": "tiny",
        "method": "el2n[keep=hard]",
        "ipc": 10,
        "protocol": "hard",
        "arch": "resnet18",
        "precision": "fp32",
        "augment": "method",
        "image_size": 28,
        "n": 3,
        "seeds": 3,
        "subsets": 3,
        "top1_mean": 43.219,
        "top1_std": 0.5,
        "images": 1000,
        "epochs": 300,
        "steps": 3000,
        "image_bytes": 1_234_567,
        "label_bytes": 20_000,
        "compress_seconds": 103.21,
        "observer_seconds": 99.7,
        "scoring_seconds": 3.21,
        "selection_seconds": 0.25,
        "train_seconds": 75.0,
        "status": "done",
    }
    return Row.model_validate({**values, **changes})


FAILED = {
    "n": 0,
    "top1_mean": None,
    "top1_std": None,
    "images": None,
    "status": "failed",
    "reason": "seed 0 failed: why",
}


def test_the_plain_table_shows_each_number_once_aligned() -> None:
    text = render(
        [row(), row(method="pca", n=2, status="partial", reason="seed 2 diverged: nan"), row(**FAILED)], "table"
    )
    lines = text.splitlines()
    assert lines[0] == "tiny: hard, resnet18, fp32, 28 px"
    assert lines[1].split()[-5:] == ["steps", "observer", "scoring", "selection", "train"]
    assert (
        " ".join(lines[3].split())
        == "el2n[keep=hard] 10 43.22 ± 0.50 3 1,000 1.2 MB 20.0 kB 3,000 100 s 3.2 s 0.25 s 75 s"
    )
    assert " 2/3 " in lines[4]
    assert lines[5].split() == ["el2n[keep=hard]", "10", "failed", "0/3"]
    assert lines[6:] == [
        "pca ipc 10: seed 2 diverged: nan",
        "el2n[keep=hard] ipc 10: seed 0 failed: why",
        "size: JPEGs count as stored; raw pixels count as PNG",
        "one observer (100 s) serves 2 methods; one for each would take 3.3 min, 2.0 times as long",
    ]


def test_other_protocols_and_networks_are_other_tables() -> None:
    text = render([row(), row(protocol="hard*epochs=60"), row(augment="protocol")], "table")
    assert text.count("method ") == 3
    assert "28 px, hints off (augment=protocol)" in text


def test_the_machine_is_named_only_if_it_distinguishes_tables() -> None:
    one = {"device": "cpu", "threads": 1}
    text = render([row(**one), row(**one, ipc=50)], "table")
    assert text.count("method ") == 1
    assert "cpu" not in text
    text = render([row(**one), row(device="cpu", threads=2), row(device="cuda")], "table")
    titles = [line for line in text.splitlines() if line.startswith("tiny: ")]
    assert [line.rpartition("28 px, ")[2] for line in titles] == ["cpu with 1 thread", "cpu with 2 threads", "cuda"]
    (parsed, *_) = csv.DictReader(io.StringIO(render([row(**one)], "csv")))
    assert (parsed["device"], parsed["threads"]) == ("cpu", "1")


def test_another_precision_than_the_papers_is_in_the_title() -> None:
    rows = [row(), row(precision="bf16"), row(precision="tf32", protocol="soft")]
    titles = [
        "tiny: hard, resnet18, fp32, 28 px",
        "tiny: hard, bf16 (paper: fp32), resnet18, 28 px",
        "tiny: soft, tf32 (paper: fp32), resnet18, 28 px",
    ]
    for style, mark in (("table", ""), ("latex", "% ")):
        lines = render(rows, style).splitlines()
        assert [line for line in lines if "tiny" in line] == [mark + text for text in titles]
    assert [made["precision"] for made in json.loads(render(rows, "json"))] == ["fp32", "bf16", "tf32"]


def test_a_mean_over_different_machines_is_marked() -> None:
    rows = [row(machines=("NVIDIA A100", "NVIDIA H100")), row(method="pca", machines=("NVIDIA A100",))]
    note = "* el2n[keep=hard] ipc 10: mean over runs on different machines: NVIDIA A100, NVIDIA H100"
    plain_text, tex = render(rows, "table"), render(rows, "latex")
    assert "43.22 ± 0.50*" in plain_text
    assert plain_text.count("*") == 2  # pca's is of one model
    assert note in plain_text.splitlines()
    assert r"43.22 $\pm$ 0.50*" in tex
    assert f"% {note}" in tex.splitlines()
    assert json.loads(render(rows, "json"))[0]["machines"] == ["NVIDIA A100", "NVIDIA H100"]


def test_inferred_settings_are_one_note_for_each_method() -> None:
    rows = [row(method="pca", ipc=ipc, inferred=("grid", "fit")) for ipc in (10, 50)]
    rows.append(row(method="mine", inferred=("window",)))
    for style, mark in (("table", ""), ("latex", "% ")):
        lines = render(rows, style).splitlines()
        assert lines.count(f"{mark}pca: grid, fit are inferred, not published") == 1
        assert lines.count(f"{mark}mine: window is inferred, not published") == 1
    assert json.loads(render(rows, "json"))[0]["inferred"] == ["grid", "fit"]
    assert next(csv.DictReader(io.StringIO(render(rows, "csv"))))["inferred"] == "grid,fit"


def test_a_table_of_own_bytes_and_encoded_images_states_both() -> None:
    peer, mine = row(method="peer", external="beton peer.beton, raw pixels"), row(method="mine", external="list k.npy")
    words = "storage: peer: own bytes, as imported; other rows: JPEG of quality 75, 4:2:0"
    assert words in render([peer, mine], "table")
    assert words in render([row(), peer], "latex")
    assert "storage:" not in render([row(), mine], "table")
    assert "storage:" not in render([peer], "table")


def test_recipes_are_tables_of_their_own_and_name_what_is_inferred() -> None:
    names = ["hard", "cad-hl", "cad-hl*epochs=60,momentum=0.5", "hard*mix=cutout", "from another version"]
    rows = [row(protocol=name, method=method) for name in names for method in ("el2n", "pca")]
    for style, mark in (("table", ""), ("latex", "% ")):
        lines = render(rows, style).splitlines()
        assert [line for line in lines if "tiny" in line] == [
            f"{mark}tiny: {name}, resnet18, fp32, 28 px" for name in names
        ]
        notes = [line for line in lines if "inferred" in line]
        assert notes == [
            f"{mark}protocol cad-hl: momentum, weight_decay, schedule's factor inferred, not published",
            f"{mark}protocol cad-hl*epochs=60,momentum=0.5: weight_decay, schedule's factor inferred, not published",
            f"{mark}protocol hard*mix=cutout: the side of cutout inferred, not published",
        ]


def test_the_observer_is_named_once_for_all_methods() -> None:
    rows = [row(method=method, observer="resnet18, schedule of 60 epochs, 224 px") for method in ("el2n", "aum")]
    lines = render(rows, "table").splitlines()
    assert lines.count("observer: resnet18, schedule of 60 epochs, 224 px") == 1
    assert json.loads(render(rows, "json"))[0]["observer"] == "resnet18, schedule of 60 epochs, 224 px"


ONLINE = {"protocol": "soft", "labels": "online", "label_bytes": 6_000_000_000, "teacher": "tutor"}
COSTS = {"compress_seconds": 200.0, "relabel_seconds": 30.0}


def test_labels_of_a_teacher_are_counted_separately_from_images() -> None:
    online = row(**ONLINE, **COSTS, teacher_seconds=1116.0, teacher_note="has seen the validation images")
    lines = render([online, row(method="pca", **FAILED, **ONLINE)], "table").splitlines()
    shown = "el2n[keep=hard] 10 43.22 ± 0.50 3 1,000 1.2 MB 6.0 GB not stored 3,000 3.3 min 30 s 75 s"
    assert " ".join(lines[3].split()) == shown
    assert lines[1].split()[-7:] == ["images", "size", "labels", "steps", "compress", "relabel", "train"]
    assert lines[4].split() == ["pca", "10", "failed", "0/3"]
    assert lines[6] == "teacher: tutor, trained in 18.6 min; has seen the validation images"
    assert lines[7].startswith(
        "Labels are not stored; their size is that of fp16 logits for every image and epoch. Training"
    )
    stored = {**ONLINE, "labels": "stored", "label_bytes": 150_000_000, "protocol": "soft*labels=stored"}
    text = render([row(**stored, **COSTS)], "table")
    assert " 150.0 MB  " in text
    assert "not stored" not in text
    assert "teacher: tutor, pretrained" in text
    assert (
        "labels stored: made once for each stored set" in text
    )  # not shared by all seeds: subset seeds have their own


def test_teachers_of_one_table_are_named_by_method() -> None:
    rows = [row(method=name, **ONLINE | {"teacher": teacher}) for name, teacher in (("pca", "a"), ("aum", "b"))]
    lines = render(rows, "table").splitlines()
    assert {"teacher of pca: a, pretrained", "teacher of aum: b, pretrained"} <= set(lines)


@pytest.mark.parametrize("changes", [{}, {**ONLINE, **COSTS}])
def test_tables_fit_a_terminal_of_112_columns(changes: dict[str, object]) -> None:
    wide = row(method="facility_location", steps=30_000, train_seconds=600.0, **changes)
    assert max(map(len, render([wide], "table").splitlines()[:4])) <= 112


def test_networks_that_a_method_runs_count_with_its_observer() -> None:
    lines = render([row(method="sre2l", networks_seconds=60.0, observer_seconds=0.0)], "table").splitlines()
    assert lines[1].split()[-4:] == ["networks", "scoring", "selection", "train"]
    assert lines[3].split()[-8:-6] == ["60", "s"]


def test_a_reduced_run_is_marked() -> None:
    reduced = ("200 iterations instead of 4000", "batch 10 instead of 100")
    rows = [row(method="sre2l", ipc=ipc, reduced=reduced) for ipc in (10, 50)]
    expected = "sre2l: reduced: 200 iterations instead of 4000, batch 10 instead of 100"
    assert render(rows, "table").splitlines().count(expected) == 1
    assert render(rows, "latex").splitlines().count(f"% {expected}") == 1
    assert json.loads(render(rows, "json"))[0]["reduced"] == list(reduced)


def test_durations_are_short() -> None:
    rows = [row(observer_seconds=180.0, train_seconds=9000.0)]
    assert render(rows, "table").splitlines()[3].split()[-8:] == ["3.0", "min", "3.2", "s", "0.25", "s", "2.5", "h"]


def test_json_holds_every_field_and_null_for_what_is_missing() -> None:
    (parsed,) = json.loads(render([row(ipc=None, top1_std=None)], "json"))
    assert set(parsed) == set(Row.model_fields)
    assert (parsed["ipc"], parsed["top1_std"], parsed["top1_mean"]) == (None, None, 43.219)
    assert json.loads(render([], "json")) == []


HOSTILE = [
    '=cmd|"/c calc"!A1',
    "@x",
    "-1+1",
    "[red]x[/red]",
    "\x1b[31mred\x1b[0m",
    "a\nb",
    "</script>",
    "\u202eevil",
    "x,y",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_escaped_in_every_format(name: str) -> None:
    rows = [row(method=name, dataset=name, **FAILED | {"reason": name})]
    (parsed,) = csv.DictReader(io.StringIO(render(rows, "csv")))
    assert parsed["method"].lstrip("'") == plain(name)
    assert not parsed["method"].startswith(("=", "+", "-", "@"))
    assert json.loads(render(rows, "json"))[0]["method"] == name
    for style in ("table", "latex", "csv"):
        text = render(rows, style)
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "[red]" not in name or "[red]x[/red]" in render(rows, "table")


def test_csv_and_latex_escapes() -> None:
    assert csv_text("=1+1") == "'=1+1"
    assert csv_text("\uff1d1+1") == "'\uff1d1+1"
    assert latex('a"b') == r"a\symbol{34}b"
    assert csv_text("random") == "random"
    assert latex(r"a_b&50% #1 $x$ {y} \z ~ ^") == (
        r"a\_b\&50\% \#1 \$x\$ \{y\} \textbackslash{}z \textasciitilde{} \textasciicircum{}"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX (apt-get install texlive-latex-recommended)")
def test_latex_compiles(tmp_path: Path) -> None:
    names = [name for name in [*HOSTILE, "*x", '"', r"\input{/etc/passwd}", "a_b^c~d#e$f&g|h<i>"] if name.isascii()]
    rows = [row(method=name, dataset=name, top1_mean=40.0 + number) for number, name in enumerate(names)]
    text = render([*rows, row(method="last", **FAILED)], "latex")
    page = r"\documentclass{article}\usepackage{booktabs}\begin{document}{}" + f"\n{text}\n" + r"\end{document}"
    page = page.replace(r"\begin{tabular}", "\n\n\\begin{tabular}")
    (tmp_path / "page.tex").write_text(page)
    command = ["pdflatex", "-interaction=batchmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert done.returncode == 0, (tmp_path / "page.log").read_text()[-2000:]


@pytest.mark.parametrize("name", ["[red]x[/red]", "*x"])
def test_a_name_is_never_an_argument_of_the_line_before(name: str) -> None:
    """LaTeX looks beyond `\\\\` for `[...]` or `*`; the former made it hang."""
    assert f"{{}}{name} & 10" in render([row(), row(method=name)], "latex")


def test_latex_is_a_tabular_per_table() -> None:
    text = render([row(), row(protocol="soft")], "latex")
    assert text.count(r"\begin{tabular}{lrrrrrrrrrrr}") == text.count(r"\end{tabular}") == 2
    assert r"el2n[keep=hard] & 10 & 43.22 $\pm$ 0.50 & 3 & 1,000 & 1.2 MB" in text


SHOW = """
import json, sys
from fastdc.report import Row, show
show([Row(**values) for values in json.loads(sys.argv[1])])
"""


def on_terminal(rows: list[Row], columns: int, **environment: str) -> str:
    """Return what `show` prints on a terminal of this width."""
    import fcntl
    import struct
    import termios

    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    command = [sys.executable, "-c", SHOW, json.dumps([item.model_dump() for item in rows])]
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "TERM")}
    done = subprocess.Popen(command, stdout=terminal, env={**clean, "TERM": "xterm", **environment})
    os.close(terminal)
    output = b""
    while True:
        try:
            output += os.read(main, 65536)
        except OSError:  # the other side has closed
            break
    os.close(main)
    assert done.wait(30) == 0
    return output.decode()


def test_a_terminal_gets_a_table_with_names_as_they_are() -> None:
    text = on_terminal([row(method="[red]x[/red]"), row(method="gone", **FAILED)], 120)
    assert "[red]x[/red]" in text
    assert "\x1b[31m" in text  # the failed row is red, not the name
    assert "43.22 ± 0.50" in text


def test_a_narrow_or_dumb_terminal_gets_complete_numbers_without_colours() -> None:
    for text in (on_terminal([row()], 40), on_terminal([row()], 120, TERM="dumb")):
        assert "\x1b" not in text
        assert "43.22 ± 0.50" in text


def test_no_color_is_respected() -> None:
    assert "\x1b[31m" not in on_terminal([row(**FAILED)], 120, NO_COLOR="1")
