"""Files are whole or absent."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from fastdc.beton.output_pair import beton_output
from fastdc.common.errors import OutputError
from fastdc.common.files import atomic_file, check_output, reserve, write_atomic


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_atomic(path, b"old")

    def write_half() -> None:
        with atomic_file(path) as handle:
            handle.write(b"half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_half()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; from fastdc.common.files import write_atomic\n"
        "from fastdc.common.errors import OutputError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_atomic(Path(sys.argv[1]), b'x' * 5000)\n"
        "except OutputError as error: print(error)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True, timeout=60, check=True
    )
    assert "disk full" in found.stdout
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("allocates", [True, False], ids=["Linux", "macOS"])
def test_a_reserved_file_has_its_size_or_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allocates: bool
) -> None:
    if not allocates:
        monkeypatch.delattr(os, "posix_fallocate")
    path = tmp_path / "out"
    path.write_bytes(b"old")
    reserve(path, 5000)
    assert path.read_bytes() == bytes(5000)
    with pytest.raises(OSError, match=str(path)):
        reserve(path, 1 << 62)
    assert not path.exists()


def test_outputs_are_checked_before_any_work(tmp_path: Path) -> None:
    present = tmp_path / "present"
    present.touch()
    check_output(tmp_path / "new", force=False)
    check_output(present, force=True)
    for path, match in [
        (present, "exists already.*--force"),
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "file", "does not exist"),
        (Path("/proc/out"), "read-only"),
    ]:
        with pytest.raises(OutputError, match=match):
            check_output(path, force=False)
    assert os.listdir(tmp_path) == ["present"]


@pytest.mark.parametrize("length", [242, 250, 255, 300, 5000])
def test_a_name_too_long_for_a_temporary_file_is_refused_before_any_work(tmp_path: Path, length: int) -> None:
    with pytest.raises(OutputError, match=rf"the name has {length} bytes.*choose a shorter name"):
        check_output(tmp_path / ("é" * (length // 2) + "x" * (length % 2)), force=True)
    check_output(tmp_path / ("x" * 235), force=False)
    assert os.listdir(tmp_path) == []


def test_a_pipe_or_device_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="is a device or pipe, expected a file"):
        check_output(pipe, force=True)


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    source = tmp_path / "src.tar"
    source.write_bytes(b"the only copy")
    os.link(source, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(source)
    for out in (source, tmp_path / "hard", tmp_path / "soft", tmp_path / "x" / ".." / "src.tar"):
        with pytest.raises(OutputError, match="is an input of this command"):
            check_output(out, force=True, inputs=[tmp_path / "absent", source])
    check_output(tmp_path / "new", force=False, inputs=[source])
    with pytest.raises(OutputError, match="is an input"):  # a missing file is compared by its path
        check_output(tmp_path / "new", force=True, inputs=[tmp_path / "." / "new"])


def test_the_next_write_removes_what_a_killed_writer_left(tmp_path: Path) -> None:
    out = tmp_path / "[a] x.json"
    code = (
        "import os, sys; from pathlib import Path; from fastdc.common.files import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])) as handle:\n    handle.write(b'half'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(out)], timeout=60).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    other = tmp_path / ".y.json.00000000.tmp"
    other.write_bytes(b"another file's")
    write_atomic(out, b"whole")
    assert (sorted(tmp_path.iterdir()), out.read_bytes()) == ([other, out], b"whole")


def test_a_second_writer_does_not_disturb_the_first(tmp_path: Path) -> None:
    out = tmp_path / "x.json"
    with atomic_file(out) as handle:
        handle.write(b"first")
        write_atomic(out, b"second")
        assert out.read_bytes() == b"second"
    assert (list(tmp_path.iterdir()), out.read_bytes()) == ([out], b"first")


def interrupted(work: Callable[[], None], moment: int) -> bool:
    """Run `work` with Ctrl-C at this line of the code that makes files; return False past its last line."""
    passed = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal passed
        if not frame.f_code.co_filename.endswith(("fastdc/common/files.py", "filelock/_unix.py")):
            return None
        passed += event == "line"
        if passed == moment:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def write_beton(path: Path) -> None:
    with beton_output(path, force=True) as handle:
        handle.write(b"whole")


@pytest.mark.parametrize(
    "work",
    [
        lambda path: write_atomic(path, b"whole"),
        lambda path: check_output(path, force=True),
        write_beton,
    ],
    ids=["file", "check", "beton"],
)
def test_ctrl_c_at_any_moment_leaves_no_temporary_file(tmp_path: Path, work: Callable[[Path], None]) -> None:
    moment, out = 1, tmp_path / "x.beton"
    while interrupted(lambda: work(out), moment):
        assert set(os.listdir(tmp_path)) <= {out.name}, moment
        out.unlink(missing_ok=True)
        moment += 1
    assert moment > 5
