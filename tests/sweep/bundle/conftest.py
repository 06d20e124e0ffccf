"""A real sweep on the tiny set, its bundle, and bundles with changed contents."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastdc.sweep.bundle.bundle_archive import read_archive, write_archive
from fastdc.sweep.bundle.pack_bundle import write_bundle
from fastdc.sweep.run_cells import run_sweep
from fastdc.sweep.sweep_config import SweepConfig

Change = Callable[[dict[str, bytes]], None]


@pytest.fixture(scope="session")
def ran(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a sweep of random, a scored method and the whole set, with one failed run; return its folder."""
    folder = tmp_path_factory.mktemp("ran") / "first"
    config = SweepConfig(
        train=tiny / "train.beton",
        val=tiny / "val.beton",
        workdir=folder,
        methods=("random", "entropy", "full"),
        ipc=(2,),
        seeds=(0, 1),
        protocols=("hard-small*epochs=2",),
        archs=("convnet1_w4",),
        observer={"arch": "convnet1_w4", "epochs": 1, "batch_size": 32},
        image_size=28,
        threads=1,
        set={"full": {"protocol.epochs": 1}},
    )
    _, outcome = run_sweep(config, show_progress=False)
    assert outcome.states == {"done": 6}
    diverged = config.model_copy(
        update={"methods": ("random",), "seeds": (0,), "protocols": ("hard-small*epochs=2,lr=1e30",)}
    )
    _, outcome = run_sweep(diverged, show_progress=False)
    assert outcome.states == {"diverged": 1}
    return folder


@pytest.fixture(scope="session")
def packed(ran: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bundle of `ran`."""
    out = tmp_path_factory.mktemp("packed") / "first.zip"
    write_bundle(ran, out)
    return out


@pytest.fixture
def changed(packed: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """Return a function that writes a bundle with other contents, and a matching index unless that is changed too."""

    def write(change: Change, name: str = "changed.zip") -> Path:
        members = {member.name: b"".join(member.pieces) for member in read_archive(packed)}
        before = dict(members)
        change(members)
        index: dict[str, Any] = json.loads(members["bundle.json"])
        if members["bundle.json"] == before["bundle.json"]:
            index["files"] = {
                each: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for each, data in members.items()
                if each != "bundle.json"
            }
            members["bundle.json"] = json.dumps(index).encode()
        write_archive(tmp_path / name, members)
        return tmp_path / name

    return write


def names_in(path: Path) -> list[str]:
    """Return the names of a zip's members, as Python lists them."""
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()
