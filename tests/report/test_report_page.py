"""The HTML page: its contents, and that hostile text cannot run in it."""

import base64
import io
import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastdc.beton import BetonFile, Sample, encode_jpeg, write_samples
from fastdc.cli import main as cli
from fastdc.common.errors import ConfigError, OutputError, StoreError
from fastdc.report.page import gallery
from fastdc.report.page.document import make_page, write_page
from fastdc.sweep.cell_runner import DETAIL_FIELDS, CellRunner
from fastdc.sweep.cells import make_plan
from fastdc.sweep.store.results import Store
from fastdc.sweep.store.transitions import Planned
from fastdc.sweep.sweep_config import SweepConfig
from tests.conftest import Betons

EVIL = "</script><b onclick=alert(1)>\u202e'\"{{7*7}}"


SUBSETS = {"random": "0a" * 6, EVIL: "0b" * 6, "el2n[keep=hard]": "0c" * 6, "herding": "0d" * 6, "full": "../../../etc"}


def label(method: str, seed: int, **changes: Any) -> dict[str, Any]:
    values = {
        "dataset": "tiny",
        "method": method,
        "ipc": 10,
        "protocol": "hard-small",
        "arch": "convnet_w32",
        "precision": "fp32",
        "augment": "method",
        "image_size": 28,
        "device": "cpu",
        "threads": 1,
        "seed": seed,
        "inferred": [],
        "reduced": [],
        "observer": None,
        "subset": SUBSETS.get(method, "*"),
    } | changes
    axes = [str(values[name]) for name in ("dataset", "method", "ipc", "protocol", "arch", "image_size")]
    return values | {"group": "/".join(axes)}


def summary(top1: float, **changes: Any) -> dict[str, Any]:
    cost = {"observer": 10.0, "teacher": 0.0, "scoring": 1.0, "selection": 0.5, "writing": 0.25}
    values = {"top1": top1, "top1_best": top1 + 1, "top5": None, "epochs": 20, "steps": 3000, "images": 30}
    return values | {"image_bytes": 30_000, "label_bytes": 30, "train_seconds": 2.0, "cost": cost} | changes


def detail(top1: float) -> dict[str, Any]:
    curve = [{"epoch": k, "lr": 1e-3, "loss": 2.0 / (k + 1), "top1": top1 if k % 5 == 4 else None} for k in range(20)]
    return {"per_class": [top1 - 9, top1, top1 + 9], "curve": curve, "environment": {"fastdc": "0.1.0", "torch": "2"}}


class Sweep:
    """Store filled through its own methods."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store, self.count = folder, Store(folder / "store.sqlite"), 0

    def add(self, method: str, seed: int, top1: float | None, outcome: Any = "done", **changes: Any) -> None:
        key = f"key{self.count}"
        self.count += 1
        only = {
            name: changes.pop(name)
            for name in ("labels", "teacher", "image_bytes", "label_bytes", "cost", "machine")
            if name in changes
        }
        skip = changes.pop("skip", None)
        self.store.register([Planned(key, key, label(method, seed, **changes), skip)])
        if outcome == "pending" or skip:
            return
        lease = self.store.claim(key)
        assert lease is not None
        if top1 is None:
            self.store.finish(lease, outcome, reason=f"loss of {EVIL} is nan")
        else:
            self.store.finish(lease, "done", summary=summary(top1, **only), detail=detail(top1))


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """Fill a store: two protocols, two architectures, three IPC, every state, hostile names."""
    folder = tmp_path / "a <i>sweep"
    folder.mkdir()
    made = Sweep(folder)
    for seed in range(3):
        made.add("random", seed, 40.0 + seed)
        made.add("el2n[keep=hard]", seed, 55.0 + seed)
        made.add(EVIL, seed, 56.0 + seed, arch="resnet18", dataset=EVIL)
        made.add("random", seed, 60.0 + seed, ipc=50, subset="0e" * 6)
        made.add("random", seed, 50.0 + seed, protocol="soft-small", labels="online", teacher=EVIL, label_bytes=10**9)
    made.add("herding", 0, 47.0)
    made.add("herding", 1, None, "diverged")
    made.add("tdds", 0, None, "failed")
    made.add("dual", 0, None, skip=f"needs {EVIL}")
    made.add("aum", 0, None, "pending")
    made.add("full", 0, 85.0, ipc=None)
    write_subset(folder, f"random-ipc10-{SUBSETS['random']}")
    write_subset(folder, f"evil-ipc10-{SUBSETS[EVIL]}", "raw")
    damaged = write_subset(folder, f"herding-ipc10-{SUBSETS['herding']}")
    with damaged.open("r+b") as handle:  # one bit of the first image
        at = int(BetonFile(damaged).offsets[0]) + 40
        handle.seek(at)
        byte = handle.read(1)[0]
        handle.seek(at)
        handle.write(bytes([byte ^ 1]))
    return made


def write_subset(folder: Path, name: str, kind: str = "jpg", classes: int = 3, side: int = 28) -> Path:
    """Write four images of each class, each in a different grey."""
    (folder / "subsets").mkdir(exist_ok=True)
    out = folder / "subsets" / f"{name}.beton"
    pixels = [np.full((side, side, 3), 20 + 10 * number, np.uint8) for number in range(4 * classes)]
    samples = (
        Sample(image if kind == "raw" else encode_jpeg(image), number // 4, f"{EVIL}/{number}")
        for number, image in enumerate(pixels)
    )
    names = [f"{EVIL}{number}" for number in range(classes)]
    write_samples(out, samples, classes=names, dataset="tiny", split="train", source="test", made={})
    return out


class Parsed(HTMLParser):
    """Parser that collects elements by name, and the text of table rows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[str] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag != "tr"

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1] += f" {data.strip()}"


def test_leaderboard_shows_mean_spread_count_and_groups(sweep: Sweep) -> None:
    rows = [" ".join(text.split()) for text in Parsed(make_page(sweep.store, sweep.folder)).rows]
    first = next(text for text in rows if text.startswith("el2n[keep=hard]"))
    assert first == "el2n[keep=hard] 56.00 ± 1.00 3 a 1-2 30.0 kB 30 B 12 s 2.0 s 3,000"
    assert any(text.startswith("random 41.00 ± 1.00 3 b 1-2") for text in rows)
    partial = next(text for text in rows if text.startswith("herding"))
    assert partial.startswith("herding 47.00 1/2 \u2013 \u2013")  # one run of two: marked, in no group, ranked nowhere
    assert any(text.startswith("random 51.00 ± 1.00 3 a \u2013 30.0 kB 1.0 GB not stored") for text in rows)
    for method, state in (("tdds", "failed"), ("dual", "skipped"), ("aum", "pending")):
        assert any(text.startswith(f"{method} {state} 0/1") for text in rows)


def test_places_equal_those_of_the_ranking(tmp_path: Path) -> None:
    made = Sweep(tmp_path)
    for seed in range(8):
        for method, top1 in (("random", 40.0), ("pca", 48.0), ("rded", 47.9 + (seed % 2) / 2)):
            made.add(method, seed, top1 + seed / 10)
    made.add("herding", 0, 47.0)
    rows = [" ".join(text.split()) for text in Parsed(make_page(made.store, tmp_path)).rows]
    for start in (
        "rded 48.50 ± 0.40 8 a 1-2 ",
        "pca 48.35 ± 0.24 8 a 1-2 ",
        "random 40.35 ± 0.24 8 b 3 ",
        "herding 47.00 1 \u2013 \u2013 ",
    ):
        assert any(text.startswith(start) for text in rows), (start, rows)


def test_hostile_text_is_escaped(sweep: Sweep) -> None:
    page = make_page(sweep.store, sweep.folder)
    parsed = Parsed(page)
    assert [name for name, _ in parsed.elements].count("script") == 1
    assert not {"b"} & {name for name, values in parsed.elements if values}  # <b> with an attribute is EVIL's
    assert not [name for _, values in parsed.elements for name in values if name.startswith("on") or name == "style"]
    assert "\u202e" not in page
    assert "{{7*7}}" in page  # shown, never evaluated as a template


def test_another_precision_and_other_machines_are_marked(tmp_path: Path) -> None:
    made = Sweep(tmp_path)
    for seed, machine in enumerate(("NVIDIA A100", "NVIDIA H100")):
        made.add("random", seed, 40.0 + seed, precision="bf16", machine=machine)
    page = make_page(made.store, tmp_path)
    assert "<h2>tiny: hard-small, bf16 (paper: fp32), convnet_w32, 28 px</h2>" in page
    assert '<span class="std">± 0.71*</span>' in page
    assert "* random ipc 10: mean over runs on different machines: NVIDIA A100, NVIDIA H100" in page


def test_page_without_results(tmp_path: Path) -> None:
    with Store(tmp_path / "store.sqlite") as store:
        assert "No results yet" in make_page(store, tmp_path)


def test_only_a_page_is_replaced(sweep: Sweep, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    size = write_page(sweep.store, sweep.folder, out)
    assert out.stat().st_size == size
    write_page(sweep.store, sweep.folder, out)
    other = tmp_path / "thesis.html"
    other.write_text("<!doctype html>mine")
    with pytest.raises(OutputError, match="exists already and is not a page of fastdc; give --html another name"):
        write_page(sweep.store, sweep.folder, other)  # and no mention of --force, which `report` lacks
    with pytest.raises(OutputError):
        write_page(sweep.store, sweep.folder, sweep.folder / "store.sqlite")
    assert other.read_text() == "<!doctype html>mine"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(
        OutputError, match="exists already and is not a page"
    ):  # neither read, which hangs, nor replaced
        write_page(sweep.store, sweep.folder, pipe)
    assert pipe.is_fifo()


def test_command_writes_the_page_and_keeps_stdout_json(sweep: Sweep, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    sweep.store.close()
    command = [
        sys.executable,
        "-m",
        "fastdc.cli.main",
        "report",
        str(sweep.folder),
        "--format",
        "json",
        "--html",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)) > 5
    assert str(out) in done.stderr
    assert out.read_bytes().startswith(b"<!doctype html>")


def images_of(page: str) -> list[tuple[str, bytes]]:
    """Return kind and bytes of every image of the page, in order."""
    found = [str(values["src"]) for name, values in Parsed(page).elements if name == "img"]
    return [(text[11 : text.index(";")], base64.b64decode(text.partition(",")[2])) for text in found]


def test_gallery_shows_the_stored_bytes(sweep: Sweep) -> None:
    page = make_page(sweep.store, sweep.folder)
    shown = images_of(page)
    assert len(shown) == 2 * 12  # random and the hostile one; 3 classes of 4 images
    beton = BetonFile(sweep.folder / "subsets" / f"random-ipc10-{SUBSETS['random']}.beton")
    assert [data for kind, data in shown if kind == "jpeg"] == [bytes(beton.payload(index)) for index in range(12)]
    pixels = [np.asarray(Image.open(io.BytesIO(data))) for kind, data in shown if kind == "png"]
    assert [int(image[5, 5, 0]) for image in pixels] == [20 + 10 * number for number in range(12)]
    assert f"herding: not shown: subsets/herding-ipc10-{SUBSETS['herding']}.beton: sample 0: damaged" in page
    assert str(sweep.folder.parent) not in page


def test_the_folder_of_stored_sets_is_listed_once(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """A separate search for each set took minutes among 10,000 of them."""
    glob, listed = Path.glob, []
    monkeypatch.setattr(Path, "glob", lambda path, pattern: (listed.append(path), glob(path, pattern))[1])
    assert images_of(make_page(sweep.store, sweep.folder))
    assert listed == [sweep.folder / "subsets"]


def test_gallery_stays_within_its_budget(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = images_of(make_page(sweep.store, sweep.folder))
    budget = sum(len(data) for _, data in whole) // 3
    monkeypatch.setattr(gallery, "BUDGET", budget)
    few = images_of(make_page(sweep.store, sweep.folder))
    assert len({kind for kind, _ in few}) == 2  # fewer images of every method, not fewer methods
    assert sum(len(data) for _, data in few) <= budget
    monkeypatch.setattr(gallery, "BUDGET", 1)
    full = make_page(sweep.store, sweep.folder)
    assert images_of(full) == []
    assert "the page is full" in full


def test_large_images_are_shown_smaller(tmp_path: Path) -> None:
    made = Sweep(tmp_path)
    made.add("random", 0, 40.0)
    write_subset(tmp_path, f"random-ipc10-{SUBSETS['random']}", "raw", classes=1, side=300)
    sizes = [Image.open(io.BytesIO(data)).size for _, data in images_of(make_page(made.store, tmp_path))]
    assert sizes == [(256, 256)] * 4


def test_sets_of_another_size_are_shown_and_missing_ones_named(tmp_path: Path) -> None:
    made = Sweep(tmp_path)
    made.add("random", 0, 40.0)
    made.add("random", 0, 41.0, image_size=64, subset="0e" * 6)
    made.add("herding", 0, 42.0)
    made.add("aum", 0, None, "pending")
    write_subset(tmp_path, f"random-ipc10-{SUBSETS['random']}")
    write_subset(tmp_path, f"random-ipc10-{'0e' * 6}", side=64)
    page = make_page(made.store, tmp_path)
    sizes = {Image.open(io.BytesIO(data)).size for _, data in images_of(page)}
    assert sizes == {(28, 28), (64, 64)}
    assert "tiny, 10 images per class, 64 px" in page
    assert page.count("herding: not shown: its stored set is no longer in subsets/") == 1
    assert "aum: not shown" not in page


def test_a_stored_set_without_its_manifest_is_named(tmp_path: Path) -> None:
    made = Sweep(tmp_path)
    made.add("random", 0, 40.0)
    write_subset(tmp_path, f"random-ipc10-{SUBSETS['random']}")
    (tmp_path / "subsets" / f"random-ipc10-{SUBSETS['random']}.json").unlink()
    page = make_page(made.store, tmp_path)
    found = re.findall(r"random: not shown: [^<]*", page)
    assert len(found) == 1
    assert "manifest of" in found[0]
    assert "is missing" in found[0]


@pytest.mark.parametrize("damage", ["[NaN, 1, 2]", '["x"]', "7"])
def test_damaged_details_are_one_line_that_names_the_run(tmp_path: Path, damage: str) -> None:
    made = Sweep(tmp_path)
    made.add("random", 0, 40.0)
    with made.store._transaction() as db:
        db.execute("DELETE FROM results")
        values = (json.dumps(summary(40.0)), json.dumps(detail(40.0) | {"per_class": json.loads(damage)}))
        db.execute("INSERT INTO results VALUES ('key0', ?, ?)", values)
    with pytest.raises(StoreError, match=r"^run key0: what the store holds of it"):
        make_page(made.store, tmp_path)


@pytest.mark.parametrize("label", ["{", "[]", "7", "{}", '{"group": "g", "seed": "x"}'])
def test_a_damaged_label_is_one_line_and_exit_2(tmp_path: Path, label: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = Sweep(tmp_path)
    made.add("random", 0, None, "pending")
    with made.store._transaction() as db:
        db.execute("UPDATE runs SET label = ?", (label,))
    assert cli.run(["report", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert "damaged" in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_accuracy_by_class_is_the_difference_to_random(sweep: Sweep) -> None:
    rows = [" ".join(text.split()) for text in Parsed(make_page(sweep.store, sweep.folder)).rows]
    assert "random 32 41 50" in rows  # means of 3 runs; the classes of the fixture differ by 9 points
    assert "el2n[keep=hard] +15.0 +15.0 +15.0" in rows
    assert "herding +6.0 +6.0 +6.0" in rows


def test_without_random_the_mean_of_all_is_the_reference(tmp_path: Path) -> None:
    made = Sweep(tmp_path)
    made.add("el2n", 0, 40.0)
    made.add("herding", 0, 50.0)
    rows = [" ".join(text.split()) for text in Parsed(make_page(made.store, tmp_path)).rows]
    assert "the mean of all methods 36 45 54" in rows
    assert "el2n \u22125.0 \u22125.0 \u22125.0" in rows


def test_a_store_of_ten_thousand_rows_is_quick(tmp_path: Path) -> None:
    """CPU time, not wall time: the machine may be busy."""
    store = Store(tmp_path / "store.sqlite")
    planned = [
        Planned(f"k{n}", f"k{n}", label(f"method{n % 40}", n // 40 % 3, ipc=1 + n // 120), None) for n in range(10_000)
    ]
    store.register(planned)
    with store._transaction() as db:  # finishing the runs is not timed here
        db.execute("UPDATE runs SET state = 'done'")
        rows = [(f"k{n}", json.dumps(summary(n % 97)), json.dumps(detail(n % 97))) for n in range(10_000)]
        db.executemany("INSERT INTO results VALUES (?, ?, ?)", rows)
    start = time.process_time()
    page = make_page(store, tmp_path)
    assert time.process_time() - start < 10
    assert page.count("<tr") > 3300
    assert len(page) < 20_000_000


def test_the_best_and_its_equals_are_bold(tmp_path: Path) -> None:
    made = Sweep(tmp_path)
    for seed in range(3):
        made.add("best", seed, 60.0 + seed)
        made.add("near", seed, 59.5 + seed)
        made.add("far", seed, 30.0 + seed)
    page = make_page(made.store, tmp_path)
    assert "<b>61.00</b>" in page
    assert "<b>60.50</b>" in page
    assert "<b>31.00</b>" not in page


def test_a_missing_extra_is_one_sentence(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fastdc.report.page

    monkeypatch.delitem(sys.modules, "fastdc.report.page.document")
    monkeypatch.delattr(fastdc.report.page, "document")
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ConfigError, match=r"--html: needs jinja2, .*pip install '\.\[report\]'"):
        fastdc.report.write_page(sweep.store, sweep.folder, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_images_of_a_real_plan_are_found(betons: Betons, tmp_path: Path) -> None:
    """The names of subsets and details in a sweep are those that the page looks for."""
    config = SweepConfig(
        train=betons.train,
        val=betons.val,
        workdir=tmp_path,
        methods=("random",),
        ipc=(2,),
        seeds=(0, 1),
        protocols=("hard-small",),
        archs=("convnet1_w4",),
        image_size=28,
    )
    plan = make_plan(config, "cpu")
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
        runner = CellRunner(plan, store)
        for cell in plan.cells:
            assert cell.subset is not None
            runner.make_subset(cell.subset)
        page = make_page(store, tmp_path)
    first = plan.cells[0].subset
    assert first is not None
    beton = BetonFile(first.path)
    assert [data for _, data in images_of(page)] == [bytes(beton.payload(index)) for index in range(6)]
    assert "t-shirt" in page
    assert set(detail(40.0)) == set(DETAIL_FIELDS)
