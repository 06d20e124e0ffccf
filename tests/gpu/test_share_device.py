"""A process's share of a CUDA device, and GPUs as processes see them; runs with `-m gpu`."""

import os
import subprocess
import sys

import pytest
import torch

from fastdc.sweep.launch.host_gpus import visible_gpus
from tests.gpu.test_device_engine import no_cuda

pytestmark = [pytest.mark.gpu, no_cuda]

SHARE = """
import torch
from fastdc.common.gpu_share import gpu_budget, take_gpu_share
from fastdc.sweep.failures import loses_device
from fastdc.sweep.cell_result import describe_error

take_gpu_share(0.25)
budget = gpu_budget(torch.cuda.get_device_properties(0).total_memory)
torch.empty(budget - (64 << 20), dtype=torch.uint8, device="cuda")
try:
    torch.empty(budget + (64 << 20), dtype=torch.uint8, device="cuda")
except RuntimeError as error:
    print(describe_error(error).partition(" (")[0], loses_device(error))
"""
SEEN = "import torch; print(torch.cuda.device_count(), torch.cuda.get_device_properties(0).uuid)"


def test_more_than_the_share_is_out_of_memory() -> None:
    done = subprocess.run([sys.executable, "-c", SHARE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["out", "of", "memory", "False"]


def test_each_name_selects_one_gpu() -> None:
    found = []
    for name in visible_gpus():
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": name}
        command = [sys.executable, "-c", SEEN]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.append(tuple(done.stdout.split()))
    expected = range(torch.cuda.device_count())
    assert found == [("1", str(torch.cuda.get_device_properties(number).uuid)) for number in expected]
