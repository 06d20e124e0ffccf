"""Bad input, broken streams and signals: one line, the right exit code, no lost data."""

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fastdc.cli.main import run
from fastdc.sweep.store.results import Store
from tests.cli.conftest import FASTDC, only_line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweeep"], "No such command 'sweeep'"),
        (["sweep", "--ipcs", "3"], "No such option: --ipcs"),
        (["compress"], "Missing argument 'METHOD'. (see fastdc compress --help)"),
        (["sweep"], "--train is missing"),
        (["check", "source", "folder"], "Invalid value for 'KIND': 'source' is not one of 'methods'"),
        (["sweep", "none.yaml"], "none.yaml: no such file"),
        (["report", "nowhere"], "no result store here"),
        (
            ["compress", "randm", "{work}/train.beton", "--ipc", "1", "--out", "{tmp}/x.beton", "--workdir", "{tmp}"],
            "unknown method 'randm'; did you mean 'random'?",
        ),
        (
            ["compress", "random", "{work}/train.beton", "--ipc", "0", "--out", "{tmp}/x.beton", "--workdir", "{tmp}"],
            "Invalid value for '--ipc': Input should be greater than or equal to 1",
        ),
        (
            ["compress", "random", "{work}/train.beton", "--ipc", "9", "--out", "{tmp}/x.beton", "--workdir", "{tmp}"],
            "ipc=9 needs 9 images of every class, class 'bark' has 8",
        ),
        (
            [
                "compress",
                "random",
                "{work}/train.beton",
                "--ipc",
                "1",
                "--out",
                "{tmp}/no/x.beton",
                "--workdir",
                "{tmp}",
            ],
            "{tmp}/no does not exist; create it first (mkdir -p {tmp}/no)",
        ),
        (
            [
                "compress",
                "el2n[keep=hard]",
                "{work}/train.beton",
                "--ipc=1",
                "--set=keep=easy",
                "--out={tmp}/x.beton",
                "--workdir={tmp}",
            ],
            "method el2n: keep=hard contradicts set keep=easy; keep one of them",
        ),
        (
            ["compress", "pca", "{work}/train.beton", "--ipc=8", "--out={tmp}/x.beton", "--workdir={tmp}"],
            "ipc=8 needs 32 images of every class, class 'bark' has 8",
        ),
        (
            ["observe", "{work}/train.beton", "--workdir={tmp}", "--image-size=32", "--set=image_size=24"],
            "the observer: image_size=32 contradicts set image_size=24",
        ),
        (
            ["observe", "{work}/train.beton", "--workdir={work}/train.beton/x"],
            "{work}/train.beton/x: cannot be made (Not a directory); choose another --workdir",
        ),
        (
            ["compress", "random", "{work}/train.beton", "--ipc=1", "--out={tmp}/x.beton", "--workdir=/proc/nope"],
            "/proc/nope: cannot be made (No such file or directory); choose another --workdir",
        ),
        (["sweep", "{tmp}"], "{tmp}: is a folder, expected a sweep's YAML file"),
        (["evaluate", "{work}/train.beton", "--val", "{work}/val.beton", "--protocol", "hrd"], "did you mean 'hard'?"),
        (["evaluate", "{work}/train.beton", "--val", "{work}/val.beton", "--set", "epoch=3"], "did you mean 'epochs'?"),
        (["evaluate", "{work}/train.beton", "--val", "{work}/val.beton", "--set", "epochs"], "expected key=value"),
        (
            ["evaluate", "{work}/train.beton", "--val", "{work}/val.beton", "--precision", "tf32"],
            "precision tf32: needs a CUDA device, found only the CPU; use fp32, bf16 or auto",
        ),
        (
            ["evaluate", "{work}/train.beton", "--val", "{work}/val.beton", "--arch", "resnt18"],
            "did you mean 'resnet18'?",
        ),
        (["evaluate", "{tmp}/none.beton", "--val", "{work}/val.beton"], "{tmp}/none.beton: does not exist"),
        (
            ["observe", "{work}/train.beton", "--workdir", "{tmp}", "--set", "epochs=0"],
            "observer: epochs=0: input should be greater than or equal to 1",
        ),
        (["write-beton", "{tmp}/nowhere", "{tmp}/x.beton"], "{tmp}/nowhere: "),
        (
            ["write-beton", "{photos}", "{work}/train.beton", "--split", "train"],
            "{work}/train.beton: exists already; choose another name or add --force",
        ),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, work: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    places = {"work": work, "tmp": tmp_path, "photos": photos}
    assert run([argument.format(**places) for argument in arguments]) == 2
    out, err = capfd.readouterr()
    line = only_line(err)
    assert line.startswith("error: ")
    assert message.format(**places) in line
    assert out == ""
    assert not list(tmp_path.glob("*.beton"))


def test_a_bug_is_reported_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("fastdc.methods.all_methods", broken)
    monkeypatch.delenv("FASTDC_DEBUG", raising=False)
    assert run(["methods"]) == 1
    assert only_line(capsys.readouterr().err).startswith("error: bug in fastdc: ZeroDivisionError: division by zero")
    monkeypatch.setenv("FASTDC_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run(["methods"])


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fastdc.methods.all_methods", interrupted)
    assert run(["methods"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/d/x"), "/d/x: Permission denied; check path and"),
        (OSError(errno.ENOSPC, "No space left on device", "/d/x"), "/d/x: disk full (No space left on device); free"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "output: disk full (Disk quota exceeded); free space"),
    ],
    ids=["permission", "full", "quota"],
)
def test_an_unusable_path_is_no_bug(
    error: OSError, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise error

    monkeypatch.setattr("fastdc.methods.all_methods", refuse)
    assert run(["methods"]) == 2
    assert only_line(capsys.readouterr().err).startswith(f"error: {text}")


def test_a_folder_without_access_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "nowhere"]) == 2  # import as root first, because another user cannot
    capsys.readouterr()
    outside = Path(tempfile.mkdtemp())  # not tmp_path, which another user may not enter
    outside.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)  # root may enter every folder
        assert run(["report", str(outside)]) == 2
    finally:
        if root:
            os.seteuid(0)
        outside.rmdir()
    assert only_line(capsys.readouterr().err) == (
        f"error: {outside}/store.sqlite: Permission denied; check path and permissions"
    )


@pytest.mark.parametrize(
    ("arguments", "stdout", "stderr", "code"),
    [
        ("methods", ">&-", "", 0),
        ("--help", ">&-", "", 0),
        ("methods --json", ">/dev/full", "", 2),
        ("report nowhere", ">&-", "2>&-", 2),
        ("report nowhere", "", "2>/dev/full", 2),
        ("methods", ">&-", "2>&- <&-", 0),
    ],
)
def test_closed_or_full_streams_are_no_bug(arguments: str, stdout: str, stderr: str, code: int, tmp_path: Path) -> None:
    command = f"{sys.executable} -m fastdc.cli.main {arguments} {stdout} {stderr}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr == (
        "error: output: disk full (No space left on device); free space and run again\n" * (stdout == ">/dev/full")
    )


@pytest.mark.slow
def test_a_sweep_without_streams_keeps_its_store_whole(work: Path, tmp_path: Path) -> None:
    """With stdout closed the store would get its descriptor, and every print would go into it."""
    grid = f"--train {work}/train.beton --val {work}/val.beton --workdir {tmp_path}/runs --methods random --ipc 1"
    network = "--protocol hard-small*epochs=1 --arch convnet1_w4 --image-size 32 --threads 1"
    command = f"{sys.executable} -m fastdc.cli.main sweep {grid} {network} >&- 2>&-"
    assert subprocess.run(command, shell=True, timeout=100).returncode == 0
    with Store(tmp_path / "runs" / "store.sqlite", readonly=True) as store:
        assert [record.state for record in store.records()] == ["done"]


def test_errors_are_escaped_for_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "\x1b[31mred\u202e"]) == 2
    err = capsys.readouterr().err
    assert "?[31mred?/store.sqlite: no result store here" in err
    assert "\x1b" not in err


COMMANDS = [
    ["methods"],
    ["methods", "--json"],
    ["--help"],
    ["report", "{folder}"],
    ["report", "{folder}", "--format", "json"],
    ["report", "{folder}", "--format", "csv"],
]


@pytest.fixture(scope="module")
def finished(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a sweep; return its workdir."""
    folder = tmp_path_factory.mktemp("finished")
    grid = ["--train", str(work / "train.beton"), "--val", str(work / "val.beton"), "--methods", "random", "--ipc", "1"]
    network = ["--protocol", "hard-small*epochs=1", "--arch", "convnet1_w4", "--image-size", "32", "--threads", "1"]
    assert run(["sweep", *grid, *network, "--workdir", str(folder), "-q"]) == 0
    return folder


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_reader_that_exits_early_is_no_error(arguments: list[str], finished: Path) -> None:
    command = ["-m", "fastdc", *(word.format(folder=finished) for word in arguments)]
    assert leave(command) == (0, "")


def test_a_reader_that_exits_early_hides_no_failure() -> None:
    code = "from fastdc.cli import doctor; doctor.REQUIRED = ('none-such',)"
    main = "import sys; sys.argv[1:] = ['doctor']; from fastdc.cli.main import main; main()"
    assert leave(["-c", f"{code}; {main}"]) == (1, "")


def leave(arguments: list[str]) -> tuple[int, str]:
    """Return exit code and stderr of Python with stdout closed before any write."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, *arguments], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=100, check=False
    )
    os.close(writing)
    return done.returncode, done.stderr


def test_a_terminal_without_unicode_is_no_error(work: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [*FASTDC, "report", "caf\xe9"], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=30
    )
    assert done.returncode == 2
    assert "caf?" in done.stderr
    assert "Traceback" not in done.stderr
