"""Measure the memory of a process and its children.

Shared pages count once, as proportional shares (PSS). The page cache of mapped files does not count.
"""

from pathlib import Path


def tree_bytes(root: int) -> int:
    """Return the anonymous and shared memory of `root` and its descendants in bytes; 0 if it has ended."""
    return sum(process_bytes(pid) for pid in tree(root))


def tree(root: int) -> list[int]:
    """Return `root` and its descendants."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children(pid)
    return found


def children(pid: int) -> list[int]:
    """Return the processes started by any thread of `pid`."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
    result: list[int] = []
    for task in tasks:
        try:
            result += map(int, (task / "children").read_text().split())
        except OSError:  # the thread has just ended
            continue
    return result


def process_bytes(pid: int) -> int:
    """Return the proportional share of anonymous and shared memory of one process in bytes."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    wanted = ("Pss_Anon:", "Pss_Shmem:")
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(wanted))
