"""Run the checks of a suite one by one, each to its end whatever the others find."""

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from unittest.mock import patch

from fastdc.common.text import plain


class ConformanceError(AssertionError):
    """A part fails checks of its suite; the message has a line for each."""


class Outcome(NamedTuple):
    """Outcome of one check.

    Attributes:
        check: the check in words ("budget is respected").
        problem: what was found and what was expected; None if the check passed.
    """

    check: str
    problem: str | None

    def __str__(self) -> str:
        return f"ok      {self.check}" if self.problem is None else plain(f"failed  {self.check}: {self.problem}")


class Suite:
    """Base of the suites: every public method without arguments that a suite defines is a check, in their order.

    A check raises an exception if it fails. Its first line becomes the outcome's problem.

    Args:
        name: the part to check.
        folder: an empty folder for the suite's files.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder

    def run(self) -> Iterator[Outcome]:
        """Run all checks and yield their outcomes."""
        for name, value in vars(type(self)).items():
            if inspect.isfunction(value) and not name.startswith("_"):
                yield Outcome(name.replace("_", " "), self._problem(name))

    def _problem(self, check: str) -> str | None:
        try:
            getattr(self, check)()
        except Exception as error:  # a part may be third-party code, which may raise anything
            kind = "" if isinstance(error, ConformanceError) else f"{type(error).__name__}: "
            return f"{kind}{error}".strip().partition("\n")[0]
        return None


def expect(holds: bool, found: object, expected: str) -> None:
    """Fail the running check unless a condition holds.

    Raises:
        ConformanceError: it does not; names what was found and what was expected.
    """
    if not holds:
        raise ConformanceError(f"found {found}, expected {expected}")


def run_suite(suite: type[Suite], name: str) -> Iterator[Outcome]:
    """Run a suite on the CPU in a temporary folder, and yield the outcomes."""
    # On a GPU, equal seeds need not give equal bits. A process that has used one keeps it.
    hidden = patch.dict(os.environ, CUDA_VISIBLE_DEVICES="")
    with hidden, TemporaryDirectory(prefix="fastdc-check-") as folder:
        yield from suite(name, Path(folder)).run()
