"""Who works on a run: enough about a process to tell, later, whether it still lives."""

import os
import secrets
import socket
from pathlib import Path
from typing import NamedTuple


class Owner(NamedTuple):
    """A process on a host. `born` tells two processes apart that had the same pid one after the other."""

    pid: int
    host: str
    born: str


class Lease(NamedTuple):
    """The right to finish one run: `token` is drawn anew for every claim, so a lost lease cannot write.

    With `redo` the run has a result already, which stays until this one replaces it.
    """

    key: str
    token: str
    attempts: int
    redo: bool = False


def new_token() -> str:
    """A token that no other claim has."""
    return secrets.token_hex(8)


def this_owner() -> Owner:
    """The calling process."""
    return Owner(os.getpid(), socket.gethostname(), process_birth(os.getpid()) or "")


def process_birth(pid: int) -> str | None:
    """Boot id and start tick of process `pid`, "" where the system does not tell, None when it does not run."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:  # somebody else's process, but alive
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    if fields[0] == "Z":  # killed, and not yet collected by its parent
        return None
    return f"{boot}/{fields[19]}"


def is_dead(owner: Owner) -> bool:
    """Whether `owner` is known to have ended. Processes of other hosts are never known to have."""
    if owner.host != socket.gethostname() or owner.pid <= 0:
        return False
    birth = process_birth(owner.pid)
    return birth is None or bool(owner.born and birth and birth != owner.born)
