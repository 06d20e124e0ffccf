"""The class of a failed run, and the record of what computed a run."""

import errno
import json
import mmap
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fastdc
from fastdc.common.errors import (
    BetonError,
    ConfigError,
    DivergedError,
    LoaderError,
    MethodError,
    OutputError,
    WorkerError,
)
from fastdc.nn.device import environment
from fastdc.sweep.cell_result import describe_error, failure_of
from fastdc.sweep.cells import make_plan
from fastdc.sweep.failures import classify, ends_sweep, loses_device
from fastdc.sweep.forecast.preview import preview
from fastdc.sweep.provenance import Watch, commit, peak_memory
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig
from tests.sweep.instant_sweep import failing, sweep

Make = Callable[..., SweepConfig]


def caused_by(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (DivergedError("loss is nan"), "diverged"),
        (MethodError("class 'moss' has 2 images"), "method"),
        (ConfigError("no such network"), "method"),
        (TypeError("not a tensor"), "method"),
        (RuntimeError("shape mismatch"), "method"),
        (caused_by(MethodError("broke"), ValueError("x")), "method"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "infrastructure"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "infrastructure"),
        (MethodError("out of memory for 100 images; lower batch_size"), "infrastructure"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "infrastructure"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "infrastructure"),
        (RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"), "infrastructure"),
        (RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"), "infrastructure"),
        (RuntimeError("nvrtc: error: failed to open libnvrtc-builtins.so.13.0."), "infrastructure"),
        (RuntimeError("GET was unable to find an engine to execute this computation"), "infrastructure"),
        (MemoryError(), "infrastructure"),
        (PermissionError(errno.EACCES, "Permission denied", "/d/x"), "infrastructure"),
        (ConnectionResetError(), "infrastructure"),
        (BetonError("truncated"), "infrastructure"),
        (LoaderError("sample 3 cannot be decoded"), "infrastructure"),
        (caused_by(MethodError("cannot read"), OSError(errno.EIO, "I/O error")), "infrastructure"),
    ],
    ids=repr,
)
def test_the_cause_of_a_failure(error: Exception, failure: str) -> None:
    assert classify(error) == failure


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("CUDA error: device-side assert triggered"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True),
        (RuntimeError("CUDA driver error: unspecified launch failure"), True),
        (RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"), True),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), True),
        (RuntimeError("CUDA error: the remote procedural call between the MPS server and the MPS client failed"), True),
        (RuntimeError("No CUDA GPUs are available"), True),
        (RuntimeError("Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED_CUDART"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"), False),
        (
            RuntimeError(
                "CUDA out of memory. Allocation was preemptively rejected because it would exceed "
                "per_process_memory_fraction limit. Requested size: 2.00 GiB"
            ),
            False,
        ),
        (
            caused_by(MethodError("takes no images of 32 px"), RuntimeError("CUDA error: unspecified launch failure")),
            True,
        ),
        (RuntimeError("CUDA error: out of memory"), False),
        (RuntimeError("CUDA driver error: out of memory"), False),
        (RuntimeError("Triton Error [CUDA]: out of memory"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), False),
        (RuntimeError("GET was unable to find an engine to execute this computation"), False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"), False),
        (MethodError("the text of an error names a CUDA error"), False),
    ],
    ids=repr,
)
def test_a_lost_device(error: Exception, lost: bool) -> None:
    assert loses_device(error) is lost


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB of which 1 MiB is "
        "free. 19.79 GiB allowed; Of the allocated memory 17 GiB is allocated by PyTorch",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "Not enough memory for workspace!",
        "CUDA out of memory. Allocation was preemptively rejected because it would exceed "
        "per_process_memory_fraction limit.",
    ],
)
def test_too_little_memory_gives_the_batch_hint(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = describe_error(RuntimeError(text))
    assert found.startswith(f"out of memory ({' '.join(text.split())[:40]}")
    assert found.endswith("; lower the protocol's batch_size or the image size")
    monkeypatch.setattr("fastdc.common.gpu_share._share", 0.25)
    assert describe_error(RuntimeError(text)) == f"{found}, or let fewer processes share the GPU"


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "Unable to find a valid cuDNN algorithm to run convolution",
        "GET was unable to find an engine to execute this computation",
        "FIND was unable to find an engine to execute this computation",
    ],
)
def test_what_is_mostly_too_little_memory_gives_the_batch_hint_without_certainty(text: str) -> None:
    failure = failure_of(RuntimeError(text))
    assert failure.reason == f"probably out of memory ({text}); lower the protocol's batch_size or the image size"
    assert (failure.failure, failure.short_of_memory) == ("infrastructure", True)


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (caused_by(MethodError("the images do not fit"), RuntimeError("CUDA error: out of memory")), True),
        (caused_by(LoaderError("its images take 9 MB"), MemoryError()), True),
        (LoaderError("sample 3 cannot be decoded"), False),
        (RuntimeError("CUDA error: unspecified launch failure"), False),
    ],
    ids=repr,
)
def test_a_failure_shows_whether_memory_was_short(error: Exception, short: bool) -> None:
    assert failure_of(error).short_of_memory is short


def test_circular_causes_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert classify(first) == "method"


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (OutputError("disk full"), True),
        (OSError(errno.ENOSPC, "No space left"), True),
        (PermissionError(errno.EACCES, "no"), False),
        (MethodError("no"), False),
    ],
    ids=repr,
)
def test_failures_that_would_end_every_other_run(error: Exception, ends: bool) -> None:
    assert ends_sweep(error) is ends


def test_a_failed_row_has_its_class_and_a_dry_run_shows_it(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise WorkerError("what a cell does is changed in this process only")

    monkeypatch.setattr("fastdc.sweep.launch.in_process.run_in_own_process", refuse)
    plan = make_plan(make_config(seeds="0-2"))
    sweep(plan, failing(0, MethodError("cannot")))
    sweep(plan, failing(0, MemoryError()), rerun="failed")
    with Store(plan.store_path, readonly=True) as store:
        found = {record.label["seed"]: record.failure for record in store.records()}
    assert found == {0: "infrastructure", 1: None, 2: None}
    lines = preview(plan.config)
    assert any(line.startswith("failed ") and "seed 0 (infrastructure): out of memory" in line for line in lines)
    assert sum(line.startswith("cached ") for line in lines) == 2
    sweep(plan, failing(0, DivergedError("loss is nan at step 3")), rerun="failed")
    assert any(
        line.startswith("diverged ") and "seed 0: loss is nan at step 3" in line for line in preview(plan.config)
    )


def test_every_row_records_what_computed_it(make_config: Make) -> None:
    plan = make_plan(make_config(seeds="0-1"))
    sweep(plan, failing(1, MethodError("cannot")))
    with Store(plan.store_path, readonly=True) as store:
        records = {cell.seed: store.provenance(cell.key) for cell in plan.cells}
    for seed, found in records.items():
        assert found is not None
        assert (found["fastdc"], found["device"], found["threads"], found["precision"]) == (
            fastdc.__version__,
            "cpu",
            1,
            "fp32",
        )
        assert found["device_name"] == environment()["cpu"]
        assert found["seeds"] == {"training": seed, "subset": seed}
        assert found["libraries"]["numpy"] == np.__version__
        assert (found["pid"], found["host"]) == (os.getpid(), os.uname().nodename)
        assert 0 <= found["seconds"] < 60
        assert found["peak_memory_bytes"] > 10_000_000
        assert not any(word in json.dumps(found).lower() for word in ("key", "token", "password"))


def test_the_peak_of_memory_is_that_of_the_run() -> None:
    # Mapped memory returns to the system when it is closed; freed memory may stay with malloc after a training.
    with mmap.mmap(-1, 100_000_000) as block:
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        high = peak_memory()
        assert high > len(block)
    Watch()
    assert peak_memory() < high - 50_000_000


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_of_a_checkout(tmp_path: Path) -> None:
    assert commit(tmp_path) is None

    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "one")
    git("tag", "v1")
    assert commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "a").write_text("2")
    assert commit(tmp_path) == git("rev-parse", "HEAD") + "-dirty"
