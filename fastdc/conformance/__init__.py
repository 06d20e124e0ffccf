"""Conformance suites: what fastdc relies on in every method, architecture, protocol, source and tracker.

`fastdc check KIND NAME` runs a suite and prints a line for each check. A plug-in's own pytest calls the same suite:

    from fastdc.conformance import check_method

    def test_mine() -> None:
        check_method("mine")

Each function takes the name of an installed part, and raises `ConformanceError` with every failed check. The data are
small and generated, the device is the CPU, and a suite takes less than a minute.
"""

from fastdc.conformance.kinds import (
    check_architecture,
    check_method,
    check_protocol,
    check_source,
    check_tracker,
)
from fastdc.conformance.suite import ConformanceError

__all__ = [
    "ConformanceError",
    "check_architecture",
    "check_method",
    "check_protocol",
    "check_source",
    "check_tracker",
]
