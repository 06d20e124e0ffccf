"""A beton without its manifest is treated differently: every use gives one warning."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fastdc.beton import describe_beton, verify_beton
from fastdc.beton.missing_manifest import one_use
from fastdc.cli.main import run
from fastdc.common.errors import ConfigError
from fastdc.observe import ObserverConfig
from fastdc.subsets.compress import compress_beton
from fastdc.train import EvaluateSettings, get_protocol
from fastdc.train.evaluation import evaluate

NETWORK = ["--arch", "convnet1_w4", "--image-size", "28", "--threads", "1", "--precision", "fp32"]
QUICK = ["--protocol", "hard-small*epochs=1"]
OBSERVER = ObserverConfig(arch="convnet1_w4", epochs=1, batch_size=32, image_size=28, threads=1)


class Bare(NamedTuple):
    """A training, a validation and a PCA-compressed set without manifests; and the validation set with one."""

    train: Path
    val: Path
    pca: Path
    whole_val: Path


@pytest.fixture(scope="module")
def bare(betons: Any, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    folder = tmp_path_factory.mktemp("bare")
    shutil.copy(betons.train, folder / "train.beton")
    shutil.copy(betons.val, folder / "val.beton")
    compress_beton(
        "pca",
        betons.train,
        folder / "pca.beton",
        ipc=1,
        image_size=28,
        settings={"last_epoch": 1},
        workdir=folder / "work",
        observer=OBSERVER,
    )
    (folder / "pca.json").unlink()
    return Bare(folder / "train.beton", folder / "val.beton", folder / "pca.beton", betons.val)


def lines_about(text: str, *files: Path) -> list[int]:
    """Count the lines about the missing manifest of each file."""
    found = [line for line in text.splitlines() if "manifest" in line and "missing" in line]
    return [sum(f"{file}: its manifest {file.stem}.json" in line for line in found) for file in files]


def test_every_command_warns_once(bare: Bare, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workdir, train, val = str(tmp_path / "runs"), str(bare.train), str(bare.val)
    observer = ["--arch", "convnet1_w4", "--image-size", "28", "--set", "epochs=1"]
    same = ["--observer", "arch=convnet1_w4", "--observer", "epochs=1"]
    one = ["--ipc", "1", "--image-size", "28", "--workdir", workdir, *same]
    grid = ["--methods", "random,full", "--ipc", "1", "--seeds", "0", *QUICK, *NETWORK]
    uses: list[tuple[list[str], tuple[Path, ...]]] = [
        (["verify-beton", train], (bare.train,)),
        (["verify-beton", train, "--deep"], (bare.train,)),
        (["observe", train, "--workdir", workdir, *observer, "-q"], (bare.train,)),
        (["observe", train, "--workdir", workdir, *observer, "-q"], (bare.train,)),
        (["compress", "forgetting", train, "--out", str(tmp_path / "kept.beton"), *one, "-q"], (bare.train,)),
        (["evaluate", str(bare.pca), "--val", val, *QUICK, *NETWORK, "--json", "-q"], (bare.pca, bare.val)),
        (["sweep", "--train", train, "--val", val, "--workdir", workdir, *grid, "-q"], (bare.train, bare.val)),
        (["sweep", "--train", train, "--val", val, "--workdir", workdir, *grid, "--dry-run"], (bare.train, bare.val)),
    ]
    for command, files in uses:
        capsys.readouterr()
        assert run(command) == 0, capsys.readouterr().err
        assert lines_about(capsys.readouterr().err, *files) == [1] * len(files), command


def test_every_call_of_the_library_warns(betons: Any, bare: Bare, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert describe_beton(bare.train).inferred
        assert lines_about(capsys.readouterr().err, bare.train) == [1]
        assert verify_beton(bare.train) == []
        assert lines_about(capsys.readouterr().err, bare.train) == [1]
        settings = EvaluateSettings(
            protocol=get_protocol("hard-small*epochs=1"), arch="convnet1_w4", image_size=28, threads=1
        )
        evaluate(bare.pca, bare.val, settings)
        assert lines_about(capsys.readouterr().err, bare.pca, bare.val) == [1, 1]
    with one_use():
        describe_beton(bare.train)
        with one_use():
            describe_beton(bare.train)
    assert lines_about(capsys.readouterr().err, bare.train) == [1]
    describe_beton(betons.train)
    assert capsys.readouterr().err == ""


def test_the_observer_of_a_set_without_its_manifest_is_unknown(
    bare: Bare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soft = ["--protocol", "soft-small*epochs=1", "--workdir", str(tmp_path)]
    assert run(["evaluate", str(bare.pca), "--val", str(bare.val), *soft, *NETWORK]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "the manifest of pca.beton is missing, which names its training set" in last


def test_the_error_about_unknown_classes_names_the_missing_manifest(
    bare: Bare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = EvaluateSettings(protocol=get_protocol("hard-small*epochs=1"), arch="convnet1_w4")
    with pytest.raises(ConfigError, match=r"pca\.beton: its manifest pca\.json is missing.* only known as 0\.\.2"):
        evaluate(bare.pca, bare.whole_val, settings)
    grid = ["--methods", "random", "--ipc", "1", "--workdir", str(tmp_path)]
    assert run(["sweep", "--train", str(bare.train), "--val", str(bare.whole_val), *grid]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "train.beton: its manifest train.json is missing" in last
    assert "equal classes" not in last


def test_overlapping_blocks_do_not_silence_later_calls(
    betons: Any, bare: Bare, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blocks of two threads may overlap: the first to open is the first to close."""
    first, second = one_use(), one_use()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    describe_beton(bare.train)
    describe_beton(bare.train)
    assert lines_about(capsys.readouterr().err, bare.train) == [1]
    second.__exit__(None, None, None)
    describe_beton(bare.train)
    assert lines_about(capsys.readouterr().err, bare.train) == [1]
