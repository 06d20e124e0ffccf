"""Every built-in part passes the suite of its kind."""

import subprocess
import sys

import pytest

from fastdc.conformance.kinds import KINDS, _check, registry_of

QUICK = {
    "methods": {"random", "full", "noise", "pca", "sre2l"},
    "architectures": {"convnet", "resnet10"},
    "protocols": {"hard", "soft"},
}
"""Built-in parts whose suites run in `make test`; all others of these kinds are slow."""
PARTS = [(kind, name) for kind in KINDS for name in sorted(registry_of(kind).parts)]
VARIANTS = [
    ("methods", "el2n[keep=hard,balanced=false]"),
    ("architectures", "convnet3_w8"),
    ("architectures", "resnet10_w8"),
    ("protocols", "soft*labels=stored,label_topk=2"),
]


def case(kind: str, name: str) -> object:
    slow = kind in QUICK and name not in QUICK[kind]
    return pytest.param(kind, name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "name"), [case(*part) for part in PARTS + VARIANTS])
def test_a_built_in_part_passes(kind: str, name: str) -> None:
    if kind == "trackers":
        pytest.importorskip(registry_of(kind).parts[name].package, reason="pip install 'fastdc[trackers]'")
    _check(kind, name)


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from fastdc.conformance.kinds import KINDS, registry_of\n"
        "for kind in KINDS: registry_of(kind)\n"
        "print([name for name in ('torch', 'numba', 'tensorboard') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "[]"
