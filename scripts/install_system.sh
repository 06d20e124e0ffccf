#!/usr/bin/env bash
# Installs the Debian packages that fastdc needs, if any is missing: what FFCV compiles against, and real images for
# the demo and the tests. Needs root only then. FASTDC_SKIP_SYSTEM=1 leaves the system alone.
# With the argument `browser`: the browser in which the tests open the report page, where it can be installed.
set -euo pipefail

: "${PYTHON:=python3}"
packages=(g++ pkg-config libturbojpeg0-dev libopencv-dev dataset-fashion-mnist)
optional=()
help="see 'Without root, or on another system' in README.md"

[ "${FASTDC_SKIP_SYSTEM:-0}" != 1 ] || exit 0
if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "fastdc: this is not a Debian system, so no system package is installed; $help" >&2
    exit 0
fi
case "$(command -v "$PYTHON" || true)" in
    /usr/bin/*) packages+=(python3-venv python3-dev) ;; # Debian's own Python comes without them
esac
[ "${1:-}" != browser ] || packages=() optional=(chromium)

absent() { # those of the packages named that are not installed
    local package status
    for package in "$@"; do
        status=$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || echo "$package"
    done
}
mapfile -t missing < <(absent "${packages[@]}")
mapfile -t extra < <(absent "${optional[@]}")
[ $((${#missing[@]} + ${#extra[@]})) -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    [ ${#missing[@]} -gt 0 ] || exit 0
    echo "fastdc: missing system packages: ${missing[*]}" >&2
    echo "fastdc: install them as root (apt-get install ${missing[*]}), or set FASTDC_SKIP_SYSTEM=1; $help" >&2
    exit 2
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update || [ ${#missing[@]} -eq 0 ]
[ ${#missing[@]} -eq 0 ] || apt-get install -y --no-install-recommends "${missing[@]}"
[ ${#extra[@]} -eq 0 ] || apt-get install -y --no-install-recommends "${extra[@]}" ||
    echo "fastdc: without ${extra[*]} the browser tests are skipped" >&2
