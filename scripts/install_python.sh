#!/usr/bin/env bash
# Make the virtual environment and install fastdc into it, editable, with FFCV and the development tools.
set -euo pipefail

: "${PYTHON:=python3}" "${VENV:=.venv}"

"$PYTHON" - <<'CHECK'
import sys

if sys.version_info < (3, 11):
    sys.exit(f"fastdc: found Python {sys.version.split()[0]}, needs 3.11 or newer; name one: make setup PYTHON=python3.11")
CHECK
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
# Install torch and torchvision first, as a matching pair; constraints.txt has the tested versions.
"$VENV/bin/pip" install -qq torch torchvision --constraint constraints.txt
if ! "$VENV/bin/pip" install -qq --editable '.[ffcv,dev]' --constraint constraints.txt; then
    echo "fastdc: FFCV could not be built (its messages are above); everything but the FFCV engine will work" >&2
    "$VENV/bin/pip" install -qq --editable '.[dev]' --constraint constraints.txt
fi
"$VENV/bin/fastdc" doctor
