"""Commands and installations of make."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def plan_of_make(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Return the commands that make would run in a clone without an environment."""
    command = ["make", "--dry-run", "--always-make", *arguments]
    # `make test` passes on its flags and depth, with which make would print the folders that it enters.
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


def test_set_and_source_are_passed_on() -> None:
    text = plan_of_make("demo", "SET=imagenette", "SOURCE=/a folder/imagenette2-160.tar").stdout
    assert 'bin/fastdc demo --set "imagenette" --source "/a folder/imagenette2-160.tar"' in text
    default = plan_of_make("demo").stdout
    assert 'bin/fastdc demo --set "fashion_mnist"' in default
    assert "--source" not in default


def test_artifacts_are_compared_on_the_chosen_set() -> None:
    text = plan_of_make("artifacts", "SET=imagenette", "SOURCE=/a folder/imagenette2-160.tar").stdout
    assert '"writers/imagenette.py" --out "data/imagenette" --source "/a folder/imagenette2-160.tar"' in text
    assert 'scripts/artifacts.py check "imagenette" --observer' in text


def test_the_bundle_of_the_gpu_check_takes_a_source() -> None:
    text = plan_of_make("gpu-bundle", "SOURCE=/a folder").stdout
    assert 'bin/python benchmarks/gpu_bundle.py --source "/a folder"' in text


@pytest.mark.parametrize("name", ["cifar", "imagenette cifar", ""])
def test_an_unknown_set_stops_before_anything_is_installed(name: str) -> None:
    answer = plan_of_make("demo", f"SET={name}")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert f"SET={name}: expected fashion_mnist or imagenette" in answer.stderr
