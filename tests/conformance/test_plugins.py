"""Installed plug-ins of each kind: a correct one passes its suite, a wrong one is named."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fastdc.cli.kind_commands import Kind
from fastdc.cli.main import run
from fastdc.common.errors import ConfigError
from fastdc.conformance import (
    ConformanceError,
    check_architecture,
    check_method,
    check_protocol,
    check_source,
    check_tracker,
)
from fastdc.conformance.kinds import KINDS
from fastdc.nn.arch_names import check_arch
from tests.conformance.conftest import Install

WRONG_METHOD = """
import numpy as np
from fastdc.methods import Compressed, Method, MethodInfo

class Wrong(Method):
    '''Draws without a seed, and takes what it finds.'''
    info = MethodInfo(name="wrong", title="Wrong", family="pruning", paper="", year=2026, bibtex="")
    def compress(self, context, config, ipc, seed):
        draw = np.random.default_rng()
        members = [np.flatnonzero(context.labels == label) for label in range(len(context.classes))]
        kept = np.concatenate([draw.permutation(found)[:ipc] for found in members])
        return Compressed(context.labels[kept], kept[:, None])

METHOD = Wrong()
"""
WRONG_ARCHITECTURE = """
import torch
from torch import nn
from fastdc.nn.architecture import Architecture

def build(classes, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, 1000))

ARCHITECTURE = Architecture("wrong", build, sides=(8,))
"""
WRONG_PROTOCOL = """
from fastdc.train.protocols import Preset, Protocol, Recipe

PROTOCOL = Preset(Protocol(base="wrong", lr=1e30, optimizer="sgd"), Recipe("diverges", ""))
"""
WRONG_SOURCE = """
import random
from contextlib import contextmanager
from fastdc.beton.sources.kinds.folder import Folder

class Wrong(Folder):
    name, title, rank = "wrong", "any folder", 0
    @contextmanager
    def open(self, path, options):
        with super().open(path, options) as opened:
            yield opened._replace(files=Shuffled(opened.files))

class Shuffled:
    def __init__(self, files):
        self.files, self.name = files, files.name
    def fetch_all(self, paths):
        found = list(self.files.fetch_all(paths))
        return iter(random.sample(found, len(found))[1:])

SOURCE = Wrong()
"""
MISLABELLED_SOURCE = """
from contextlib import contextmanager
from prefix_source import SOURCE as PREFIXED

class Wrong(type(PREFIXED)):
    name = "wrong"
    @contextmanager
    def open(self, path, options):
        with super().open(path, options) as opened:
            yield opened._replace(contents=opened.contents._replace(labels=opened.contents.labels * 5))

SOURCE = Wrong()
"""
WRONG_TRACKER = """
from csv_tracker import CsvTracker

class Wrong(CsvTracker):
    def finish(self, cell, state, values):
        raise ValueError("no top1")
"""


def failed(check: Callable[[str], None], name: str = "wrong") -> dict[str, str]:
    """Return the problem of each failed check of a part."""
    with pytest.raises(ConformanceError, match=f": {name}") as error:
        check(name)
    lines = str(error.value).splitlines()[1:]
    return dict(line.removeprefix("failed  ").split(": ", 1) for line in lines)


def test_a_method(install: Install) -> None:
    install("methods", "sharpness = sharpness", "wrong = wrong_method:METHOD", wrong_method=WRONG_METHOD)
    check_method("sharpness")
    assert failed(check_method) == {
        "subset repeats bit by bit": "found other bytes in a second call, expected equal bytes of a seed",
        "seed matters only if declared": "found other bytes of another seed, expected stochastic=True",
    }


def test_an_architecture(install: Install) -> None:
    install("architectures", "plain = plain_network", "wrong = wrong_net", wrong_net=WRONG_ARCHITECTURE)
    check_architecture("plain")
    found = failed(check_architecture)
    assert found.pop("builds for its sides") == "found [2, 1000] at 8 px, expected [2, 3]"
    assert found == {
        "accepts the sides that it declares": "found side 9 fails, expected takes_side: True",
        "batch norm is as declared": "found BatchNorm: False, expected True",
    }


def test_a_protocol(install: Install) -> None:
    install("protocols", "gentle = gentle_protocol", "wrong = wrong_protocol", wrong_protocol=WRONG_PROTOCOL)
    check_protocol("hard-gentle")
    found = failed(check_protocol)
    assert found.keys() == {"source is given", "one epoch trains"}
    assert found["one epoch trains"].startswith("DivergedError: ")


def test_a_source(install: Install) -> None:
    install("sources", "prefixed = prefix_source", "wrong = wrong_source", wrong_source=WRONG_SOURCE)
    check_source("prefixed")
    found = failed(check_source)
    assert found["other examples are left alone"].startswith("found the example of 'folder' taken, expected")
    assert found["every image is fetched once"].endswith("expected 0 to 11, each once")
    assert "order is stable" in found


def test_a_source_with_labels_out_of_range(install: Install) -> None:
    install("sources", "wrong = wrong_source", wrong_source=MISLABELLED_SOURCE)
    found = failed(check_source)
    assert found["labels are in range"] == "found labels [0, 5, 10], expected 0 to 2"
    assert found["written beton verifies"].startswith("SourceError: ")
    assert "label 5, expected 0..2; correct or remove it" in found["written beton verifies"]


def test_a_tracker(install: Install) -> None:
    install("trackers", "csv = csv_tracker:CsvTracker", "wrong = wrong_tracker:Wrong", wrong_tracker=WRONG_TRACKER)
    check_tracker("csv")
    assert failed(check_tracker) == {
        "every event arrives": "found ValueError: no top1 after 4 calls, expected 11 calls",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_lists_and_checks_plugins(kind: str, install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    """A broken plug-in is listed with its reason, and its name is an error."""
    target = "no-class" if kind == "trackers" else "broken_part"
    install(kind, f"broken = {target}", broken_part="raise RuntimeError('not today')")
    assert run(["list", kind, "--json"]) == 0
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    reason = "expected the class of a tracker" if kind == "trackers" else "RuntimeError: not today"
    assert reason in listed.pop("broken")["reason"]
    assert all(row["title"] and row["place"] for row in listed.values())
    assert run(["list", kind]) == 0
    assert f"broken: {target}: " in capsys.readouterr().out
    assert run(["check", kind, "broken"]) == 2
    assert f"error: {kind[:-1]} 'broken' cannot be used" in capsys.readouterr().err
    assert run(["check", kind, "no-such"]) == 2
    assert "no-such" in capsys.readouterr().err


def test_the_command_prints_a_line_for_each_check(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("sources", "wrong = wrong_source", wrong_source=WRONG_SOURCE)
    assert run(["check", "sources", "archive"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok      example is recognised"
    assert all(line.startswith("ok      ") for line in lines)
    assert run(["check", "sources", "wrong"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok      example is recognised"
    assert any(line.startswith("failed  order is stable: ") for line in lines)


def test_the_kinds_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(KINDS) == list(Kind)


def test_a_taken_name_names_both_places(install: Install) -> None:
    other = Path(sys.modules["fastdc.conformance"].__file__ or "").parent.parent / "train/presets/benchmark.py"
    text = "from fastdc.train.protocols import *\nPROTOCOL = Preset(Protocol(base='hard', epochs=1), Recipe('', ''))"
    install("protocols", "mine = second_hard", second_hard=text)
    from fastdc.train.protocols import get_protocol, protocols

    assert get_protocol("hard").epochs == 300
    assert f"protocol 'hard' is registered twice: {other} and " in protocols().broken["mine"]
    assert protocols().broken["mine"].endswith("second_hard.py; rename one")


def test_plugins_are_imported_only_for_unknown_names(install: Install) -> None:
    install("architectures", "late = late_network", late_network="raise ImportError('no such library')")
    check_arch("resnet18")
    check_arch("convnet4_w8")
    assert "late_network" not in sys.modules
    with pytest.raises(ConfigError, match="architecture 'late' cannot be used: late_network: ImportError: no such"):
        check_arch("late")
