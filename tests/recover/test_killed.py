"""A recovery killed by the system during `compress`: it resumes and ends in the same bytes."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fastdc.observe import ObserverConfig
from fastdc.subsets.compress import compress_beton

CODE = """
import sys
from pathlib import Path
from tests.recover.test_killed import compress
compress(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def compress(train: Path, workdir: Path) -> Path:
    out = workdir / "subset.beton"
    compress_beton(
        "sre2l",
        train,
        out,
        ipc=4,
        image_size=28,
        settings={"iterations": 60, "batch_size": 3, "jitter": 2},
        workdir=workdir,
        observer=ObserverConfig(arch="convnet_w8", epochs=1, image_size=28, precision="fp32", threads=1),
        precision="fp32",
        threads=1,
    )
    return out


def finished_batches(workdir: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (workdir / "making").rglob("batch_*.npy")}


def test_killed_compress_resumes_and_leaves_nothing_behind(betons: Any, tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    whole.mkdir()
    child = subprocess.Popen([sys.executable, "-c", CODE, str(betons.train), str(killed)], stderr=subprocess.PIPE)
    while not finished_batches(killed):
        assert child.poll() is None, child.stderr and child.stderr.read().decode()
        time.sleep(0.002)
    child.kill()
    child.communicate()
    kept = finished_batches(killed)
    assert 1 <= len(kept) < 4
    assert [path.name for path in killed.glob("subset*")] == []
    start = time.time_ns()
    resumed = compress(betons.train, killed)
    assert max(kept.values()) < start  # by the child; its finished batches were not made again, see test_engine
    assert resumed.read_bytes() == compress(betons.train, whole).read_bytes()
    assert list((killed / "making").iterdir()) == []
