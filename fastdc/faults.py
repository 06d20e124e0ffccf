"""Named points at which a test lets fastdc crash. Off unless the environment variable FASTDC_FAULT asks for one.

`FASTDC_FAULT=file.written:3` kills the process (SIGKILL) the third time that it comes by the point `file.written`;
`...:3:full` raises "No space left on device" there instead, `...:3:interrupt` sends SIGINT. Read nowhere else.
"""

import errno
import os
import signal

POINTS = (
    "file.written",  # the temporary file is whole and on disk, its name is not
    "file.replaced",  # it has its name; what names it (a manifest, a row) may not be there
    "store.created",  # a new store lies under a temporary name
    "store.registering",  # rows of a sweep are entered, not committed
    "store.claimed",  # a run is taken, and not begun
    "store.finishing",  # result and state are written, not committed
    "store.finished",  # committed; the checkpoint still lies there
    "subset.made",  # a subset is whole, what it took is not stored
)
ACTIONS = ("kill", "full", "interrupt")

_counts: dict[str, int] = {}
_wanted: tuple[str, int, str] | None = None


def arm(wish: str | None) -> None:
    """Set what FASTDC_FAULT sets, from now on; None for nothing.

    Raises:
        ValueError: not POINT:COUNT or POINT:COUNT:ACTION.
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
    """Come by a point: nothing, unless a test asked for a crash here."""
    if _wanted is None or _wanted[0] != point:
        return
    _counts[point] = _counts.get(point, 0) + 1
    if _counts[point] != _wanted[1]:
        return
    if _wanted[2] == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.kill(os.getpid(), signal.SIGKILL if _wanted[2] == "kill" else signal.SIGINT)


arm(os.environ.get("FASTDC_FAULT"))
