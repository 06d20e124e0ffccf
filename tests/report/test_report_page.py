"""The HTML page: what it says, that nothing in it can run, and a real browser that opens it from disk."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fastdc.errors import OutputError
from fastdc.report.page import make_page, write_page
from fastdc.sweep.store import Planned, Store

EVIL = "</script><b onclick=alert(1)>\u202e'\"{{7*7}}"


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
    } | changes
    axes = [str(values[name]) for name in ("dataset", "method", "ipc", "protocol", "arch")]
    return values | {"group": "/".join(axes)}


def summary(top1: float, **changes: Any) -> dict[str, Any]:
    cost = {"observer": 10.0, "teacher": 0.0, "scoring": 1.0, "selection": 0.5, "writing": 0.25}
    values = {"top1": top1, "top1_best": top1 + 1, "top5": None, "epochs": 20, "steps": 3000, "images": 30}
    return values | {"image_bytes": 30_000, "label_bytes": 30, "train_seconds": 2.0, "cost": cost} | changes


def detail(top1: float) -> dict[str, Any]:
    curve = [{"epoch": k, "lr": 1e-3, "loss": 2.0 / (k + 1), "top1": top1 if k % 5 == 4 else None} for k in range(20)]
    return {"per_class": [top1 - 9, top1, top1 + 9], "curve": curve, "environment": {"fastdc": "0.1.0", "torch": "2"}}


class Sweep:
    """A store filled by hand, through the store's own calls."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store, self.count = folder, Store(folder / "store.sqlite"), 0

    def add(self, method: str, seed: int, top1: float | None, outcome: Any = "done", **changes: Any) -> None:
        key = f"key{self.count}"
        self.count += 1
        only = {
            name: changes.pop(name)
            for name in ("labels", "teacher", "image_bytes", "label_bytes", "cost")
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
    """Two protocols, two architectures, three IPC, every state, hostile names."""
    folder = tmp_path / "a <i>sweep"
    folder.mkdir()
    made = Sweep(folder)
    for seed in range(3):
        made.add("random", seed, 40.0 + seed)
        made.add("el2n[keep=hard]", seed, 55.0 + seed)
        made.add(EVIL, seed, 56.0 + seed, arch="resnet18", dataset=EVIL)
        made.add("random", seed, 60.0 + seed, ipc=50)
        made.add("random", seed, 50.0 + seed, protocol="soft-small", labels="online", teacher=EVIL, label_bytes=10**9)
    made.add("herding", 0, 47.0)
    made.add("herding", 1, None, "diverged")
    made.add("tdds", 0, None, "failed")
    made.add("dual", 0, None, skip=f"needs {EVIL}")
    made.add("aum", 0, None, "pending")
    made.add("full", 0, 85.0, ipc=None)
    return made


class Parsed(HTMLParser):
    """Elements by name, and the text of table rows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append("")

    def handle_data(self, data: str) -> None:
        if self.rows:
            self.rows[-1] += f" {data.strip()}"


def test_leaderboard_shows_mean_spread_count_and_groups(sweep: Sweep) -> None:
    rows = [" ".join(text.split()) for text in Parsed(make_page(sweep.store, sweep.folder)).rows]
    (first,) = (text for text in rows if text.startswith("el2n[keep=hard]"))
    assert first == "el2n[keep=hard] 56.00 ± 1.00 3 a 30.0 kB 30 B 12 s 2.0 s 3,000"
    assert any(text.startswith("random 41.00 ± 1.00 3 b") for text in rows)
    (partial,) = (text for text in rows if text.startswith("herding"))
    assert partial.startswith("herding 47.00 1/2 \u2013")  # one run of two: marked, and in no group
    assert any(text.startswith("random 51.00 ± 1.00 3 a 30.0 kB 1.0 GB not stored") for text in rows)
    for method, state in (("tdds", "failed"), ("dual", "skipped"), ("aum", "pending")):
        assert any(text.startswith(f"{method} {state} 0/1") for text in rows)


def test_hostile_text_stays_text(sweep: Sweep) -> None:
    page = make_page(sweep.store, sweep.folder)
    parsed = Parsed(page)
    assert [name for name, _ in parsed.elements].count("script") == 1
    assert not {"b"} & {name for name, values in parsed.elements if values}  # <b> with an attribute is EVIL's
    assert not [name for _, values in parsed.elements for name in values if name.startswith("on") or name == "style"]
    assert "\u202e" not in page
    assert "{{7*7}}" in page  # shown, never evaluated as a template


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
    with pytest.raises(OutputError, match="exists already"):
        write_page(sweep.store, sweep.folder, other)
    with pytest.raises(OutputError):
        write_page(sweep.store, sweep.folder, sweep.folder / "store.sqlite")
    assert other.read_text() == "<!doctype html>mine"


def test_command_writes_the_page_and_keeps_stdout_json(sweep: Sweep, tmp_path: Path) -> None:
    import json

    out = tmp_path / "page.html"
    sweep.store.close()
    command = [sys.executable, "-m", "fastdc.cli", "report", str(sweep.folder), "--format", "json", "--html", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)) > 5
    assert str(out) in done.stderr
    assert out.read_bytes().startswith(b"<!doctype html>")
