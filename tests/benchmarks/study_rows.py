"""A small study for tests: its YAML files, and labelled rows as sweeps write them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

OBSERVED = "resnet10, schedule of 30 epochs, 64 px"
STUDY: dict[str, Any] = {
    "train": "absent/train.beton",
    "val": "absent/val.beton",
    "workdir": "absent/run",
    "common": {
        "image_size": 64,
        "threads": 1,
        "precision": "fp32",
        "archs": ["resnet10"],
        "protocols": ["hard-small"],
        "observer": {"arch": "resnet10", "epochs": 30, "image_size": 64, "threads": 1, "precision": "fp32"},
    },
    "blocks": [
        {"name": "methods", "methods": ["random", "el2n", "pca"], "ipc": [10], "seeds": "0-9"},
        {"name": "whole set", "methods": ["full"], "seeds": "0-1", "set": {"full.protocol.epochs": 30}},
    ],
}
COLUMN = {"protocol": "hard-small", "arch": "resnet10", "augment": "method", "image_size": 64, "precision": "fp32"}
QUESTIONS: dict[str, Any] = {
    "column": {**COLUMN, "ipc": 10},
    "questions": [
        {
            "id": "a",
            "title": "Which order holds?",
            "tables": [
                {
                    "methods": ["random", "el2n", "el2n[*]", "pca", "full"],
                    "where": {"protocol": ["hard-small", "hard-small[*]epochs=30"], "augment": "method"},
                    "baseline": "random",
                    "curves": True,
                }
            ],
            "contrasts": [{"name": "pruning", "a": "el2n", "b": "random"}],
        },
        {"id": "h", "title": "How unsure?", "entropy": ["random", "pca"]},
    ],
}
CLAIMS: dict[str, Any] = {
    "column": {**COLUMN, "ipc": 10},
    "claims": [
        {"name": "pca-random", "statement": "PCA beats random images", "a": "pca", "b": "random"},
        {"name": "random-el2n", "statement": "Random images beat easy ones", "a": "random", "b": "el2n"},
        {"name": "pca-el2n", "statement": "PCA beats easy images", "a": "pca", "b": "el2n"},
        {"name": "ours-pca", "statement": "Ours beats PCA", "a": "ours", "b": "pca"},
    ],
}


def row(method: str, seed: int, top1: float, ipc: int | None = 10, group: str = "", **label: Any) -> dict[str, Any]:
    """Return a finished run as in rows.jsonl."""
    observed = method.startswith(("el2n", "pca")) and "score=random" not in method
    labels = {
        "dataset": "toys",
        "method": method,
        "ipc": ipc,
        "protocol": "hard-small",
        "arch": "resnet10",
        "precision": "fp32",
        "augment": "method",
        "image_size": 64,
        "device": "cpu",
        "threads": 1,
        "batch": 10,
        "steps": 3000,
        "seed": seed,
        "subset": "abc",
        "observer": OBSERVED if observed else None,
        "inferred": ["grid"] if method == "pca" else [],
        "reduced": ["50 iterations instead of 1000"] if method.startswith("sre2l") else [],
        **label,
    }
    labels["group"] = f"{method}{ipc}{labels['protocol']}{labels['augment']}{labels['observer']}{group}"
    summary = {
        "top1": top1,
        "top1_best": top1 + 1,
        "top5": None,
        "epochs": 300,
        "steps": 3000,
        "images": 100,
        "image_bytes": 1000 + seed,
        "label_bytes": 100,
        "train_seconds": 2.0,
        "labels": "hard",
        "teacher": None,
        "teacher_seconds": 0.0,
        "cost": {"observer": 9.0 if observed else 0, "teacher": 7.0 if method.startswith("sre2l") else 0.0},
    }
    curve = [{"epoch": 0, "top1": top1 / 2}, {"epoch": 299, "top1": top1}]
    provenance = {
        "started": f"2026-11-29T23:0{group or 0}:35Z",
        "device_name": "CPU",
        "git": "0123456789abcdef",
        "fastdc": "0.2.0",
        "threads": 1,
    }
    return {
        "key": f"{labels['group']}/{seed}",
        "axes": f"{method}/{ipc}/{labels}",
        "label": labels,
        "summary": summary,
        "detail": {"curve": curve, "per_class": [top1]},
        "provenance": provenance,
    }


def rows_of(method: str, accuracies: Iterable[float], **label: Any) -> list[dict[str, Any]]:
    """Return one row for each accuracy, with seeds from 0 up."""
    return [row(method, seed, top1, **label) for seed, top1 in enumerate(accuracies)]


def write_study(folder: Path, rows: Iterable[dict[str, Any]] = (), **changes: dict[str, Any]) -> Path:
    """Write a study's files; keywords replace keys of `study`, `questions` or `claims`."""
    for name, content in {"study": STUDY, "questions": QUESTIONS, "claims": CLAIMS}.items():
        text = json.dumps({**content, **changes.get(name, {})}, indent=1)  # which YAML contains
        (folder / f"{name}.yaml").write_text(text)
    (folder / "rows.jsonl").write_text("".join(json.dumps(each, sort_keys=True) + "\n" for each in rows))
    return folder
