"""Run one section in its own process: python -m gpu_sections.child MODULE:FUNCTION SETUP_JSON FINDINGS_FILE."""

import importlib
import json
import sys
from pathlib import Path

from gpu_sections.findings import to_line
from gpu_sections.setup import Setup


def main(work: str, setup: str, path: str) -> None:
    """Write each finding as soon as it is made."""
    module, _, function = work.partition(":")
    with Path(path).open("a") as out:
        for finding in getattr(importlib.import_module(module), function)(Setup(**json.loads(setup))):
            out.write(to_line(finding))
            out.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
