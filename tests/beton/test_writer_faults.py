"""Faults during a write: a clear error, the old file untouched, nothing left behind, no hang."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from fastdc.beton import Sample, load_manifest, verify_beton, write_beton, write_samples
from fastdc.common.errors import ManifestError, OutputError, SourceError

pytestmark = pytest.mark.timeout(60)

ORIGIN = {"dataset": "test", "split": None, "source": "memory", "made": {}}
SLOW_WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from fastdc.beton import Sample, write_samples

def samples():
    for index in range(1000):
        yield Sample(np.full((200, 200, 3), index % 256, np.uint8), 0, f"{index}")
        if index == 5:
            print("writing", flush=True)
        time.sleep(0.01 if index > 4 else 0)

origin = {"dataset": "test", "split": None, "source": "memory", "made": {}}
write_samples(Path(sys.argv[1]), samples(), classes="a", force=True, **origin)
"""


def write_old(path):
    return write_samples(path, [Sample(np.zeros((3, 3, 3), np.uint8), 0, "old")], classes="a", **ORIGIN)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_write_is_repeated_by_the_same_command(tmp_path, start_python):
    path = tmp_path / "x.beton"
    old = write_old(path)
    process = start_python(SLOW_WRITER, path)
    assert process.stdout.readline() == "writing\n"
    process.kill()
    process.wait(10)
    assert load_manifest(path) == old
    assert verify_beton(path, deep=True) == []
    assert any(name.endswith(".tmp") for name in names(tmp_path))  # a killed process cannot clean up
    new = [Sample(np.ones((3, 3, 3), np.uint8), 0, "new")]
    manifest = write_samples(path, new, classes="a", force=True, **ORIGIN)
    assert load_manifest(path) == manifest
    assert names(tmp_path) == ["x.beton", "x.json"]  # but the next writer does


def test_kill_9_of_the_first_write_leaves_no_output(tmp_path, start_python):
    process = start_python(SLOW_WRITER, tmp_path / "x.beton")
    assert process.stdout.readline() == "writing\n"
    process.kill()
    process.wait(10)
    assert not (tmp_path / "x.beton").exists()
    assert not (tmp_path / "x.json").exists()
    write_old(tmp_path / "x.beton")
    assert names(tmp_path) == ["x.beton", "x.json"]


def test_ctrl_c_cleans_up(tmp_path, start_python):
    path = tmp_path / "x.beton"
    old = write_old(path)
    process = start_python(SLOW_WRITER, path)
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGINT)
    process.wait(10)
    assert "KeyboardInterrupt" in process.stderr.read()
    assert load_manifest(path) == old
    assert names(tmp_path) == ["x.beton", "x.json"]


def test_ctrl_c_stops_converting_threads_within_seconds(tmp_path, start_python, make_folder):
    make_folder(tmp_path / "in", classes=2, images=200, size=(300, 300))
    script = """
import sys, threading, time, os, signal
from pathlib import Path
from fastdc.beton import write_beton
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
for _ in range(100):
    write_beton(Path(sys.argv[1]), Path(sys.argv[2]), resolution=256, workers=2, force=True)
"""
    process = start_python(script, tmp_path / "in", tmp_path / "x.beton")
    process.wait(20)
    assert "KeyboardInterrupt" in process.stderr.read()
    assert set(names(tmp_path)) <= {"in", "x.beton", "x.json"}


@pytest.mark.parametrize("options", ["", ", resolution=200", ", encoding='raw'"])
def test_full_disk(tmp_path, start_python, make_folder, options):
    """A file size limit, which the kernel enforces as it does a full disk."""
    make_folder(tmp_path / "in", classes=1, images=30, size=(300, 300))
    old = write_old(tmp_path / "x.beton")
    script = f"""
import resource, sys
from pathlib import Path
from fastdc.beton import write_beton
from fastdc.common.errors import OutputError
limit = (8 << 20) + 100_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    write_beton(Path(sys.argv[1]), Path(sys.argv[2]), workers=2, force=True{options})
except OutputError as error:
    print(error)
"""
    start = time.monotonic()
    process = start_python(script, tmp_path / "in", tmp_path / "x.beton")
    output, errors = process.communicate(timeout=20)
    assert time.monotonic() - start < 10
    assert errors == ""
    assert "x.beton" in output
    assert "disk full" in output
    assert "free space and run again" in output
    assert output.count("\n") == 1
    assert load_manifest(tmp_path / "x.beton") == old
    assert names(tmp_path) == ["in", "x.beton", "x.json"]


def test_full_disk_while_the_manifest_is_written(tmp_path, start_python):
    """The beton fits within the limit, its manifest with long ids does not."""
    old = write_old(tmp_path / "x.beton")
    script = """
import resource, sys
from pathlib import Path
import numpy as np
from fastdc.beton import Sample, write_samples
from fastdc.common.errors import OutputError
limit = 10 << 20
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
pixel = np.zeros((1, 1, 3), np.uint8)
samples = (Sample(pixel, 0, "a/" + "long" * 60 + str(index)) for index in range(40_000))
try:
    write_samples(Path(sys.argv[1]), samples, classes="a", dataset="", split=None, source="", made={}, force=True)
except OutputError as error:
    print(error)
"""
    output, errors = start_python(script, tmp_path / "x.beton").communicate(timeout=100)
    assert errors == ""
    assert "x.json" in output
    assert "disk full" in output
    assert load_manifest(tmp_path / "x.beton") == old
    assert names(tmp_path) == ["x.beton", "x.json"]


def write_and_stop_between_the_renames(how, *, force):
    """Run a writer that renames its manifest, and then does `how` in place of the beton's rename."""
    return f"""
import os, sys
real = os.replace
def replace(source, target):
    if str(target).endswith(".beton"):
        {how}
    real(source, target)
os.replace = replace
""" + SLOW_WRITER.replace("range(1000)", "range(8)").replace("force=True", f"force={force}")


def test_a_crash_between_the_two_renames_is_detected(tmp_path, start_python):
    path = tmp_path / "x.beton"
    write_old(path)
    process = start_python(write_and_stop_between_the_renames("os._exit(9)", force=True), path)
    assert process.wait(20) == 9
    with pytest.raises(ManifestError, match="does not belong to"):
        load_manifest(path)
    assert [problem.section for problem in verify_beton(path)] == ["manifest"]
    manifest = write_samples(path, [Sample(np.ones((3, 3, 3), np.uint8), 0, "new")], classes="a", force=True, **ORIGIN)
    assert load_manifest(path) == manifest
    assert names(tmp_path) == ["x.beton", "x.json"]


def test_a_first_write_that_crashed_between_the_renames_is_repeated_without_force(tmp_path, start_python):
    path = tmp_path / "x.beton"
    process = start_python(write_and_stop_between_the_renames("os._exit(9)", force=False), path)
    assert process.wait(20) == 9
    assert "x.json" in names(tmp_path)
    assert "x.beton" not in names(tmp_path)
    with pytest.raises(SourceError, match="no samples"):  # a second failure must not use up the permission
        write_samples(path, [], classes="a", **ORIGIN)
    assert names(tmp_path) == []
    assert write_old(path) == load_manifest(path)


def test_an_interruption_between_the_renames_of_a_first_write_leaves_nothing(tmp_path, start_python):
    path = tmp_path / "x.beton"
    process = start_python(write_and_stop_between_the_renames("raise KeyboardInterrupt", force=False), path)
    assert process.wait(20) != 0
    assert "KeyboardInterrupt" in process.stderr.read()
    assert names(tmp_path) == []


def test_two_writers_on_one_output(tmp_path, start_python, folder):
    path = tmp_path / "x.beton"
    process = start_python(SLOW_WRITER, path)
    assert process.stdout.readline() == "writing\n"
    with pytest.raises(OutputError, match="another process is writing it"):
        write_beton(folder, path, force=True)
    write_beton(folder, tmp_path / "other.beton")  # another name is no trouble
    process.kill()
    process.wait(10)
    write_beton(folder, path)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_failed_writes_leak_no_threads_no_descriptors_no_shared_memory(tmp_path, folder):
    (folder / "class_2" / "3.jpg").write_bytes(b"broken")

    def fail():
        with pytest.raises(SourceError, match=r"cannot be decoded"):
            write_beton(folder, tmp_path / "x.beton", workers=4)

    fail()
    before = (threading.active_count(), len(os.listdir("/proc/self/fd")), len(os.listdir("/dev/shm")))
    for _ in range(20):
        fail()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd")), len(os.listdir("/dev/shm"))) == before
    assert names(tmp_path) == ["images"]


def test_memory_does_not_grow_with_the_number_of_images(tmp_path, start_python, make_folder):
    make_folder(tmp_path / "in", classes=1, images=150, size=(600, 500))
    script = """
import resource, sys
from pathlib import Path
from fastdc.beton import write_beton
small, large, out = map(Path, sys.argv[1:])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
write_beton(small, out, encoding="raw", workers=2, force=True)
before = peak()
write_beton(large, out, encoding="raw", workers=2, force=True)
print(peak() - before)
"""
    make_folder(tmp_path / "small", classes=1, images=30, size=(600, 500))
    process = start_python(script, tmp_path / "small", tmp_path / "in", tmp_path / "x.beton")
    output, errors = process.communicate(timeout=40)
    assert errors == ""
    assert int(output) < 25  # MiB; the raw pixels of the 120 additional images take 103


def test_import_loads_no_heavy_module():
    script = "import fastdc.beton, sys; print(sorted({'torch', 'ffcv', 'numba', 'PIL', 'pydantic'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert output.stdout.strip() == "[]"
    script = "from fastdc.beton import *; import sys; print(sorted({'torch', 'ffcv', 'numba'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert output.stdout.strip() == "[]"


def test_foreign_json_is_not_replaced_even_by_force(tmp_path, folder):
    (tmp_path / "i.json").write_text('{"indices": [1, 2]}')
    for force in (False, True):
        with pytest.raises(OutputError, match=r"i\.json: exists and is not a fastdc manifest; move it, or choose"):
            write_beton(folder, tmp_path / "i.beton", force=force)
    assert (tmp_path / "i.json").read_text() == '{"indices": [1, 2]}'
    assert not (tmp_path / "i.beton").exists()


def test_foreign_json_beside_a_beton_without_manifest_is_not_replaced_even_by_force(tmp_path, folder):
    path = tmp_path / "i.beton"
    write_old(path)
    old = path.read_bytes()
    path.with_suffix(".json").write_text('{"annotations": [1]}')
    with pytest.raises(OutputError, match=r"i\.json: exists and is not a fastdc manifest; move it, or choose"):
        write_beton(folder, path, force=True)
    assert path.with_suffix(".json").read_text() == '{"annotations": [1]}'
    assert path.read_bytes() == old


@pytest.mark.parametrize("end", [-20, 10, 0])
def test_force_replaces_a_damaged_manifest(tmp_path, folder, end):
    path = tmp_path / "i.beton"
    write_old(path)
    manifest = path.with_suffix(".json")
    manifest.write_bytes(manifest.read_bytes()[:end])
    made = write_beton(folder, path, force=True)
    assert load_manifest(path) == made
