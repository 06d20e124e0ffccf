"""Requests for subsets, and subsets by the default observer of these tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastdc.beton import Manifest
from fastdc.methods import get_method
from fastdc.observe import ObserverConfig
from fastdc.subsets.compress import compress_beton
from fastdc.subsets.request import SubsetRequest
from fastdc.teachers.plan import TeacherPlan

OBSERVER = ObserverConfig(arch="convnet_w8", epochs=3, batch_size=32, lr=0.05, image_size=28, threads=1)
WINDOW = {"last_epoch": 3}


def compress(betons: Any, tmp_path: Path, method: str, out: str = "out.beton", **changes: Any) -> Path:
    options: dict[str, Any] = {
        "ipc": 2,
        "image_size": 28,
        "workdir": tmp_path / "work",
        "observer": OBSERVER,
        **changes,
    }
    compress_beton(method, betons.train, tmp_path / out, **options)
    return tmp_path / out


def subset_identity(
    method: str,
    settings: Mapping[str, Any],
    train_hash: str,
    ipc: int,
    seed: int,
    image_size: int,
    observer: ObserverConfig,
    teachers: Sequence[TeacherPlan] = (),
) -> dict[str, Any]:
    """Return the identity of a request's set; the training set enters only by its content hash."""
    chosen = get_method(method)
    return SubsetRequest(
        method=chosen,
        config=chosen.configure(settings),
        variant=method,
        train=Path("train.beton"),
        manifest=Manifest.model_construct(content_hash=train_hash),
        workdir=Path(),
        ipc=ipc,
        seed=seed,
        image_size=image_size,
        observer=observer,
        teachers=tuple(teachers),
    ).identity()
