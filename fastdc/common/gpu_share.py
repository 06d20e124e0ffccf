"""Share of the memory of its GPU that this process may use, where several processes run on one GPU."""

OTHER_BYTES = 1 << 30
"""Memory of a process on a GPU that torch does not manage: CUDA's context and loaded kernels. An upper estimate."""

_share = 1.0


def take_gpu_share(share: float) -> None:
    """Limit torch's memory on the GPU to this process's share; call it before anything is computed there.

    Args:
        share: part of the GPU's memory; the shares of all processes on it add up to 1 at most.

    Raises:
        RuntimeError: the GPU cannot be used.
    """
    import torch

    global _share
    _share = share
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(gpu_budget(total) / total, 0)


def shares_gpu() -> bool:
    """Return whether this process has only a part of its GPU."""
    return _share < 1


def gpu_budget(total: int) -> int:
    """Return the bytes that torch may use of a GPU of `total` bytes.

    They do not depend on what other processes use at the moment. A process that has a GPU for itself may use all.
    """
    if not shares_gpu():
        return total
    mine = int(total * _share)
    return max(mine - OTHER_BYTES, mine // 2)


def own_gpu_budget() -> int:
    """Return the bytes that torch may use of the present GPU, see `gpu_budget`.

    Raises:
        RuntimeError: the GPU cannot be used.
    """
    import torch

    return gpu_budget(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
