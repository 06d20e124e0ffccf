#!/usr/bin/env bash
# Makes the virtual environment and installs fastdc into it, editable, with FFCV and the development tools.
set -euo pipefail

: "${PYTHON:=python3}" "${VENV:=.venv}"

[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
# torch and torchvision come as a matching pair; the exact versions are in requirements.txt.
"$VENV/bin/pip" install --quiet --requirement requirements.txt
"$VENV/bin/pip" install --quiet --editable '.[ffcv,dev]' --constraint requirements.txt
# A warm numba cache and a working FFCV, or a clear sentence that says what is missing.
"$VENV/bin/fastdc" doctor
