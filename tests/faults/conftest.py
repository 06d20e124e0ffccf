"""Reuse the tiny data and processes of the sweep tests."""

from tests.sweep.conftest import (  # noqa: F401  (fixtures)
    make_config,
    python_process,
    sweep_process,
    tiny,
    write_tiny,
    write_yaml,
)
