"""The sweep room's tiny data and processes, for faults."""

from tests.sweep.conftest import (  # noqa: F401  (fixtures)
    make_config,
    python_process,
    sweep_process,
    tiny,
    write_tiny,
    write_yaml,
)
