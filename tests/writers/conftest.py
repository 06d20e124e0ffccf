"""The recipes of the repository as modules."""

import importlib
import sys
from pathlib import Path

from tests.recipes.conftest import recipe as recipe

WRITERS = Path(__file__).parents[2] / "writers"


def load(name):
    """A recipe as a module; its folder has to be importable, as when it is run as a script."""
    if str(WRITERS) not in sys.path:
        sys.path.insert(0, str(WRITERS))
    return importlib.import_module(name)
