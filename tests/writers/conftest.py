"""Provide the recipes of the repository as modules."""

import importlib
import sys
from pathlib import Path

from tests.recipes.conftest import recipe as recipe

WRITERS = Path(__file__).parents[2] / "writers"


def load(name):
    """Load a recipe as a module, with its folder on the path as for a script."""
    if str(WRITERS) not in sys.path:
        sys.path.insert(0, str(WRITERS))
    return importlib.import_module(name)
