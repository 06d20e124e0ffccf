"""Copies to a CUDA device: the host is ahead of them by some steps only. Runs with `-m gpu`."""

import pytest
import torch

from fastdc.common.transfer import MOST_STEPS_AHEAD, Lead
from tests.gpu.test_device_engine import no_cuda

pytestmark = [pytest.mark.gpu, no_cuda]


def test_the_host_is_ahead_by_some_steps_only() -> None:
    lead, ends = Lead(), [torch.cuda.Event() for _ in range(3 * MOST_STEPS_AHEAD)]  # type: ignore[no-untyped-call]
    for end in ends:
        torch.cuda._sleep(2_000_000)  # type: ignore[no-untyped-call]  # about a millisecond
        end.record()
        lead.step()
    assert 0 < sum(not end.query() for end in ends) <= MOST_STEPS_AHEAD  # type: ignore[no-untyped-call]
