"""CUDA graphs of a training's step, one for each kind of input, and the check of their first replays.

A graph repeats the same operations at the same addresses in one launch: input, forward and backward pass, check for
finite values, and optimizer. Whatever differs between two steps must therefore lie in tensors that stay.
"""

import math
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from fastdc.common.log import log_message
from fastdc.nn.cuda_capture import Capture, CudaCapture, Run, stream_left
from fastdc.nn.fit_plan import Recorder
from fastdc.nn.step_input import StepInput
from fastdc.nn.step_ledger import StepLedger
from fastdc.nn.training_state import Copied, TrainingState

CHECKED_STEPS = 3
"""First steps of each kind that run both ways."""
WARM_UP_STEPS = 2
"""Steps before a capture, in which libraries choose kernels and allocate memory; they are undone."""
LOSS_BOUND, WEIGHTS_BOUND, BUFFERS_BOUND = 1e-3, 0.25, 0.05
"""Largest relative difference of a step's loss, and of its changes of weights and of buffers, between both ways.

Kernels with atomic additions do not repeat their last bits. AdamW's first steps turn such a bit into a whole step where
a gradient is almost 0, so the bound on weights is wide. A step on other data differs by about 1.
"""

NO_MEMORY = "memory does not hold a graph and a step"

Step = Callable[[torch.Tensor, Any], None]


def why_no_graphs(
    device: torch.device, optimizer: torch.optim.Optimizer, ledger: StepLedger | None, recorder: Recorder
) -> str:
    """Return why a training's steps cannot be replayed as graphs; empty if they can."""
    if device.type != "cuda":
        return "graphs need CUDA"
    if recorder.reads_batches:
        return "its recorder reads every batch"
    if ledger is None:
        return "its optimizer is not fused, or precision is fp16"
    if not stream_left():
        return "every CUDA stream of torch is in use"
    known = type(optimizer) in (torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD)
    if not known or any(group.get("dampening") for group in optimizer.param_groups):
        return f"the state of {type(optimizer).__name__} does not begin with 0"
    return ""


class StepGraphs:
    """Steps of one training, replayed as graphs; without one they run as they are.

    Args:
        capture: how to record a step; None for CUDA graphs with a stream and a memory pool of their own.

    Attributes:
        reason: why no graph is used any more; empty if graphs are used.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        ledger: StepLedger,
        device: torch.device,
        capture: Capture | None = None,
    ) -> None:
        self._model, self._optimizer, self._ledger, self._device = model, optimizer, ledger, device
        self._capture = capture or CudaCapture()
        # CUDA's fused optimizers read a float32 rate, within 2**-24 of the exact one.
        kind = torch.float32 if device.type == "cuda" else torch.float64
        self._rate, self._last_rate = torch.zeros((), dtype=kind, device=device), 0.0
        self._captured: dict[Hashable, _StepGraph] = {}
        self.reason = ""

    def take(self, step: Step, new: StepInput, learning_rate: float) -> None:
        """Train one step, by a graph if there is one; the first steps of a kind run both ways.

        Args:
            step: function of images and targets that trains on them and reads nothing on the host.
            new: the step's input.
        """
        if learning_rate != self._last_rate:
            self._rate.fill_(learning_rate)
            self._last_rate = learning_rate
        if new.kind not in self._captured:
            self._captured[new.kind] = _StepGraph(new.kept(self._device))
        graph = self._captured[new.kind]
        graph.input.fill(new)
        if not self._capture.usable:
            self._give_up("the capture of another training on its stream failed")
            self._run(step, graph.input)
        elif graph.checks < CHECKED_STEPS:
            self._run_both_ways(step, graph)
        else:
            assert graph.replay is not None
            graph.replay()

    def _run_both_ways(self, step: Step, graph: "_StepGraph") -> None:
        """Train one step as it is, then again by a replay, and compare; keep the replay's result if they agree."""
        state = TrainingState(self._model, self._optimizer, [*self._ledger.tensors, *graph.input.changed], self._device)
        before = _copied(state)
        if before is None or not self._fits(step, graph, state, before):
            self._give_up(NO_MEMORY)
            if before is not None:
                state.put_back(before)
            self._run(step, graph.input)
            return
        stepped = _copied(state)
        if stepped is None:
            self._give_up(NO_MEMORY)  # the step itself is done
            return
        state.put_back(before)
        try:
            if graph.replay is None:
                graph.replay = self._recorded(step, graph.input)
            graph.replay()
            fault = self._fault(state, before, stepped)
        except Exception as error:  # whatever the network, a library or the driver raise during a capture
            fault = f"its capture failed ({_cause(error)})"
        graph.checks += 1
        if fault:
            self._give_up(fault)
            state.put_back(stepped)

    def _fits(self, step: Step, graph: "_StepGraph", state: TrainingState, before: Copied) -> bool:
        """Train a step as it is, after a warm-up before a capture; return whether memory holds it beside the graphs.

        Raises:
            OutOfMemoryError: memory does not hold the step although there are no graphs.
        """
        try:
            if graph.replay is None:
                with self._capture.apart():
                    for _ in range(WARM_UP_STEPS):
                        self._run(step, graph.input)
                        state.put_back(before)
            self._run(step, graph.input)
        except torch.OutOfMemoryError:
            if not any(each.replay for each in self._captured.values()):
                raise
            return False  # the error, which keeps the step's tensors alive, ends here
        return True

    def _give_up(self, reason: str) -> None:
        self.reason = reason
        if self._device.type == "cuda" and any(each.replay for each in self._captured.values()):
            torch.cuda.current_stream().synchronize()  # replays may read what is then free for other streams
        for graph in self._captured.values():
            graph.replay = None  # and with the graph its memory, whatever still refers to this entry
        self._captured.clear()
        report_no_graphs(reason)

    def _recorded(self, step: Step, step_input: StepInput) -> Run:
        # A gradient from before would be added to, at an address outside the graph's memory.
        self._optimizer.zero_grad(set_to_none=True)
        return self._capture(lambda: self._run(step, step_input, captured=True))

    def _run(self, step: Step, step_input: StepInput, captured: bool = False) -> None:
        with _tensor_rate(self._optimizer, self._rate, captured):
            step(*step_input.read())

    def _fault(self, state: TrainingState, before: Copied, stepped: Copied) -> str:
        """Return how a replay's result differs from that of the step itself; empty if they agree."""
        change, start = state.change(before, stepped, state.copy()), before.tensors[self._ledger.loss]
        losses = stepped.tensors[self._ledger.loss] - start, self._ledger.loss - start
        found = (
            ("loss", _relative(*torch.stack(losses).tolist()), LOSS_BOUND),
            ("weights", change.weights, WEIGHTS_BOUND),
            ("buffers", change.buffers, BUFFERS_BOUND),
        )
        different = [f"{what} by {share:.2g} (bound {bound:g})" for what, share, bound in found if not share <= bound]
        return f"a replay differed from the step: {', '.join(different)}" if different else ""


@dataclass
class _StepGraph:
    """Graph of one kind of input.

    Attributes:
        input: the input at fixed addresses.
        replay: function that repeats the step; None before its capture.
        checks: steps that ran both ways.
    """

    input: Any
    replay: Run | None = None
    checks: int = 0


def _copied(state: TrainingState) -> Copied | None:
    """Return a copy of the state, or None where memory does not hold one."""
    try:
        return state.copy()
    except torch.OutOfMemoryError:
        return None


def _relative(first: float, second: float) -> float:
    """Return the difference of two losses as a share of the larger; 0 if neither is finite."""
    if first == second or not (math.isfinite(first) or math.isfinite(second)):
        return 0.0
    return abs(first - second) / max(abs(first), abs(second))


def _cause(error: BaseException) -> str:
    """Return type and first line of the first error: ending a broken capture raises another one."""
    while error.__context__ is not None:
        error = error.__context__
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


@contextmanager
def _tensor_rate(optimizer: torch.optim.Optimizer, rate: torch.Tensor, captured: bool) -> Iterator[None]:
    """Let an optimizer read its learning rate from a tensor; afterwards its groups are as they were.

    Checkpoints therefore hold plain numbers, as those of trainings without graphs.
    """
    kept: list[dict[str, Any]] = [
        {name: group[name] for name in ("lr", "capturable") if name in group} for group in optimizer.param_groups
    ]
    for group in optimizer.param_groups:
        group["lr"] = rate
        if "capturable" in group:  # changes nothing in a fused optimizer, which always counts steps on the device
            group["capturable"] = captured
    try:
        yield
    finally:
        for group, values in zip(optimizer.param_groups, kept, strict=True):
            group.update(values)


@lru_cache
def report_no_graphs(reason: str) -> None:
    """Log once per process why steps are not replayed as graphs."""
    log_message(f"training steps run one operation at a time, not as CUDA graphs, because {reason}")
