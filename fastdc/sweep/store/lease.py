"""Identify the process that works on a run, so that a later process can find out whether it still runs."""

import os
import secrets
import socket
from pathlib import Path
from typing import NamedTuple


class Owner(NamedTuple):
    """Identify a process on a host.

    Attributes:
        pid: process id.
        host: name of the host.
        born: boot id, start tick and pid namespace, joined by "/". It distinguishes two processes that had the same
            pid at different times. "" if the system does not provide them.
    """

    pid: int
    host: str
    born: str


class Lease(NamedTuple):
    """Hold the right to finish one run.

    Attributes:
        key: content key of the run.
        token: drawn again for every claim, so that a lost lease cannot write.
        attempts: number of times the run was started, including this one, without those that were given back.
        redo: the run has a result already, which stays until the new one replaces it.
        after_crash: an earlier process of the run ended, or may have ended, while it ran, or the machine failed it. A
            caller may run it in its own process.
    """

    key: str
    token: str
    attempts: int
    redo: bool = False
    after_crash: bool = False


class Holder(NamedTuple):
    """Identify the process that holds a run, with its latest heartbeat.

    Token and heartbeat stay the same only while the process shows no activity.
    """

    owner: Owner
    token: str
    heartbeat: float


def new_token() -> str:
    """Return a token that no other claim has."""
    return secrets.token_hex(8)


def this_owner() -> Owner:
    """Identify the calling process."""
    born = process_birth(os.getpid())
    return Owner(os.getpid(), socket.gethostname(), f"{born}/{pid_namespace()}" if born else "")


def process_birth(pid: int) -> str | None:
    """Return the boot id and start tick of process `pid`; "" if the system has neither, None if it does not run."""
    try:
        os.kill(pid, 0)  # signal 0 only checks that the process exists
    except ProcessLookupError:
        return None
    except OSError:  # it belongs to another user, but runs
        pass
    try:
        # The second field, the name in brackets, may hold spaces and brackets; the fields after it may not.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    if fields[0] == "Z":  # a zombie: it has ended, and its parent has not collected it yet
        return None
    return f"{boot}/{fields[19]}"  # field 22 of the file, starttime, in clock ticks since boot


def pid_namespace() -> str:
    """Return the pid namespace of this process; "" if the system has none.

    It distinguishes containers on one machine, each of which numbers its processes from 1.
    """
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def is_dead(owner: Owner) -> bool:
    """Return whether `owner` is known to have ended.

    That is never known of processes on other hosts, nor of those in another container on this host. Such a container
    may share the host's name (`docker run --network host`).
    """
    if owner.host != socket.gethostname() or owner.pid <= 0:
        return False
    birth = process_birth(owner.pid)
    boot, tick, namespace = (*owner.born.split("/"), "", "")[:3]  # an older fastdc wrote no namespace
    # Same boot but another namespace: a container on this machine, whose pids mean other processes here.
    if namespace and namespace != pid_namespace() and boot == (process_birth(os.getpid()) or "").partition("/")[0]:
        return False
    return birth is None or bool(owner.born and birth and birth != f"{boot}/{tick}")
