"""The meaning of float32: one place sets torch's switches, through one API, in every process."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fastdc
from fastdc.common import precision
from fastdc.common.choices import Precision
from fastdc.common.errors import ConfigError
from fastdc.common.float32 import Products, exact_float32, set_float32, switches
from fastdc.common.precision import check_precision, precision_key, resolve_precision, shown_precision
from fastdc.nn.device import choose_compute

BACKENDS: Any = torch.backends
NEW = hasattr(BACKENDS.cuda.matmul, "fp32_precision")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    found = [(switch, switch.read()) for switch in switches()]
    yield
    for switch, value in found:
        switch.write(value)


def states() -> list[Any]:
    return [switch.read() for switch in switches()]


@pytest.mark.skipif(not NEW, reason="torch before 2.9")
@pytest.mark.parametrize(("precision", "gpu"), [("fp32", "ieee"), ("bf16", "ieee"), ("tf32", "tf32")])
def test_each_precision_sets_what_float32_means(precision: str, gpu: str) -> None:
    set_float32("ieee" if gpu == "tf32" else "tf32")
    compute = choose_compute("fp32", 1)
    object.__setattr__(compute, "precision", precision)
    compute.logits(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.zeros(1, 3, 2, 2))
    assert BACKENDS.cudnn.conv.fp32_precision == BACKENDS.cuda.matmul.fp32_precision == gpu
    assert BACKENDS.mkldnn.conv.fp32_precision == BACKENDS.mkldnn.matmul.fp32_precision == "ieee"


@pytest.mark.skipif(not NEW, reason="torch before 2.9")
@pytest.mark.parametrize("products", ["ieee", "tf32"])
def test_the_older_switches_can_be_read_and_agree(products: Products) -> None:
    """torch.compile and torch.export read them, and torch raises if the two kinds disagree."""
    set_float32(products)
    loose = products == "tf32"
    assert (BACKENDS.cudnn.allow_tf32, BACKENDS.cuda.matmul.allow_tf32) == (loose, loose)
    assert torch.get_float32_matmul_precision() == ("high" if loose else "highest")


@pytest.mark.skipif(not NEW, reason="torch before 2.9")
def test_switches_set_by_other_code_are_overridden() -> None:
    BACKENDS.cudnn.fp32_precision = BACKENDS.cudnn.conv.fp32_precision = "tf32"
    set_float32("ieee")
    assert BACKENDS.cudnn.conv.fp32_precision == BACKENDS.cudnn.rnn.fp32_precision == "ieee"
    assert BACKENDS.cudnn.allow_tf32 is False


def test_a_block_of_exact_products_restores_the_switches() -> None:
    set_float32("ieee")
    exact = states()
    set_float32("tf32")
    loose = states()

    def fail() -> None:
        with exact_float32():
            assert states() == exact
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert states() == loose != exact


@pytest.mark.parametrize("legacy", [False, True])
def test_torchs_own_code_reads_older_switches_after_ours(legacy: bool) -> None:
    """`torch.export` and `torch.backends.cudnn.flags` read them, and raise if the two kinds disagree."""
    done = subprocess.run([sys.executable, "-c", MIXED, str(legacy)], capture_output=True, text=True)
    assert done.stderr == ""
    tf32, ieee = ["True", "True", "high"], ["False", "False", "highest"]
    found = ieee if not legacy else tf32
    assert done.stdout.split() == [*found, *ieee, *tf32, *tf32, *ieee]


MIXED = """
import sys
import torch
from fastdc.common.float32 import exact_float32, set_float32
if sys.argv[1] == "True":
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
else:
    torch.backends.cudnn.allow_tf32 = False
def show():
    with torch.backends.cudnn.flags(enabled=False):
        pass
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    print(matmul.allow_tf32, cudnn.allow_tf32, torch.get_float32_matmul_precision())
with exact_float32():
    pass
show()
set_float32("ieee")
show()
set_float32("tf32")
show()
with exact_float32():
    pass
show()
set_float32("ieee")
show()
"""

OLD = """
import torch
from fastdc.common import float32
for kind in ("tf32", "ieee"):
    for switch in float32._before_2_9():
        switch.write(getattr(switch, kind))
    print(torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
"""


def test_the_switches_of_an_older_torch() -> None:
    done = subprocess.run([sys.executable, "-c", OLD], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "False", "False"]


def test_no_other_file_sets_the_switches() -> None:
    words = ("allow_tf32", "fp32_precision", "float32_matmul_precision")
    root = Path(fastdc.__file__).parent
    found = {path.name for path in root.rglob("*.py") if any(word in path.read_text() for word in words)}
    assert found == {"float32.py"}


@pytest.mark.skipif(not NEW, reason="torch before 2.9")
def test_fp32_on_a_cpu_is_always_ieee() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 300))
    images, compute = torch.randn(300, 3, 16, 16), choose_compute("fp32", 1)
    expected = compute.logits(model, images)
    BACKENDS.mkldnn.matmul.fp32_precision = "bf16"
    assert torch.equal(compute.logits(model, images), expected)


def test_precisions_that_a_device_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^precision tf32: needs a CUDA device, found only the CPU; use fp32, bf16"):
        check_precision("tf32", "cpu")
    with pytest.raises(ConfigError, match=r"compute capability 7\.5, expected 8\.0 or higher; use fp32"):
        check_precision("tf32", "cuda", (7, 5))
    check_precision("tf32", "cuda", (8, 0))
    with pytest.raises(ConfigError, match=r"bf16: .* compute capability 7\.5, .* or higher; use fp16 or fp32"):
        check_precision("bf16", "cuda", (7, 5))
    check_precision("bf16", "cuda", (8, 0))
    check_precision("bf16", "cpu")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    with pytest.raises(ConfigError, match=r"^precision tf32: NVIDIA_TF32_OVERRIDE=0 turns it off; unset it"):
        check_precision("tf32", "cuda", (8, 0))
    check_precision("fp32", "cuda", (8, 0))
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    check_precision("fp16", "cuda", (7, 5))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="tf32: needs a CUDA device"):
            choose_compute("tf32", 1)


@pytest.mark.parametrize(
    ("capability", "chosen"),
    [((6, 1), "fp32"), ((7, 0), "fp32"), ((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16"), (None, "bf16")],
)
def test_auto_is_never_refused(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] | None, chosen: Precision
) -> None:
    monkeypatch.setattr(precision, "gpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability or (8, 6))
    compute = choose_compute("auto", torch.get_num_threads())
    assert (compute.device.type, compute.precision, compute.key) == ("cuda", chosen, f"{chosen}/2")
    assert resolve_precision("auto", "cuda") == chosen  # what a sweep plans, without torch
    assert resolve_precision("fp16", "cuda") == "fp16"
    assert resolve_precision("auto", "cpu") == "fp32"


def test_keys_and_titles_of_precisions() -> None:
    assert precision_key("fp32", "cpu") == "fp32"  # unchanged since the first release
    others = {precision_key(each, "cuda") for each in ("fp32", "tf32", "bf16", "fp16")} | {precision_key("bf16", "cpu")}
    assert others == {"fp32/2", "tf32/2", "bf16/2", "fp16/2"}
    assert [shown_precision(each) for each in ("fp32", "bf16")] == ["fp32", "bf16 (paper: fp32)"]
