"""The check that `fastdc doctor` shows, with a tape in the place of CUDA's capture."""

import torch

from fastdc.nn.graph_check import graphs_fault
from tests.nn.tape import record
from tests.nn.test_step_graphs import Forgetful

CPU = torch.device("cpu")


def test_the_check_passes_and_can_fail() -> None:
    state = torch.get_rng_state()
    assert graphs_fault(CPU, record) == ""
    assert graphs_fault(CPU, Forgetful()).startswith("a replay differed from the step: loss by 1 ")
    assert torch.equal(torch.get_rng_state(), state)
