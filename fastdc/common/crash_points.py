"""Define named points at which a test makes fastdc crash.

They are off unless the environment variable FASTDC_FAULT names one. `FASTDC_FAULT=file.written:3` kills the process
(SIGKILL) when it reaches the point `file.written` for the third time. `...:3:full` raises "No space left on device"
there instead, and `...:3:interrupt` sends SIGINT. No other module reads the variable.
"""

import errno
import os
import signal

POINTS = (
    "file.written",  # the temporary file is complete and on disk, but not yet renamed
    "file.replaced",  # the file is renamed; a manifest or row that refers to it may not exist yet
    "store.created",  # a new store exists under a temporary name
    "store.registering",  # the rows of a sweep are inserted, not committed
    "store.claimed",  # a run is claimed, not started
    "store.finishing",  # result and state are written, not committed
    "store.finished",  # result and state are committed; the checkpoint still exists
    "subset.made",  # a subset is complete, its cost is not stored
)
ACTIONS = ("kill", "full", "interrupt")

_counts: dict[str, int] = {}
_wanted: tuple[str, int, str] | None = None


def arm(wish: str | None) -> None:
    """Arm the fault that `wish` describes as FASTDC_FAULT does, and reset all counts; None or "" disarms.

    Raises:
        ValueError: `wish` is not POINT:COUNT or POINT:COUNT:ACTION.
    """
    global _wanted
    _counts.clear()
    if not wish:
        _wanted = None
        return
    point, _, rest = wish.partition(":")
    count, _, action = rest.partition(":")
    if point not in POINTS or not count.isdigit() or (action or "kill") not in ACTIONS:
        raise ValueError(f"FASTDC_FAULT={wish}: expected POINT:COUNT or POINT:COUNT:ACTION with {POINTS}, {ACTIONS}")
    _wanted = point, int(count), action or "kill"


def hit(point: str) -> None:
    """Count a visit to `point`, and crash if a test armed this visit."""
    if _wanted is None or _wanted[0] != point:
        return
    _counts[point] = _counts.get(point, 0) + 1
    if _counts[point] != _wanted[1]:
        return
    if _wanted[2] == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.kill(os.getpid(), signal.SIGKILL if _wanted[2] == "kill" else signal.SIGINT)


arm(os.environ.get("FASTDC_FAULT"))
