#!/usr/bin/env bash
# Installs the Debian packages that fastdc needs, if any is missing. Needs root only then.
set -euo pipefail

packages=(pkg-config libturbojpeg0-dev libopencv-dev dataset-fashion-mnist)

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "fastdc: this is not a Debian system; see 'Without root, or on another system' in README.md" >&2
    exit 0
fi

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "fastdc: missing system packages: ${missing[*]}" >&2
    echo "fastdc: install them as root (apt-get install ${missing[*]}), or see 'Without root, or on another system' in README.md" >&2
    exit 2
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends "${missing[@]}"
