"""The public names exist, are documented, and importing the package imports nothing heavy."""

import subprocess
import sys

import pytest

import fastdc


@pytest.mark.parametrize("name", [name for name in fastdc.__all__ if name != "__version__"])
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert len(getattr(fastdc, name).__doc__ or "") > 40


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^No fastdc attribute nothing$"):
        _ = fastdc.nothing


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, fastdc; print([name for name in ('torch', 'numba', 'numpy', 'ffcv') if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "[]"
