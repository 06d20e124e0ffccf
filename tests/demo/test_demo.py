"""`fastdc demo`: the source of its images, its configurations, and its closing sentences."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from torch import nn

from fastdc.cli.main import run
from fastdc.cli.sweep_command import sweep
from fastdc.common.choices import DemoSet
from fastdc.demo import conclusions, run_demo
from fastdc.nn.models import build_model
from fastdc.recipes import fashion_mnist, imagenette
from fastdc.recipes.download import Archive
from fastdc.sweep.store.results import Record
from fastdc.sweep.sweep_config import SweepConfig, load_config
from tests.conftest import Betons
from tests.processes import start_process
from tests.report.test_result_rows import done

ROOT = Path(__file__).parents[2]
CONFIGS = [run_demo.config_file(name) for name in get_args(DemoSet)]
ARCH = "resnet10_w16"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_demo_trains_a_residual_network_without_a_flattening_head(path: Path) -> None:
    config = load_config(path, {})
    (arch,), (protocol,) = config.archs, config.protocols
    assert {"random", "el2n", "pca"} <= set(config.methods)
    assert (len(config.seeds), protocol, config.ipc) == (3, "hard-small", (10,))
    assert (config.observer["arch"], config.observer["image_size"]) == (arch, config.image_size)
    network = build_model(arch, 10, config.image_size, 0)
    assert any(isinstance(module, nn.AdaptiveAvgPool2d) for module in network.modules())
    assert (config.threads, config.observer["threads"]) == (
        1,
        1,
    )  # two processes


def test_the_example_in_the_help_of_sweep_is_accepted() -> None:
    (line,) = (line for line in (sweep.__doc__ or "").splitlines() if "configs/demo.yaml" in line)
    words = shlex.split(line)
    options = dict(zip(words[3:-1:2], words[4:-1:2], strict=True))
    assert (words[:3], words[-1]) == (["fastdc", "sweep", "configs/demo.yaml"], "--dry-run")
    found = load_config(ROOT / words[2], {"methods": options["--methods"]}, [options["--set"]])
    assert found.set["full"]["protocol.epochs"] == 4


def config(**changes: Any) -> SweepConfig:
    paths = {name: Path(name) for name in ("train", "val", "workdir")}
    values = {"methods": ("random", "el2n", "pca"), "ipc": (10,), "archs": (ARCH,), "image_size": 64}
    return SweepConfig(**{**paths, **values, **changes})


def runs(dataset: str = "photos", seeds: int = 3, **means: float) -> list[Record]:
    """Return runs of methods with these mean accuracies, and differences that vary by seed."""
    return [
        done(seed, mean + (seed - (seeds - 1) / 2) * (1 + place / 10), method=name, group=name * 10, arch=ARCH,
             dataset=dataset)
        for place, (name, mean) in enumerate(means.items())
        for seed in range(seeds)
    ]  # fmt: skip


def test_the_papers_order_found() -> None:
    lines = conclusions.describe(runs(random=39.2, el2n=45.5, pca=47.3), config())
    assert lines == [
        "The paper's order on ImageNet-1K, with ResNet-18: random 4.6 < el2n 12.2 < pca 22.8 %.",
        "Here, with resnet10_w16 at 64 px, it is the same one: random 39.2 < el2n 45.5 < pca 47.3 %.",
        "Points above random, with 95 % intervals: pca +8.1 (+7.6 to +8.6: better); el2n +6.3 (+6.1 to +6.5: better).",
        "3 paired seeds prove nothing: the exact test gives p = 0.25 at best.",
    ]


def test_another_order_is_reported() -> None:
    lines = conclusions.describe(runs(random=71.6, el2n=71.7, pca=64.6), config())
    assert lines[1].endswith("it is another one: pca 64.6 < random 71.6 < el2n 71.7 %.")
    assert "pca -7.0 (-7.5 to -6.5: worse)" in lines[2]
    assert "el2n +0.1 (-0.1 to +0.3: not separated)" in lines[2]
    assert not any("--set imagenette" in line for line in lines)


@pytest.mark.parametrize(("pca", "points_on"), [(64.6, True), (71.7, True), (80.0, False)])
def test_fashion_mnist_points_to_photographs_only_where_pca_is_not_above_random(pca: float, points_on: bool) -> None:
    lines = conclusions.describe(runs("fashion_mnist", random=71.6, el2n=71.8, pca=pca), config())
    assert any("fastdc demo --set imagenette" in line for line in lines) == points_on


def test_one_seed_gives_no_conclusion() -> None:
    lines = conclusions.describe(runs(seeds=1, random=39.0, pca=47.0), config())
    assert lines[2:] == [
        "Points above random: pca +8.0.",
        "1 paired seed proves nothing: the exact test gives p = 1 at best.",
    ]


def test_only_the_demos_own_rows_count() -> None:
    own = runs(random=39.0, pca=47.0)
    others = [
        done(0, 99.0, method="herding", group="h" * 10, arch=ARCH),
        done(0, 1.0, method="pca", group="p" * 10, arch="convnet_w32"),
        done(0, 2.0, method="pca", group="q" * 10, arch=ARCH, ipc=50),
        done(0, 83.0, method="full", group="f" * 10, arch=ARCH, ipc=None, protocol="hard*epochs=3"),
    ]
    assert conclusions.describe([*own, *others], config()) == conclusions.describe(own, config())


def test_rows_that_cannot_be_compared_give_no_sentence() -> None:
    assert conclusions.describe([], config()) == []
    assert conclusions.describe(runs(pca=47.0), config()) == []
    apart = [*runs(random=39.0)[:1], *runs(pca=47.0)[1:]]
    assert not any("above" in line for line in conclusions.describe(apart, config()))


@pytest.fixture
def small(betons: Betons, tmp_path: Path) -> Path:
    """Shrink the demo to seconds."""
    values = {
        "train": str(betons.train),
        "val": str(betons.val),
        "workdir": str(tmp_path / "work"),
        "methods": ["random", "el2n"],
        "ipc": [2],
        "seeds": [0, 1],
        "protocols": ["hard-small*epochs=2"],
        "archs": ["resnet10_w4"],
        "image_size": 28,
        "threads": 1,
        "observer": {"arch": "resnet10_w4", "epochs": 10, "image_size": 28, "threads": 1},
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


RUN = """
import sys
from pathlib import Path
from fastdc.demo.run_demo import run_config
sys.exit(run_config(Path(sys.argv[1]), {}))
"""


def start(path: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", RUN, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return start_process(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


@pytest.mark.timeout(600)
def test_a_second_demo_reuses_the_results(small: Path) -> None:
    answers = []
    for _ in range(2):
        process = start(small)
        out, err = process.communicate(timeout=400)
        assert process.returncode == 0, err
        answers.append(out)
    assert "above random" in answers[0]
    assert "random" in answers[0]
    assert "4 runs: 4 done (0 of them now)" in answers[1]
    endings = [answer.partition("store.sqlite\n")[2] for answer in answers]
    assert endings[0] == endings[1] != ""
    assert (small.parent / "work" / "page.html").stat().st_size > 10_000


@pytest.mark.timeout(400)
@pytest.mark.parametrize("send", [lambda pid: os.killpg(pid, signal.SIGINT), lambda pid: os.kill(pid, signal.SIGTERM)],
                         ids=["ctrl-c", "kill"])  # fmt: skip
def test_an_interrupted_demo_leaves_no_process(small: Path, send: Callable[[int], None]) -> None:
    text = small.read_text().replace("epochs=2", "epochs=100000")
    small.write_text(text)
    process = start(small)
    store, end = small.parent / "work" / "store.sqlite", time.monotonic() + 100
    while not store.exists() and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1)
    send(process.pid)
    process.communicate(timeout=200)
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_the_configurations_of_the_repository_are_those_of_the_package() -> None:
    for name, link in (("fashion_mnist", "demo.yaml"), ("imagenette", "demo_imagenette.yaml")):
        assert (ROOT / "configs" / link).samefile(run_demo.config_file(name))


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Path, dict[str, Path]]]:
    """Record the sweeps in an empty current folder instead of training for minutes."""
    sweeps_run: list[tuple[Path, dict[str, Path]]] = []
    monkeypatch.setattr(run_demo, "run_config", lambda path, places: sweeps_run.append((path, places)) or 0)
    monkeypatch.chdir(tmp_path)
    return sweeps_run


@pytest.mark.skipif(not fashion_mnist.DEBIAN_FOLDER.is_dir(), reason="needs the Debian package dataset-fashion-mnist")
def test_images_and_results_are_in_the_workdir(
    sweeps: list[tuple[Path, dict[str, Path]]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["demo", "--workdir", "mine"]) == 0
    assert capfd.readouterr().out.count(": written") == 2
    ((path, places),) = sweeps
    found = load_config(path, places)
    assert (found.train, found.workdir) == (Path("mine/data/train.beton"), Path("mine"))
    assert found.train.is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]
    assert run(["demo", "--workdir", "mine", "--source", "nowhere"]) == 0  # what is there needs no source
    assert capfd.readouterr().out.count("its structure is sound") == 2


def test_without_a_workdir_the_folders_are_those_of_make(sweeps: list[tuple[Path, dict[str, Path]]]) -> None:
    for name in get_args(DemoSet):
        found = load_config(run_demo.config_file(name), {})
        assert found.train == Path("data", name, "train.beton")
    assert sweeps == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fashion_mnist", "no train-images-idx3-ubyte.gz there; give the folder of the four *-ubyte.gz files"),
        ("imagenette", "holds no folder train, expected imagenette2-160 or an archive of it"),
    ],
)
def test_a_source_without_the_set_is_one_line(
    sweeps: list[tuple[Path, dict[str, Path]]],
    name: str,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    assert run(["demo", "--set", name, "--source", "empty"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: empty: {words}")
    assert error.count("\n") == 1
    assert sweeps == []


@pytest.mark.parametrize("name", get_args(DemoSet))
def test_without_a_network_one_line_names_the_remedy(
    sweeps: list[tuple[Path, dict[str, Path]]], name: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    nowhere = Archive("http://127.0.0.1:9/images.gz", "")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fashion_mnist, "ARCHIVES", (nowhere,))
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "none")
    monkeypatch.setattr(imagenette, "ARCHIVES", {"160": nowhere})
    assert run(["demo", "--set", name]) == 2
    error = capsys.readouterr().err
    assert "images.gz: cannot be fetched (" in error
    assert "as --source" in error
    assert error.count("\n") == 1
    assert sweeps == []
    assert not list(tmp_path.rglob("*.beton"))


def test_an_unknown_set_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--set", "cifar"]) == 2
    assert "cifar" in capsys.readouterr().err
