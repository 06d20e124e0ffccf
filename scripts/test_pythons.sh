#!/usr/bin/env bash
# Run the tests on each supported Python that is found here, in environments under build/pythons. Arguments go to pytest.
# VERSIONS chooses the versions: VERSIONS=3.13 bash scripts/test_pythons.sh tests/common
set -uo pipefail

: "${VERSIONS:=3.11 3.12 3.13 3.14}"
export FASTDC_SKIP_SYSTEM=1
# The longer timeout lets a busy machine pass too.
[ $# -gt 0 ] || set -- -m "not slow and not long and not timed" --timeout 900

interpreter() { # print the path of a Python of this version: on the path, pyenv's or uv's
    local candidate
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/"python$1" \
        "$HOME"/.local/share/uv/python/cpython-"$1".*/bin/"python$1"; do
        "$candidate" -c 'import sys; print(sys.executable)' 2>/dev/null && return
    done
    return 1
}

outcome() { # run the tests on one version and print what came of it
    local python venv="build/pythons/$1"
    python=$(interpreter "$1") || { echo "no interpreter found" && return; }
    PYTHON="$python" VENV="$venv" bash scripts/install_python.sh >"$venv.log" 2>&1 ||
        { echo "FAILED: not installed, see $venv.log" && return; }
    PYTHONHASHSEED=0 "$venv/bin/pytest" "${@:2}" >>"$venv.log" 2>&1 || echo -n "FAILED: "
    tail -n 1 "$venv.log" | tr -d =
}

mkdir -p build/pythons
failed=0
for version in $VERSIONS; do
    line=$(outcome "$version" "$@")
    echo "Python $version: $line"
    [[ $line != FAILED* ]] || failed=1
done
exit "$failed"
