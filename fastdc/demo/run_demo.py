"""Write a demo's images, run its sweep as one or two processes on one store, and write the page.

A second call finds the images written and every run done.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastdc.common.choices import DemoSet
from fastdc.common.files import store_path
from fastdc.common.threads import usable_cpus
from fastdc.demo.conclusions import describe
from fastdc.recipes import fashion_mnist, imagenette
from fastdc.report import write_page
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig, load_config

RECIPES = {"fashion_mnist": fashion_mnist, "imagenette": imagenette}


def run_demo(name: DemoSet, source: Path | None, workdir: Path | None) -> int:
    """Write the images of a set, run its sweep, write the page and print a summary; return the exit code.

    Args:
        name: the set.
        source: where its published files lie; None takes those of Debian's package or downloads them.
        workdir: folder of the results, with the images in `data`; None takes `runs` and `data` of the current folder.

    Raises:
        SourceError: the images cannot be downloaded, or are others.
        OutputError: a folder or file cannot be written.
    """
    path = config_file(name)
    places = {} if workdir is None else _inside(workdir)
    images = load_config(path, places).train.parent
    for line in RECIPES[name].write_images(images, source):
        print(line, flush=True)
    return run_config(path, places)


def config_file(name: DemoSet) -> Path:
    """Return the packaged configuration of a set's sweep."""
    return Path(__file__).with_name(f"{name}.yaml")


def _inside(workdir: Path) -> dict[str, Path]:
    images = workdir / "data"
    return {"train": images / "train.beton", "val": images / "val.beton", "workdir": workdir}


def run_config(path: Path, places: Mapping[str, Path]) -> int:
    """Run a sweep, write its page and print a summary; return the exit code.

    Args:
        path: configuration of the sweep.
        places: the keys of it that are replaced: `train`, `val`, `workdir`.
    """
    config = load_config(path, places)
    code = run_sweeps(path, places, config.methods)
    if code == 0:
        print("\n".join(conclude(config)))
    return code


def run_sweeps(path: Path, places: Mapping[str, Path], methods: Sequence[str]) -> int:
    """Run the sweep, with two or more CPUs in two processes; return the exit code of the one whose output is shown.

    The second process takes the methods in reverse order. It trains the observer while the first one runs methods
    that need none.
    """
    options = [f"--{key}={place}" for key, place in places.items()]
    sweep = [sys.executable, "-m", "fastdc", "sweep", str(path), *options]
    commands = [sweep, [*sweep, "--quiet", "--methods", ",".join(reversed(methods))]]
    outputs = (None, subprocess.DEVNULL)
    started = [
        subprocess.Popen(command, stdout=output)
        for command, output in zip(commands[: usable_cpus()], outputs, strict=False)  # one CPU: the first alone
    ]
    with _signals_left_to(started):
        codes = [process.wait() for process in started]
    return codes[0] if codes[0] >= 0 else 128 - codes[0]  # ended by a signal: the code that a shell would report


@contextmanager
def _signals_left_to(processes: Sequence["subprocess.Popen[bytes]"]) -> Iterator[None]:
    """Let the sweeps handle signals and end cleanly.

    Ctrl-C reaches the whole process group, so this process ignores it. SIGTERM reaches this process alone, so it is
    forwarded.
    """

    def end_them(_number: int, _frame: object) -> None:
        for process in processes:
            process.terminate()

    handlers: dict[signal.Signals, Any] = {signal.SIGINT: lambda *_: None, signal.SIGTERM: end_them}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def conclude(config: SweepConfig) -> list[str]:
    """Write the page; return the closing lines of the demo."""
    page = config.workdir / "page.html"
    with Store(store_path(config.workdir), readonly=True) as store:
        records = store.records()
        write_page(store, config.workdir, page)
    return [
        "",
        *describe(records, config),
        f"Charts and the images that each method keeps or makes: {os.fspath(page)}",
        f"This table again: fastdc report {config.workdir}",
    ]
