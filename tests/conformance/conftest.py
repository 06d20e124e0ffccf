"""Install plug-ins for a test: a distribution with entry points in a folder on Python's path."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastdc.beton.sources import open_source
from fastdc.methods import _registry
from fastdc.nn.arch_names import architectures
from fastdc.track import trackers
from fastdc.train.protocols import protocols

GOOD = Path(__file__).parents[2] / "docs/extend/examples"
CACHES = (_registry, architectures, protocols, open_source.sources, trackers.all_trackers)
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install entry points, given as lines `name = module` of a kind, and modules, given as text by name."""
    site = tmp_path / "site"
    site.mkdir()

    def write(kind: str, *points: str, **modules: str) -> None:
        for name, text in modules.items():
            (site / f"{name}.py").write_text(text)
        info = site / f"{kind}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {kind}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join([f"[fastdc.{kind}]", *points]))
        for folder in (GOOD, site):
            monkeypatch.syspath_prepend(str(folder))
        path = [str(site), str(GOOD), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))  # of a tracker's process
        _forget()

    yield write
    for name in [name for name, module in sys.modules.items() if str(site) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]
    monkeypatch.undo()
    _forget()


def _forget() -> None:
    importlib.invalidate_caches()
    for cache in CACHES:
        cache.cache_clear()
