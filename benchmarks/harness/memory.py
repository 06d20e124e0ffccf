"""Memory of a process and its children: shared pages count once (PSS), page cache of mapped files not at all."""

from pathlib import Path


def tree_bytes(root: int) -> int:
    """Anonymous memory of `root` and of all processes below it, bytes; 0 when it is gone."""
    return sum(process_bytes(pid) for pid in tree(root))


def tree(root: int) -> list[int]:
    """`root` and its descendants."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children(pid)
    return found


def children(pid: int) -> list[int]:
    """Processes started by any thread of `pid`."""
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
    """Proportional share of anonymous and shared memory of one process."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    wanted = ("Pss_Anon:", "Pss_Shmem:")
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(wanted))
