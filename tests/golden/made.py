"""What is computed: bytes of betons and subsets, digits of trainings, and the forms in which results are kept."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import fastdc
from tests.golden import command, data
from tests.golden.keys import GRIDS, SHOWN
from tests.golden.record import cpu

SETS: dict[str, dict[str, Any]] = {
    "random": {"seed": 3},
    "random padded": {"seed": 3, "image_size": 20, "settings": {"fit": "pad"}},
    "full": {},
    "el2n": {"settings": {"keep": "hard"}},
    "ccs": {"seed": 1},
    "herding": {},
    "pca": {},
    "pca crops": {"settings": {"score": "random", "grid": 3, "whole": 0.25, "views": 2, "fit": "crop"}},
    "pact": {},
    "sre2l": {"settings": {"iterations": 4}},
    "rded": {},
    "cim": {},
    "fadrm": {"settings": {"iterations": 4}},
}
"""Subsets by a name whose first word is the method; further settings of `compress_beton`."""
BETONS: dict[str, dict[str, Any]] = {
    "raw": {"encoding": "raw"},
    "jpg": {"encoding": "jpg", "quality": 80},
    "shrunk": {"resolution": 20},
}
DIGITS = (
    "top1",
    "top1_best",
    "per_class",
    "curve",
    "steps",
    "image_bytes",
    "label_bytes",
    "labels",
    "label_file",
    "teacher",
    "subset",
)
"""What is kept of a result. Its other fields are settings, seconds, and the machine."""
SCORES = ("aum", "dual", "dyn_unc", "el2n", "entropy", "forgetting", "least_confidence", "margin")
LIBRARIES = ("torch", "torchvision", "numpy", "numba", "simplejpeg", "pillow")
"""On whose versions the digits depend."""


def record(work: Path) -> dict[str, Any]:
    """Return all values of this file; `work` is the current folder."""
    data.write_betons(data.write_photos(work / "photos"), work)
    values = {"betons": _betons(work), "subsets": _subsets(work)}
    sweep = command.run("sweep", GRIDS / "trained.yaml", "--log", "json")
    assert sweep.code == 0, sweep
    values |= {"trainings": _trainings(), "evaluate": _evaluate(), "scores": _scores(), "forms": _forms(sweep.err)}
    versions = {name: version(name).partition("+")[0] for name in LIBRARIES}
    return {"recorded with": {**versions, "cpu": cpu()}, **values}


def _betons(work: Path) -> dict[str, Any]:
    for name, options in BETONS.items():
        fastdc.write_beton(work / "photos", work / f"{name}.beton", split="val", **options)
    return {name: _beton(work / f"{name}.beton") for name in BETONS}


def _beton(path: Path) -> dict[str, Any]:
    """Return the bytes of a beton as a hash, and its manifest but for what names the release."""
    manifest = json.loads(path.with_suffix(".json").read_bytes())
    for long in ("ids", "hashes"):
        manifest[long] = f"{len(manifest[long])}: {_sha256(json.dumps(manifest[long]).encode())}"
    manifest["made"].pop("version", None)
    made = {name: json.dumps(value, sort_keys=True) for name, value in manifest.pop("made").items()}
    return {"sha256": _sha256(path.read_bytes()), **manifest, "made": made}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _subsets(work: Path) -> dict[str, Any]:
    observer = fastdc.ObserverConfig(arch="convnet1_w4", epochs=12, batch_size=16, lr=0.03, image_size=28, threads=1)
    common: dict[str, Any] = {"ipc": 2, "image_size": 28, "workdir": work / "observed", "threads": 1}
    found = {}
    for name, options in SETS.items():
        out = work / f"{name.replace(' ', '_')}.beton"
        method = name.partition(" ")[0]
        fastdc.compress_beton(method, work / "train.beton", out, observer=observer, **(common | options))
        found[name] = _subset(out)
    again = work / "again.beton"
    command.done("compress", "from-list", work / "pca.list.tsv", work / "train.beton", "--out", again)
    return {**found, "pca from its list": _beton(again)}


def _subset(out: Path) -> dict[str, Any]:
    listed = out.with_suffix(".list.tsv")
    return {**_beton(out), "list": _sha256(listed.read_bytes()) if listed.exists() else None}


def _trainings() -> dict[str, Any]:
    """Return every result of the sweep to the last digit."""
    query = "SELECT label, summary, detail FROM runs JOIN results USING (key)"
    found = {}
    for label, summary, detail in command.rows(Path("trained/store.sqlite"), query):
        name = " | ".join(str(json.loads(label)[part]) for part in SHOWN)
        found[name] = _digits({**json.loads(summary), **json.loads(detail)})
    return dict(sorted(found.items()))


def _digits(result: dict[str, Any]) -> dict[str, str]:
    return {name: json.dumps(result[name], sort_keys=True) for name in DIGITS if name in result}


def _evaluate() -> dict[str, Any]:
    """Return the digits of trainings by `fastdc evaluate --json`, and the names of their fields."""
    (weights,) = Path("observed").rglob("*.safetensors")
    given = ["--teacher", str(weights), "--workdir", "observed"]
    variants = {
        "hard": ["--protocol", "hard-small"],
        "teacher's file": ["--protocol", "soft-small", *given],
        "stored labels": ["--protocol", "soft-small", "--set", "labels=stored", "--set", "label_topk=2", *given],
    }
    return {name: _evaluated(options) for name, options in variants.items()}


def _evaluated(options: list[str]) -> dict[str, str]:
    how = ["--set", "epochs=3", "--arch", "convnet1_w4", "--threads", "1", *options, "--json", "--quiet"]
    result = json.loads(command.done("evaluate", "pca.beton", "--val", "val.beton", *how))
    return {**_digits(result), "fields": _fields(result)}


def _scores() -> dict[str, str]:
    """Return public scores of 40 samples over 12 epochs, and the samples that they select."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 10)
    logits = random.normal(size=(12, 40, 4)).astype(np.float32)
    logits[:, np.arange(40), labels] += 1
    scores = {name: fastdc.scores(name, logits, labels) for name in SCORES}
    kept = {f"{name} kept": fastdc.select(value, labels, ipc=2, keep="hard").tolist() for name, value in scores.items()}
    return {
        name: str(value)
        for name, value in ({name: value[:5].tolist() for name, value in scores.items()} | kept).items()
    }


def _forms(events: str) -> dict[str, Any]:
    """Return the schema of the store, and the names of fields in everything that programs read."""
    store = Path("trained/store.sqlite")
    pragmas = {name: command.rows(store, f"PRAGMA {name}")[0][0] for name in ("application_id", "user_version")}
    made = command.rows(store, "SELECT name, sql FROM sqlite_master WHERE sql NOT NULL ORDER BY name")
    report = json.loads(command.done("report", "trained", "--format", "json"))
    compared = json.loads(command.done("compare", "trained", "pca", "random", "--format", "json"))
    ranked = json.loads(command.done("rank", "trained", "--format", "json"))
    return {
        "store": {**pragmas, **{name: " ".join(sql.split()) for name, sql in made}},
        "store: fields of columns": _columns(store),
        "report --format json": _fields(report),
        "report --format csv": command.done("report", "trained", "--format", "csv").splitlines()[0],
        "compare --format json": _fields(compared),
        "rank --format json": _fields(ranked),
        "--log json": _events(events),
        "methods --json": _fields(json.loads(command.done("methods", "--json"))),
        "protocols --json": _fields(json.loads(command.done("protocols", "--json"))),
    }


def _columns(store: Path) -> dict[str, str]:
    columns = {"label": "runs", "summary": "results", "detail": "results", "provenance": "provenance"}
    found = {}
    for column, table in columns.items():
        values = command.rows(store, f"SELECT {column} FROM {table}")
        found[f"{table}.{column}"] = _fields([json.loads(value) for (value,) in values])
    return found


def _events(lines: str) -> dict[str, str]:
    found: dict[str, list[Any]] = {}
    for event in map(json.loads, lines.splitlines()):
        found.setdefault(event["event"], []).append(event)
    return {name: _fields(events) for name, events in sorted(found.items())}


def _fields(value: Any) -> str:
    """Return the names of the fields of an object, or of all objects of a list."""
    items = value if isinstance(value, list) else [value]
    return " ".join(sorted({name for item in items for name in item}))
