"""A CUDA graph's semantics on the CPU: operations are recorded once, and repeated on the same tensors.

As on a GPU, recording changes nothing, a replay runs none of the step's Python code, and reading a value on the host
fails.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HOST_READS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique", "masked_select")
"""Operations that wait for the device on CUDA."""


def tensors(values: Any) -> list[torch.Tensor]:
    return [each for each in tree_leaves(values) if isinstance(each, torch.Tensor)]


class Tape(TorchDispatchMode):
    """Operations of a run, with the tensors that they read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.made: set[int] = set()  # addresses of the memory that the run itself allocated
        self.outside: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._opname in HOST_READS or _picks_by_mask(func, args):
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        for tensor in tensors((args, kwargs)):
            self._keep(tensor)
        found = func(*args, **kwargs)
        for tensor in tensors(found):
            if tensor.untyped_storage().data_ptr() not in self.outside:
                self.made.add(tensor.untyped_storage().data_ptr())
        self.operations.append((func, args, kwargs, found))  # holding them keeps their addresses
        return found

    def _keep(self, tensor: torch.Tensor) -> None:
        """Copy the bytes of a tensor from outside before the run can change them."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.made and storage.data_ptr() not in self.outside:
            whole = torch.empty(0, dtype=torch.uint8).set_(storage)  # type: ignore[call-overload]
            self.outside[storage.data_ptr()] = whole, whole.clone()

    def put_back(self) -> None:
        for tensor, values in self.outside.values():
            tensor.copy_(values)
        self.outside.clear()

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, found in self.operations:
            again = func(*args, **kwargs)
            for returned, old, new in zip(_returns(func, found), tensors(found), tensors(again), strict=True):
                if not returned:  # fresh memory: its address is the recorded one
                    old.copy_(new)


def _picks_by_mask(func: Any, args: Any) -> bool:
    return func._opname in ("index", "index_put_", "index_put") and any(
        each.dtype in (torch.bool, torch.uint8) for each in tensors(args[1])
    )


def _returns(func: Any, found: Any) -> list[bool]:
    """For each returned tensor, whether it is one of the arguments or a view of one."""
    kinds = func._schema.returns
    alias = [each.alias_info is not None for each in kinds]
    return alias if len(alias) == len(tensors(found)) else [any(alias)] * len(tensors(found))


@contextmanager
def recorded() -> Iterator[Tape]:
    tape, random = Tape(), torch.get_rng_state()
    try:
        with tape:
            yield tape
    finally:
        with torch.no_grad():
            tape.put_back()
        torch.set_rng_state(random)


class Recording:
    """Capture on tapes, in the place of `CudaCapture`."""

    usable = True

    def apart(self) -> AbstractContextManager[None]:
        return nullcontext()

    def __call__(self, run: Callable[[], None]) -> Callable[[], None]:
        with recorded() as tape:
            run()
        return tape.replay


record = Recording()
