"""The command line starts quickly and keeps its surface."""

import re
import subprocess
import sys
import time

import pytest

from fastdc.cli.common import OBSERVER_KEYS
from fastdc.cli.main import app
from fastdc.observe import ObserverConfig
from fastdc.sweep.sweep_config import SweepConfig
from tests.cli.conftest import FASTDC


@pytest.mark.timed
def test_help_takes_less_than_half_a_second() -> None:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([*FASTDC, "--help"], capture_output=True, text=True, timeout=30)
        times.append(time.perf_counter() - start)
    assert done.returncode == 0
    assert min(times) < 0.5, times


@pytest.mark.parametrize(
    "arguments", [["--help"], ["methods"], ["methods", "--json"], ["protocols"], ["sweep", "--help"], ["--version"]]
)
def test_listing_and_help_import_no_torch(arguments: list[str]) -> None:
    code = f"import sys; from fastdc.cli.main import run; run({arguments!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, timeout=60).returncode == 0


SURFACE = {
    "write-beton": "SOURCE OUT.beton --split --resolution --encoding --quality --workers --on-error --classes "
    "--allow-missing-classes --image-column --label-column --mean --std --hint --force --quiet -q",
    "verify-beton": "FILE --deep",
    "export": "SUBSET.beton OUT --as --force --quiet -q",
    "observe": "TRAIN.beton --workdir --arch --seed --runs --image-size --stop-after --set --log --quiet -q",
    "compress": "METHOD TRAIN.beton --out --ipc --workdir --seed --image-size --index-order --score --keep --high "
    "--set --observer --teacher-order --precision --threads --force --log --quiet -q",
    "scores": "TRAIN.beton --workdir --out --all --score --observer --force --log --quiet -q",
    "evaluate": "SUBSET.beton --val --allow-missing-classes --protocol --set --arch --teacher --teacher-order "
    "--workdir --seed --augment --precision --image-size --threads --loader --workers --checkpoint --compile --track "
    "--json --log --quiet -q",
    "sweep": "[CONFIG.yaml] --train --val --holdout --allow-missing-classes --methods --ipc --seeds --workdir "
    "--protocol --epochs --arch --image-size --set --observer --teacher --teacher-order --augment --precision "
    "--threads --loader --together --compile --gpus --workers --launcher --address --gpus-per-run --rerun "
    "--track --log --dry-run --quiet -q",
    "report": "DIR --format --out --epochs --html",
    "rank": "DIR --methods --min-seeds --ipc --protocol --arch --augment --precision --image-size --epoch --format",
    "compare": "DIR METHOD... --all-against --with --ipc --protocol --arch --augment --precision --image-size --epoch "
    "--detect --format",
    "bundle": "RUN_DIR --out --with-subsets --force --quiet -q",
    "reproduce": "BUNDLE --train --val --external --workdir --rows --seed --check-only --log --quiet -q",
    "methods": "--json",
    "protocols": "--json",
    "list": "[KIND] --json",
    "check": "KIND NAME",
    "demo": "--set --source --workdir",
    "doctor": "--workdir",
}


def test_the_command_line_is_unchanged() -> None:
    import typer.main

    group = typer.main.get_command(app)
    found = {}
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        names = [part for parameter in command.params for part in _names(parameter)]
        found[name] = [part for part in names if part not in ("--help", "-h")]
    assert found == {name: text.split() for name, text in SURFACE.items()}


def test_help_lists_the_keys_of_the_observer() -> None:
    assert OBSERVER_KEYS.split(", ") == list(ObserverConfig.model_fields)


def test_help_gives_the_defaults_of_a_sweep() -> None:
    import typer.main

    sweep = typer.main.get_command(app).commands["sweep"]  # type: ignore[attr-defined]
    shown = {name: re.search(r"\[default: (\S+)\]$", getattr(each, "help", "") or "") for each in sweep.params
             for name in each.opts}  # fmt: skip
    options = {"--methods": "methods", "--protocol": "protocols", "--arch": "archs", "--seeds": "seeds"}
    options |= {f"--{name.replace('_', '-')}": name for name in
                ("image_size", "augment", "precision", "threads", "loader", "together", "teacher")}  # fmt: skip
    for option, field in options.items():
        default = SweepConfig.model_fields[field].default
        text = str(default[0] if isinstance(default, tuple) else default)
        found = shown[option]
        assert (found and found[1]) == text, option


def _names(parameter: object) -> list[str]:
    options = list(getattr(parameter, "opts", []))
    return options if options[0].startswith("-") else [str(getattr(parameter, "metavar", options[0]))]
