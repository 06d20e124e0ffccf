"""Changed files, killed threads, forked processes: a named error at once, never a hang or other pixels."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastdc.beton import BetonFile
from fastdc.common.errors import BetonError, LoaderError
from fastdc.common.threads import usable_cpus
from fastdc.loader import EvalView, TrainView, open_loader
from fastdc.loader.descriptor import StoredFile
from fastdc.loader.file_checks import decode_sample
from tests.loader.conftest import SAMPLES, Shelf, jpeg, picture, write

ENGINES = ("resident", "ffcv")


@contextmanager
def quickly(seconds: float = 2.0) -> Iterator[None]:
    """Check that the block takes less than this."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Write 40 JPEGs, then 40 raw images, of 200 x 200 pixels: more than the loader reads ahead."""
    images = [picture(200, 200, seed) for seed in range(80)]
    return write(tmp_path / "large.beton", [jpeg(image) for image in images[:40]] + images[40:])


@pytest.mark.parametrize("share", [0.9, 0.5, 0.0])
def test_a_file_cut_short_while_open_is_an_error_not_a_crash(large: Path, share: float) -> None:
    """A mapped file would end the process (SIGBUS)."""
    with open_loader(large, TrainView(16), batch_size=2, engine="ffcv") as loader:
        iterator = loader.epoch(0)
        next(iterator)
        os.truncate(large, int(large.stat().st_size * share))
        with (
            quickly(),
            pytest.raises(LoaderError, match=r"large\.beton: sample \d+: the file was changed while it was"),
        ):
            list(iterator)


@pytest.mark.parametrize("restored", [False, True], ids=["plain", "same size"])
def test_a_file_overwritten_in_place_is_an_error_not_another_picture(large: Path, restored: bool) -> None:
    reference = open_loader(large, EvalView(16), batch_size=2, engine="resident")
    expected = [batch.images for batch in reference.epoch(0)]
    with open_loader(large, EvalView(16), batch_size=2, engine="ffcv") as loader:
        iterator, found = loader.epoch(0), []
        found.append(next(iterator).images)
        with large.open("r+b") as handle:
            content = bytes(large.stat().st_size) if restored else b"gone"
            handle.write(content)
        with quickly(), pytest.raises(LoaderError, match="the file was changed while it was read"):
            found.extend(batch.images for batch in iterator)
    assert 1 <= len(found) < len(expected)
    for left, right in zip(found, expected, strict=False):
        assert torch.equal(left, right)


@pytest.mark.parametrize("index", [-1, 80])
def test_a_sample_that_does_not_exist_is_refused(large: Path, index: int) -> None:
    file = StoredFile(large)
    with pytest.raises(BetonError, match=rf"large\.beton: sample {index} does not exist, expected 0\.\.79"):
        file.payload(index)
    file.close()


def test_a_sample_of_an_overwritten_file_is_reported_as_changed(large: Path) -> None:
    file = StoredFile(large)
    large.write_bytes(bytes(large.stat().st_size))
    with pytest.raises(LoaderError, match="the file was changed while it was read"):
        decode_sample(file, 5)
    file.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_file_replaced_by_renaming_is_read_to_the_end(large: Path, tmp_path: Path, engine: Any) -> None:
    other = write(tmp_path / "other.beton", [picture(200, 200, 100 + seed) for seed in range(80)])
    with open_loader(large, TrainView(16), batch_size=2, engine=engine) as loader:
        expected = [batch.images for batch in loader.epoch(3)]
        iterator = loader.epoch(3)
        found = [next(iterator).images]
        os.replace(other, large)
        found += [batch.images for batch in iterator]
        found_later = [batch.images for batch in loader.epoch(3)]
    for left, middle, right in zip(expected, found, found_later, strict=True):
        assert torch.equal(left, middle)
        assert torch.equal(left, right)
    with open_loader(large, TrainView(16), batch_size=2, engine=engine) as new:
        assert not torch.equal(next(new.epoch(3)).images, expected[0])


def test_a_file_changed_while_the_resident_engine_decodes_it_is_refused(large: Path) -> None:
    stop = threading.Event()

    def touch() -> None:
        while not stop.is_set():
            os.utime(large)

    toucher = threading.Thread(target=touch)
    toucher.start()
    try:
        with pytest.raises(LoaderError, match=r"was changed while it was read|was replaced while it was opened"):
            open_loader(large, TrainView(16), batch_size=2, engine="resident")
    finally:
        stop.set()
        toucher.join()


def kill(thread: threading.Thread) -> None:
    """Raise SystemExit inside `thread`, wherever it is."""
    assert thread.ident is not None
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)) == 1


@pytest.mark.timeout(30)
def test_a_killed_ffcv_thread_is_an_error_that_names_its_samples(large: Path) -> None:
    with open_loader(large, TrainView(16), batch_size=2, engine="ffcv") as loader:
        iterator = loader.epoch(0)
        next(iterator)
        (thread,) = loader._stream._threads  # type: ignore[attr-defined]
        kill(thread)
        expected = r"batch of samples \d+, \d+ cannot be made: System(Exit|Error)"
        with quickly(), pytest.raises(LoaderError, match=expected):
            list(iterator)
        assert sum(len(batch.labels) for batch in loader.epoch(0)) == 80  # the next epoch is whole


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    """Leave a CPU free, so that the resident engine reads ahead."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.timeout(30)
@pytest.mark.skipif(usable_cpus() < 2, reason="reading ahead needs a processor to spare")
def test_a_killed_read_ahead_thread_is_an_error(large: Path, one_torch_thread: None) -> None:
    with open_loader(large, TrainView(224), batch_size=20, engine="resident") as loader:
        iterator = loader.epoch(0)
        next(iterator)
        readers = [thread for thread in threading.enumerate() if thread.name.startswith("fastdc-ahead")]
        assert readers
        time.sleep(0.2)  # its batch is made; it waits for the next
        for thread in readers:
            kill(thread)
        with (
            quickly(3),
            pytest.raises(LoaderError, match=r"batch of samples .* cannot be made: .*(thread died|SystemExit)"),
        ):
            list(iterator)


@pytest.mark.skipif(usable_cpus() < 2, reason="reading ahead needs a processor to spare")
def test_reading_ahead_changes_no_batch(large: Path, one_torch_thread: None) -> None:
    with open_loader(large, TrainView(224), batch_size=20, engine="resident") as loader:
        ahead = list(loader.epoch(1))
        assert any(thread.name.startswith("fastdc-ahead") for thread in threading.enumerate())
        torch.set_num_threads(2)
        plain = list(loader.epoch(1))
    for left, right in zip(ahead, plain, strict=True):
        assert torch.equal(left.images, right.images)


@pytest.mark.timeout(100)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_process_leaves_nothing(shelf: Shelf, engine: str) -> None:
    program = f"""
from pathlib import Path
from fastdc.loader import TrainView, open_loader
loader = open_loader(Path({str(shelf.jpeg)!r}), TrainView(64), batch_size=3, engine={engine!r})
epoch = 0
while True:
    for batch in loader.epoch(epoch):
        print("batch", flush=True)
    epoch += 1
"""
    with (
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child,
        open_loader(shelf.jpeg, TrainView(64), batch_size=3, engine=engine) as loader,  # type: ignore[arg-type]
    ):
        assert child.stdout is not None
        assert child.stdout.readline() == "batch\n"
        iterator = loader.epoch(0)
        next(iterator)
        child.send_signal(signal.SIGKILL)
        assert child.wait(timeout=2) == -signal.SIGKILL
        assert not Path(f"/proc/{child.pid}/task").exists()
        assert 1 + len(list(iterator)) == loader.batches_per_epoch


@pytest.mark.timeout(100)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_forked_process_must_open_the_loader_again(shelf: Shelf, engine: str) -> None:
    """A forked child has no loader thread, and perhaps a lock that is never released."""
    program = f"""
import os, time
from pathlib import Path
from fastdc.common.errors import BetonError, LoaderError
from fastdc.common.threads import usable_cpus
from fastdc.loader import TrainView, open_loader
path = Path({str(shelf.jpeg)!r})
loader = open_loader(path, TrainView(64), batch_size=3, engine={engine!r})
iterator = loader.epoch(0)
next(iterator)
child = os.fork()
if child == 0:
    start, refused = time.monotonic(), []
    for use in (lambda: next(iterator), lambda: loader.epoch(0)):
        try:
            use()
        except LoaderError as error:
            refused.append("before the fork" in str(error))
    loader.close()
    print(refused, time.monotonic() - start < 2, flush=True)
    with open_loader(path, TrainView(8), batch_size=30, engine="resident") as again:
        print(len(list(again.epoch(0))), flush=True)
    os._exit(0)
print(os.waitpid(child, 0)[1], 1 + len(list(iterator)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    lines = done.stdout.splitlines()
    found = [line for line in lines if line and not line.startswith("Unable to join threads")]  # a message of TBB
    assert found == ["[True, True] True", "1", f"0 {-(-SAMPLES // 3)}"], done.stderr


@pytest.mark.timeout(60)
@pytest.mark.parametrize("engine", ENGINES)
def test_loaders_in_several_threads_do_not_mix_their_images(shelf: Shelf, engine: Any) -> None:
    paths, wrong = (shelf.jpeg, shelf.raw, shelf.grey), []
    expected = {}
    for path in paths:
        with open_loader(path, TrainView(40), batch_size=50, engine="resident") as loader:
            expected[path] = next(loader.epoch(2)).images

    def use(path: Path) -> None:
        for _ in range(8):
            with open_loader(path, TrainView(40), batch_size=4, engine=engine, workers=2) as loader:
                made = torch.cat([batch.images for batch in loader.epoch(2)])
            if not torch.equal(made, expected[path]):
                wrong.append(path)

    threads = [threading.Thread(target=use, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def set_field(path: Path, sample: int, field: str, value: int) -> Path:
    """Change a number in the file's table of samples."""
    with BetonFile(path) as file:
        metadata = file.structure.metadata
    before = metadata.tobytes()
    table = np.frombuffer(bytearray(before), metadata.dtype)
    (table["image"] if field in ("height", "width", "mode") else table)[field][sample] = value
    content = path.read_bytes()
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, table.tobytes()))
    return path


@pytest.mark.timeout(60)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("field", "value"), [("height", 47), ("width", 65), ("mode", 1)])
def test_wrong_numbers_in_the_table_are_errors_that_name_the_sample(
    shelf: Shelf, tmp_path: Path, engine: Any, field: str, value: int
) -> None:
    path = set_field(Path(shutil.copy(shelf.jpeg, tmp_path / "wrong.beton")), 13, field, value)
    with (
        quickly(5),
        pytest.raises(Exception, match=r"wrong\.beton: .*sample 13: ") as caught,
        open_loader(path, TrainView(8), batch_size=4, engine=engine) as loader,
    ):
        list(loader.epoch(0))
    assert type(caught.value).__name__ in ("LoaderError", "BetonError")


@pytest.mark.parametrize("manifest", [False, True])
def test_labels_out_of_range_are_refused_with_their_sample(shelf: Shelf, tmp_path: Path, manifest: bool) -> None:
    path = set_field(Path(shutil.copy(shelf.jpeg, tmp_path / "labels.beton")), 13, "label", 3)
    if manifest:
        shutil.copy(shelf.jpeg.with_suffix(".json"), path.with_suffix(".json"))
        with pytest.raises(LoaderError, match=r"labels\.beton: sample 13: label 3, expected 0\.\.2"):
            open_loader(path, TrainView(8), batch_size=4)
    else:  # any class may exist
        open_loader(path, TrainView(8), batch_size=4).close()
    set_field(path, 13, "label", -1)
    with pytest.raises((LoaderError, BetonError), match=r"sample 13: label -1, expected 0"):
        open_loader(path, TrainView(8), batch_size=4)


@pytest.mark.timeout(60)
def test_many_progressive_images_are_repaired_in_parallel_and_in_order(tmp_path: Path) -> None:
    path = write(tmp_path / "p.beton", [jpeg(picture(64, 64, k), progressive=True) for k in range(30)])
    with (
        open_loader(path, TrainView(20), batch_size=8, engine="ffcv", workers=3) as ffcv,
        open_loader(path, TrainView(20), batch_size=8, engine="resident") as resident,
    ):
        for left, right in zip(ffcv.epoch(1), resident.epoch(1), strict=True):
            assert torch.equal(left.images, right.images)
        assert (ffcv.decodes == 1).all()
