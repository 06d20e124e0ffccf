"""The device is guessed from files and versions alone."""

from pathlib import Path
from typing import Any

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


class Driver:
    """CUDA's driver library with GPUs of capabilities `majors`.5; `fails` is the call that reports an error."""

    def __init__(self, fails: str = "", majors: tuple[int, ...] = (7,)) -> None:
        self.fails, self.majors = fails, majors

    def cuInit(self, flags: int) -> int:  # noqa: N802  (the driver's name)
        return 100 if self.fails == "cuInit" else flags

    def cuDeviceGet(self, device: Any, number: int) -> int:  # noqa: N802
        device._obj.value = number
        return 101 if self.fails == "cuDeviceGet" or number >= len(self.majors) else 0

    def cuDeviceGetAttribute(self, value: Any, name: int, device: Any) -> int:  # noqa: N802
        major = self.majors[device.value]
        value._obj.value = {machine.CAPABILITY_MAJOR: major, machine.CAPABILITY_MINOR: 5}[name]
        return 1 if self.fails == "cuDeviceGetAttribute" else 0


def test_the_driver_knows_the_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_name: str) -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    ask = machine.gpu_capability.__wrapped__
    for library, found in (
        (lambda _: Driver(), (7, 5)),
        (lambda _: Driver("cuInit"), None),
        (lambda _: Driver("cuDeviceGet"), None),
        (lambda _: Driver("cuDeviceGetAttribute"), None),
        (none, None),
    ):
        monkeypatch.setattr(machine.ctypes, "CDLL", library)
        assert ask() == found


def test_the_weakest_of_the_gpus_that_are_used_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpu_capability", machine.gpu_capability.__wrapped__)
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda _: Driver(majors=(7, 9, 8)))
    used: list[tuple[int, ...] | None] = [None, (1, 2), (1,), (0, 1), (1, 9), (9,)]  # there is no GPU 9
    assert list(map(machine.weakest_gpu, used)) == [(7, 5), (8, 5), (9, 5), (7, 5), (9, 5), None]
