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

    With `redo` the run has a result already, which stays until this one replaces it. `after_crash`: its last process
    died while it ran, or may have; whoever runs it now may do so at a distance.
    """

    key: str
    token: str
    attempts: int
    redo: bool = False
    after_crash: bool = False


def new_token() -> str:
    """A token that no other claim has."""
    return secrets.token_hex(8)


def this_owner() -> Owner:
    """The calling process."""
    born = process_birth(os.getpid())
    return Owner(os.getpid(), socket.gethostname(), f"{born}/{pid_namespace()}" if born else "")


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


def pid_namespace() -> str:
    """Tells containers of one machine apart: each counts its processes from 1. "" where the system has none."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def is_dead(owner: Owner) -> bool:
    """Whether `owner` is known to have ended.

    Processes of other hosts are never known to have, nor are those of another container on this one, which may share
    the host's name (`docker run --network host`).
    """
    if owner.host != socket.gethostname() or owner.pid <= 0:
        return False
    birth = process_birth(owner.pid)
    boot, tick, namespace = (*owner.born.split("/"), "", "")[:3]  # an older fastdc's has no third part
    if namespace and namespace != pid_namespace() and boot == (process_birth(os.getpid()) or "").partition("/")[0]:
        return False
    return birth is None or bool(owner.born and birth and birth != f"{boot}/{tick}")
