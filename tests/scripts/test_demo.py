"""`make demo`: what it installs and starts, what its configurations hold, and the sentences at its end."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import nn

from fastdc.cli.sweep_command import sweep
from fastdc.nn.models import build_model
from fastdc.sweep.store.results import Record
from fastdc.sweep.sweep_config import SweepConfig, load_config
from tests.conftest import Betons
from tests.processes import start_process
from tests.report.test_result_rows import done

ROOT = Path(__file__).parents[2]
CONFIGS = [ROOT / "configs" / name for name in ("demo.yaml", "demo_imagenette.yaml")]
sys.path.insert(0, str(ROOT / "scripts"))

import demo  # noqa: E402

ARCH = "resnet10_w16"


def plan_of_make(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """What make would run in a clone without an environment."""
    command = ["make", "--dry-run", "--always-make", *arguments]
    # `make test` itself hands its flags and depth on, with which make names the folders that it enters.
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=60, check=False)


def test_the_demo_installs_no_browser_and_the_tests_do() -> None:
    demo_plan, test_plan = (plan_of_make(goal).stdout for goal in ("demo", "test"))
    assert "install_system.sh" in demo_plan
    assert "install_system.sh browser" not in demo_plan
    assert "install_system.sh browser" in test_plan
    assert test_plan.index("install_python.sh") < test_plan.index("install_system.sh browser")
    always = (ROOT / "scripts" / "install_system.sh").read_text().partition("help=")[0]
    assert "chromium" not in always


def test_the_set_chooses_writer_and_configuration() -> None:
    text = plan_of_make("demo", "SET=imagenette", "SOURCE=/a folder/imagenette2-160.tar").stdout
    assert '"writers/imagenette.py" --out "data/imagenette" --source "/a folder/imagenette2-160.tar"' in text
    assert 'scripts/demo.py "configs/demo_imagenette.yaml"' in text
    default = plan_of_make("demo").stdout
    assert '"writers/fashion_mnist.py" --out "data/fashion_mnist"' in default
    assert "--source" not in default
    assert 'scripts/demo.py "configs/demo.yaml"' in default


def test_an_unknown_set_stops_before_anything_is_installed() -> None:
    answer = plan_of_make("demo", "SET=cifar")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "SET=cifar: expected fashion_mnist or imagenette" in answer.stderr


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
    """Runs of methods with these mean accuracies, and differences from each other that vary by seed."""
    return [
        done(seed, mean + (seed - (seeds - 1) / 2) * (1 + place / 10), method=name, group=name * 10, arch=ARCH,
             dataset=dataset)
        for place, (name, mean) in enumerate(means.items())
        for seed in range(seeds)
    ]  # fmt: skip


def test_the_papers_order_found() -> None:
    lines = demo.describe(runs(random=39.2, el2n=45.5, pca=47.3), config())
    assert lines == [
        "The paper's order on ImageNet-1K, with ResNet-18: random 4.6 < el2n 12.2 < pca 22.8 %.",
        "Here, with resnet10_w16 at 64 px, it is the same one: random 39.2 < el2n 45.5 < pca 47.3 %.",
        "Points above random, with 95 % intervals: pca +8.1 (+7.6 to +8.6: better); el2n +6.3 (+6.1 to +6.5: better).",
        "3 paired seeds can be no proof: the exact test gives p = 0.25 at best.",
    ]


def test_another_order_is_called_so() -> None:
    lines = demo.describe(runs(random=71.6, el2n=71.7, pca=64.6), config())
    assert lines[1].endswith("it is another one: pca 64.6 < random 71.6 < el2n 71.7 %.")
    assert "pca -7.0 (-7.5 to -6.5: worse)" in lines[2]
    assert "el2n +0.1 (-0.1 to +0.3: not separated)" in lines[2]
    assert not any("SET=imagenette" in line for line in lines)


@pytest.mark.parametrize(("pca", "points_on"), [(64.6, True), (71.7, True), (80.0, False)])
def test_fashion_mnist_points_to_photographs_only_where_pca_is_not_above_random(pca: float, points_on: bool) -> None:
    lines = demo.describe(runs("fashion_mnist", random=71.6, el2n=71.8, pca=pca), config())
    assert any("make demo SET=imagenette" in line for line in lines) == points_on


def test_one_seed_judges_nothing() -> None:
    lines = demo.describe(runs(seeds=1, random=39.0, pca=47.0), config())
    assert lines[2:] == [
        "Points above random: pca +8.0.",
        "1 paired seed can be no proof: the exact test gives p = 1 at best.",
    ]


def test_only_the_demos_own_rows_count() -> None:
    own = runs(random=39.0, pca=47.0)
    others = [
        done(0, 99.0, method="herding", group="h" * 10, arch=ARCH),
        done(0, 1.0, method="pca", group="p" * 10, arch="convnet_w32"),
        done(0, 2.0, method="pca", group="q" * 10, arch=ARCH, ipc=50),
        done(0, 83.0, method="full", group="f" * 10, arch=ARCH, ipc=None, protocol="hard*epochs=3"),
    ]
    assert demo.describe([*own, *others], config()) == demo.describe(own, config())


def test_rows_that_cannot_be_compared_give_no_sentence() -> None:
    assert demo.describe([], config()) == []
    assert demo.describe(runs(pca=47.0), config()) == []
    apart = [*runs(random=39.0)[:1], *runs(pca=47.0)[1:]]
    assert not any("above" in line for line in demo.describe(apart, config()))


@pytest.fixture
def small(betons: Betons, tmp_path: Path) -> Path:
    """A demo of seconds."""
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


def start(path: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "scripts" / "demo.py"), str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return start_process(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def test_the_demo_runs_and_runs_again_from_its_results(small: Path) -> None:
    answers = []
    for _ in range(2):
        process = start(small)
        out, err = process.communicate(timeout=110)
        assert process.returncode == 0, err
        answers.append(out)
    assert "above random" in answers[0]
    assert "random" in answers[0]
    assert "4 runs: 4 done (0 run now)" in answers[1]
    endings = [answer.partition("store.sqlite\n")[2] for answer in answers]
    assert endings[0] == endings[1] != ""
    assert (small.parent / "work" / "page.html").stat().st_size > 10_000


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
    process.communicate(timeout=60)
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_missing_configuration_is_one_line(tmp_path: Path) -> None:
    process = start(tmp_path / "none.yaml")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
