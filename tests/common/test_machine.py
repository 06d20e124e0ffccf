"""The guess of the device, from files and versions alone."""

from pathlib import Path

import pytest

from fastdc.common import machine


@pytest.mark.parametrize("place", range(len(machine.DRIVER_FILES)))
@pytest.mark.parametrize(
    ("build", "visible", "found"),
    [
        ("2.14.1", None, "cuda"),
        ("2.14.1+cu130", "0", "cuda"),
        ("2.14.1+cpu", None, "cpu"),
        ("2.14.1", "", "cpu"),
        ("2.14.1", "-1", "cpu"),
        (None, None, "cpu"),
    ],
)
def test_a_driver_makes_cuda_likely(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: int,
    build: str | None,
    visible: str | None,
    found: str,
) -> None:
    files = [tmp_path / f"driver{number}" for number in range(len(machine.DRIVER_FILES))]
    monkeypatch.setattr(machine, "DRIVER_FILES", tuple(map(str, files)))
    monkeypatch.setattr(machine, "installed_version", lambda _: build)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.guess_device() == "cpu"
    files[place].touch()
    assert machine.guess_device() == found
