"""The command line as scripts see it: exit codes, one-line errors, JSON, and how fast it starts."""

import errno
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastdc import cli, doctor
from fastdc.cli import app, run
from fastdc.sweep.store import Store

FASTDC = [sys.executable, "-m", "fastdc.cli"]
NETWORK = ["--arch", "convnet1_w4", "--protocol", "hard-small", "--set", "epochs=2", "--threads", "1"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder split/class/img of small JPEGs, 8 and 4 of each of 3 classes."""
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for name in ("bark", "moss", "sand"):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                image = Image.fromarray(pixels.integers(0, 256, (32, 40, 3), dtype=np.uint8))
                image.save(folder / split / name / f"{i}.jpg")
    return folder


@pytest.fixture(scope="module")
def work(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.beton and val.beton, written by the command."""
    folder = tmp_path_factory.mktemp("work")
    for split in ("train", "val"):
        assert run(["write-beton", str(photos), str(folder / f"{split}.beton"), "--split", split, "-q"]) == 0
    return folder


def only_line(text: str) -> str:
    lines = text.splitlines()
    assert len(lines) == 1, text
    return lines[0]


# ------------------------------------------------------------------ start


def test_help_comes_within_half_a_second() -> None:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([*FASTDC, "--help"], capture_output=True, text=True, timeout=30)
        times.append(time.perf_counter() - start)
    assert done.returncode == 0
    assert min(times) < 0.5, times


@pytest.mark.parametrize(
    "arguments", [["--help"], ["methods"], ["methods", "--json"], ["sweep", "--help"], ["--version"]]
)
def test_listing_and_help_import_no_torch(arguments: list[str]) -> None:
    code = f"import sys; from fastdc.cli import run; run({arguments!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, timeout=60).returncode == 0


SURFACE = {
    "write-beton": "SOURCE OUT.beton --split --resolution --encoding --quality --workers --on-error --force --quiet -q",
    "verify-beton": "FILE --deep",
    "observe": "TRAIN.beton --workdir --arch --seed --runs --image-size --stop-after --set --quiet -q",
    "compress": "METHOD TRAIN.beton --ipc --out --workdir --seed --image-size --set --observer --force --quiet -q",
    "evaluate": "SUBSET.beton --val --protocol --set --arch --seed --augment --precision --image-size --threads "
    "--loader --workers --checkpoint --compile --json --quiet -q",
    "sweep": "[CONFIG.yaml] --train --val --methods --ipc --seeds --workdir --protocol --arch --image-size --set "
    "--observer --augment --precision --threads --loader --launcher --rerun --dry-run --quiet -q",
    "report": "DIR --format",
    "methods": "--json",
    "doctor": "--workdir",
}


def test_the_command_line_is_what_other_peoples_scripts_rely_on() -> None:
    import typer.main

    group = typer.main.get_command(app)
    found = {}
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        names = [part for parameter in command.params for part in _names(parameter)]
        found[name] = [part for part in names if part not in ("--help", "-h")]
    assert found == {name: text.split() for name, text in SURFACE.items()}


def _names(parameter: object) -> list[str]:
    options = list(getattr(parameter, "opts", []))
    return options if options[0].startswith("-") else [str(getattr(parameter, "metavar", options[0]))]


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweeep"], "No such command 'sweeep'"),
        (["sweep", "--ipcs", "3"], "No such option: --ipcs"),
        (["compress"], "Missing argument 'METHOD'. (see fastdc compress --help)"),
        (["sweep"], "--train is missing"),
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
            "method el2n: asked for keep=hard, but set says keep=easy; keep one of them",
        ),
        (
            ["compress", "pca", "{work}/train.beton", "--ipc=8", "--out={tmp}/x.beton", "--workdir={tmp}"],
            "ipc=8 needs 32 images of every class, class 'bark' has 8",
        ),
        (
            ["observe", "{work}/train.beton", "--workdir={tmp}", "--image-size=32", "--set=image_size=24"],
            "the observer: asked for image_size=32, but set says image_size=24",
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


def test_a_bug_is_named_as_one_without_a_traceback(
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
def test_a_path_that_cannot_be_used_is_no_bug(
    error: OSError, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise error

    monkeypatch.setattr("fastdc.methods.all_methods", refuse)
    assert run(["methods"]) == 2
    assert only_line(capsys.readouterr().err).startswith(f"error: {text}")


def test_a_folder_that_may_not_be_entered_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "nowhere"]) == 2  # imports what it needs, before another user does it again
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
def test_closed_or_full_streams_are_no_error_of_ours(
    arguments: str, stdout: str, stderr: str, code: int, tmp_path: Path
) -> None:
    command = f"{sys.executable} -m fastdc.cli {arguments} {stdout} {stderr}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr == (
        "error: output: disk full (No space left on device); free space and run again\n" * (stdout == ">/dev/full")
    )


def test_a_sweep_without_streams_keeps_its_store_whole(work: Path, tmp_path: Path) -> None:
    """With stdout closed the store would get its number, and every print would go into it."""
    grid = f"--train {work}/train.beton --val {work}/val.beton --workdir {tmp_path}/runs --methods random --ipc 1"
    network = "--protocol hard-small*epochs=1 --arch convnet1_w4 --image-size 32 --threads 1"
    command = f"{sys.executable} -m fastdc.cli sweep {grid} {network} >&- 2>&-"
    assert subprocess.run(command, shell=True, timeout=100).returncode == 0
    with Store(tmp_path / "runs" / "store.sqlite", readonly=True) as store:
        assert [record.state for record in store.records()] == ["done"]


def test_errors_cannot_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "\x1b[31mred\u202e"]) == 2
    err = capsys.readouterr().err
    assert "?[31mred?/store.sqlite: no result store here" in err
    assert "\x1b" not in err


def test_a_closed_pipe_is_quiet() -> None:
    code = "import time, sys; from fastdc.cli import main; time.sleep(1); main()"
    worker = subprocess.Popen(
        [sys.executable, "-c", code, "methods", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    assert worker.stderr is not None
    worker.stdout.close()
    assert worker.stderr.read() == ""
    worker.wait(30)


def test_a_terminal_without_unicode_is_no_error(work: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [*FASTDC, "report", "caf\xe9"], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=30
    )
    assert done.returncode == 2
    assert "caf?" in done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------ commands


def test_no_command_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "write-beton" in capsys.readouterr().out


def test_methods_lists_what_it_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["methods", "--json"]) == 0
    listed = {item["name"]: item for item in json.loads(capsys.readouterr().out)}
    assert {"full", "random", "el2n", "pca"} <= set(listed)
    assert all({"name", "family", "needs", "paper", "year", "settings"} <= set(item) for item in listed.values())
    assert listed["pca"]["settings"]["grid"] == 2
    assert run(["methods"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in listed)


def test_broken_plug_ins_are_listed_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from fastdc.methods import _registry

    monkeypatch.setitem(_registry().broken, "mine", "mine:M: ImportError: no module named x")
    assert run(["methods", "--json"]) == 0
    listed = {item["name"]: item for item in json.loads(capsys.readouterr().out)}
    assert (listed["mine"]["family"], listed["mine"]["needs"]) == ("broken", [])
    assert listed["mine"]["reason"] == "mine:M: ImportError: no module named x"


def test_write_beton_says_what_was_skipped_and_what_was_not_decoded(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos / "train", folder)
    (folder / "bark" / "notes.txt").write_text("no image")
    (folder / "moss" / "bad.jpg").write_bytes(b"no image either")
    out = tmp_path / "x.beton"
    assert run(["write-beton", str(folder), str(out), "--on-error", "skip", "-q"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "24 images" in lines[0]
    assert any(line.startswith("skipped: 1 unreadable images, first moss/bad.jpg (") for line in lines)
    assert any(line.startswith("skipped: 1 files that are not images, first bark/notes.txt (") for line in lines)
    assert lines[-1] == f"JPEG images were not decoded; fastdc verify-beton {out} --deep decodes all"
    arguments = ["--on-error", "skip", "--force", "--encoding", "jpg", "--quality", "60", "-q"]
    assert run(["write-beton", str(folder), str(out), *arguments]) == 0
    assert "not decoded" not in capsys.readouterr().out


def test_a_sound_beton_and_a_damaged_one(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify-beton", str(work / "train.beton"), "--deep"]) == 0
    assert capsys.readouterr().out.strip() == f"{work / 'train.beton'}: sound"
    damaged = tmp_path / "train.beton"
    content = bytearray((work / "train.beton").read_bytes())
    content[-3000:-2000] = bytes(1000)
    damaged.write_bytes(content)
    (tmp_path / "train.json").write_bytes((work / "train.json").read_bytes())
    assert run(["verify-beton", str(damaged), "--deep"]) == 2
    err = capsys.readouterr().err
    assert err.count("error: ") == len(err.splitlines()) >= 1
    assert str(damaged) in err


@pytest.fixture(scope="module")
def subset(work: Path) -> Path:
    """A subset of 2 images per class, by the command."""
    out = work / "random2.beton"
    arguments = ["random", str(work / "train.beton"), "--ipc", "2", "--out", str(out), "--workdir", str(work)]
    assert run(["compress", *arguments, "--image-size", "32", "--seed", "3", "-q"]) == 0
    return out


def test_compress_says_what_it_wrote_and_needs_force_to_replace(
    subset: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = subset.read_bytes()
    arguments = ["random", str(work / "train.beton"), "--ipc", "2", "--out", str(subset), "--workdir", str(work)]
    arguments += ["--image-size", "32", "--seed", "3", "-q"]
    assert run(["compress", *arguments]) == 2
    assert "--force" in only_line(capsys.readouterr().err)
    assert run(["compress", *arguments, "--force"]) == 0
    assert "6 images" in only_line(capsys.readouterr().out)
    assert subset.read_bytes() == before


def test_evaluate_json_is_one_object_and_repeats_to_the_last_digit(
    subset: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = []
    for extra in ([], ["--loader", "resident", "--workers", "2"]):
        assert run(["evaluate", str(subset), "--val", str(work / "val.beton"), *NETWORK, "--json", *extra]) == 0
        results.append(json.loads(only_line(capsys.readouterr().out)))
    first, second = results
    needed = {"top1", "top5", "top1_best", "epochs", "steps", "images", "image_bytes", "seconds"}
    assert needed <= set(first)
    assert (first["top5"], first["epochs"], first["images"]) == (None, 2, 6)
    assert first["protocol"] == "hard-small*epochs=2"
    assert (first["top1"], first["curve"]) == (second["top1"], second["curve"])


def test_observe_says_where_the_results_lie(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["observe", str(work / "train.beton"), "--workdir", str(work), "--arch", "convnet1_w4", "--seed", "1"]
    arguments += ["--set", "epochs=2", "--set", "image_size=32", "--set", "batch_size=8", "-q"]
    assert run(arguments) == 0
    line = only_line(capsys.readouterr().out)
    assert Path(line.partition(":")[0]).is_dir()
    assert "2 epochs of 24 samples" in line
    start = time.perf_counter()
    assert run([part.replace("image_size=32", "lr=0.1") for part in arguments]) == 0  # 32 px is their median side
    assert run([*arguments, "--image-size", "32"]) == 0
    assert capsys.readouterr().out.splitlines() == [line, line]
    assert time.perf_counter() - start < 1.0


def test_compress_says_which_observer_it_reads(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(work / "train.beton"), "--ipc", "1", "--workdir", str(tmp_path / "runs"), "--image-size", "32"]
    observer = ["--observer", "arch=convnet1_w4", "--observer", "epochs=1"]
    for method, extra in (("random", []), ("el2n[last_epoch=1]", observer)):
        assert run(["compress", method, *arguments, *extra, "--out", str(tmp_path / f"{method[:4]}.beton")]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("observer ")]
    (folder,) = (tmp_path / "runs" / "observers").iterdir()
    assert line == f"observer {folder}: convnet1_w4, 32 px"


def test_a_sweep_refuses_a_named_method_that_cannot_run(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ["sweep", "--train", str(work / "train.beton"), "--val", str(work / "val.beton")]
    grid += ["--workdir", str(tmp_path / "runs"), "--ipc", "8", "--image-size", "32", "--dry-run"]
    assert run([*grid, "--methods", "random,pca"]) == 2
    assert "method pca: ipc=8 needs 32 images of every class" in only_line(capsys.readouterr().err)
    assert run([*grid, "--methods", "all"]) == 0
    assert "skipped  pca ipc 8 hard resnet18 seed 0: ipc=8 needs 32 images" in capsys.readouterr().out


def test_a_sweep_and_its_report(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = ["--train", str(work / "train.beton"), "--val", str(work / "val.beton"), "--workdir", str(tmp_path / "runs")]
    grid += [
        "--methods",
        "random,el2n[keep=hard]",
        "--ipc",
        "1,2",
        "--seeds",
        "0-1",
        "--protocol",
        "hard-small*epochs=1",
    ]
    grid += [
        "--arch",
        "convnet1_w4",
        "--image-size",
        "32",
        "--observer",
        "arch=convnet1_w4",
        "--set",
        "el2n.last_epoch=1",
    ]
    assert run(["sweep", *grid, "--dry-run"]) == 0
    assert "8 runs: 0 cached, 8 to run, 0 skipped" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    assert run(["sweep", *grid, "-q"]) == 0
    out, err = capsys.readouterr()
    assert "8 runs: 8 done (8 run now)" in out
    assert err == ""
    assert run(["report", str(tmp_path / "runs"), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {(row["method"], row["ipc"], row["n"]) for row in rows} == {
        (method, ipc, 2) for method in ("random", "el2n[keep=hard,last_epoch=1]") for ipc in (1, 2)
    }
    needed = "dataset method ipc protocol arch precision n top1_mean top1_std image_bytes label_bytes compress_seconds"
    assert {*needed.split(), "train_seconds"} <= set(rows[0])
    for style, sign in (("csv", "dataset,method,ipc"), ("latex", r"\begin{tabular}"), ("table", "top-1 %")):
        assert run(["report", str(tmp_path / "runs"), "--format", style]) == 0
        assert sign in capsys.readouterr().out


@pytest.mark.timeout(110)
def test_doctor_examines_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["doctor"])
    out = capsys.readouterr().out
    lines = {line.split()[1]: line.split()[0] for line in out.splitlines() if not line.startswith(" ")}
    assert {"python", "torch", "torchvision", "ffcv", "tbb", "cpus", "memory", "disk"} <= set(lines)
    assert code == int("missing" in lines.values()) == 0


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    check = doctor._disk(tmp_path / "not" / "yet")
    assert check.name == "disk"
    assert "GB free" in check.found


def test_every_command_tells_what_it_does() -> None:
    commands: list[Callable[..., object]] = [
        command.callback for command in app.registered_commands if command.callback
    ]
    assert len(commands) == len(SURFACE)
    assert all(len(inspect.getdoc(command) or "") > 80 for command in commands)
    assert inspect.getdoc(cli)
