#!/usr/bin/env bash
# Install the Debian packages that fastdc needs: the libraries that FFCV compiles against, and real images for the demo
# and the tests. This needs root only if a package is missing. FASTDC_SKIP_SYSTEM=1 leaves the system unchanged.
# With the argument `browser`, install the browser in which the tests open the report page, if possible.
set -euo pipefail

: "${PYTHON:=python3}"
packages=(g++ pkg-config libturbojpeg0-dev libopencv-dev dataset-fashion-mnist)
optional=()
help="see docs/get-started/without-root.md"

[ "${FASTDC_SKIP_SYSTEM:-0}" != 1 ] || exit 0
if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "fastdc: this is not a Debian system, so no system package is installed; $help" >&2
    exit 0
fi
case "$(command -v "$PYTHON" || true)" in
    /usr/bin/*) packages+=(python3-venv python3-dev) ;; # Debian ships them separately from its Python
esac
[ "${1:-}" != browser ] || packages=() optional=(chromium)

absent() { # print the given packages that are not installed
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
