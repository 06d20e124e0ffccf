"""The effects and output of each command."""

import inspect
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fastdc.beton import load_manifest
from fastdc.cli import doctor
from fastdc.cli.main import app, run
from fastdc.cli.main import main as cli
from tests.cli.conftest import NETWORK, only_line
from tests.cli.test_cli_start import SURFACE


def test_no_command_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "write-beton" in capsys.readouterr().out


def test_protocols_are_listed_with_source_and_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["protocols", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert listed.keys() == {"hard", "hard-small", "hard-sgd", "soft", "soft-small", "cim-hl", "cad-hl", "minimax-hl"}
    assert listed["cad-hl"]["settings"]["batch_augment"] == "dsa"
    assert listed["cad-hl"]["inferred"] == ["momentum", "weight_decay", "schedule's factor"]
    assert run(["protocols"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n{name} " in f"\n{text}" for name in listed)
    assert "arXiv 2607.00916" in text


def test_methods_lists_the_methods(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["methods", "--json"]) == 0
    listed = {item["name"]: item for item in json.loads(capsys.readouterr().out)}
    assert {"full", "random", "el2n", "pca"} <= set(listed)
    assert all({"name", "family", "needs", "paper", "year", "settings"} <= set(item) for item in listed.values())
    assert listed["pca"]["settings"]["grid"] == 2
    assert listed["pact"]["needs"] == listed["pca"]["reads"] == ["dynamics"]
    assert (listed["pact"]["reads"], listed["ca2d"]["reads"]) == ([], ["dynamics", "teacher"])
    assert run(["methods"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^pact +combination +2026 +- ", text, re.MULTILINE)
    assert all(name in text for name in listed)


def test_broken_plug_ins_are_listed_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from fastdc.methods import _registry

    monkeypatch.setitem(_registry().broken, "mine", "mine:M: ImportError: no module named x")
    assert run(["methods", "--json"]) == 0
    listed = {item["name"]: item for item in json.loads(capsys.readouterr().out)}
    assert (listed["mine"]["family"], listed["mine"]["needs"]) == ("broken", [])
    assert listed["mine"]["reason"] == "mine:M: ImportError: no module named x"


def test_write_beton_reports_skipped_and_undecoded_images(
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
    assert any(line.startswith("skipped: 1 images, first moss/bad.jpg (") for line in lines)
    assert any(line.startswith("skipped: 1 files that are not images, first bark/notes.txt (") for line in lines)
    assert lines[-1] == f"JPEG images were not decoded; fastdc verify-beton {out} --deep decodes all"
    arguments = ["--on-error", "skip", "--force", "--encoding", "jpg", "--quality", "60", "-q"]
    assert run(["write-beton", str(folder), str(out), *arguments]) == 0
    assert "not decoded" not in capsys.readouterr().out


def test_write_beton_names_only_conversions_that_took_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("bark", "moss"):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / name / "0.png")
    assert run(["write-beton", str(tmp_path / "set"), str(tmp_path / "x.beton"), "-q"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["converted: 2 png"]
    Image.new("RGB", (8, 8)).save(tmp_path / "set" / "moss" / "1.jpg")
    assert run(["write-beton", str(tmp_path / "set"), str(tmp_path / "x.beton"), "-q", "--force"]) == 0
    assert "JPEG images were not decoded" in capsys.readouterr().out


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
    """Write a subset of 2 images per class with the command."""
    out = work / "random2.beton"
    arguments = ["random", str(work / "train.beton"), "--ipc", "2", "--out", str(out), "--workdir", str(work)]
    assert run(["compress", *arguments, "--image-size", "32", "--seed", "3", "-q"]) == 0
    return out


def test_compress_reports_its_output_and_replaces_it_only_with_force(
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


def test_evaluate_json_is_one_object_and_repeats_exactly(
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


def test_an_imported_list_becomes_a_subset(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, out = work / "train.beton", tmp_path / "kept.beton"
    listed = tmp_path / "kept.txt"
    listed.write_text("\n".join(load_manifest(train).ids[:2]))
    command = ["compress", "from-list", str(listed), str(train), "--out", str(out), "--image-size", "32"]
    assert run([*command, "--set", "augment=tile:2"]) == 0
    assert load_manifest(out).hints == {"tile_grid": 2}
    capsys.readouterr()
    assert run([*command, "--force"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"{out}: 2 images, ")
    assert "classes have no images, the first is " in text
    assert load_manifest(out).ids == load_manifest(train).ids[:2]
    for wrong in (["--ipc", "1"], ["--set", "grid=2"], ["--force", "extra.beton"]):
        assert run([*command, *wrong]) == 2
        capsys.readouterr()
    for unread in ("--observer epochs=3", "--seed 0", f"--workdir {tmp_path}", "--precision auto", "--threads 2"):
        assert run([*command, *unread.split(), "--force"]) == 2
        assert f"{unread.split()[0]} does not apply, the list determines" in only_line(capsys.readouterr().err)
    assert run(["compress", "from-list", str(listed), "--out", str(out)]) == 2
    assert "expected LIST TRAIN.beton" in capsys.readouterr().err


def test_imported_scores_become_a_subset(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, out, scored = work / "train.beton", tmp_path / "kept.beton", tmp_path / "s.csv"
    ids = load_manifest(train).ids
    scored.write_text("id,el2n\n" + "".join(f"{name},{place}\n" for place, name in enumerate(ids)))
    command = [
        "compress",
        "from-scores",
        str(scored),
        str(train),
        "--out",
        str(out),
        "--image-size",
        "32",
        "--ipc",
        "1",
    ]
    assert run([*command, "--keep", "easy", "--seed", "1"]) == 2
    assert "--seed does not apply, the file has the scores" in only_line(capsys.readouterr().err)
    assert run(["compress", "random", str(train), "--out", str(out), "--high", "easy"]) == 2
    assert "--high does not apply, only from-scores reads it\n" in capsys.readouterr().err
    assert run([*command, "--keep", "easy", "--score", "el2n"]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: 3 images, ")
    easy = load_manifest(out).ids
    assert run([*command, "--keep", "hard", "--high", "easy", "--force"]) == 0
    assert load_manifest(out).ids == easy
    assert run([*command, "--keep", "hard", "--force"]) == 0
    assert load_manifest(out).ids != easy
    capsys.readouterr()
    wrong = {
        "--keep easy or --keep hard is missing": [],
        "keep=easy contradicts set keep=hard": ["--keep", "easy", "--set", "keep=hard", "--force"],
        "--observer does not apply": ["--keep", "easy", "--observer", "epochs=3"],
        "unknown setting 'grid'": ["--keep", "easy", "--set", "grid=2", "--force"],
        "has no score 'aum'": ["--keep", "easy", "--score", "aum", "--force"],
    }
    for message, options in wrong.items():
        assert run([*command, *options]) == 2
        assert message in only_line(capsys.readouterr().err)
    assert run(["compress", "random", str(train), "--out", str(out), "--ipc", "1", "--keep", "easy"]) == 2
    assert "--keep does not apply" in only_line(capsys.readouterr().err)


@pytest.mark.timed
def test_observe_reports_where_the_results_are(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_compress_reports_its_observer(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert "8 runs: 8 done (8 of them now)" in out
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


def test_the_disk_of_a_future_folder(tmp_path: Path) -> None:
    check = doctor._disk(tmp_path / "not" / "yet")
    assert check.name == "disk"
    assert "GB free" in check.found


def test_every_command_has_a_help_text() -> None:
    commands: list[Callable[..., object]] = [
        command.callback for command in app.registered_commands if command.callback
    ]
    assert len(commands) == len(SURFACE)
    assert all(len(inspect.getdoc(command) or "") > 80 for command in commands)
    assert inspect.getdoc(cli)
