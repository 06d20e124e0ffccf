"""Connect to a Ray cluster, or start one on this host."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastdc.common.errors import ConfigError, WorkerError
from fastdc.common.extras import install_extra
from fastdc.common.text import one_line
from fastdc.common.threads import host_cpus

REACH_SECONDS = 10.0
LOCAL_STORE_BYTES = 200 * 2**20


def import_ray() -> Any:
    """Import the package `ray`.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"--launcher ray: Ray is not installed; {install_extra('ray')}") from error
    return ray


def live_nodes() -> list[dict[str, Any]]:
    """Return the live hosts of the cluster, as Ray describes them."""
    return [node for node in import_ray().nodes() if node["Alive"]]


def connect(address: str) -> bool:
    """Connect this process to the cluster at `address`; return False if it is connected already.

    Args:
        address: as `ray.init` takes it; "local" starts a cluster on this host.

    Raises:
        WorkerError: there is no such cluster.
        KeyboardInterrupt: SIGTERM arrived meanwhile.
    """
    ray = import_ray()
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
    if address == "local":
        options |= {"num_cpus": host_cpus(), "include_dashboard": False}
        options |= {"object_store_memory": LOCAL_STORE_BYTES}
    try:
        _reach(address)
        with _stderr_closed():
            _start(ray, address, options)
    except SystemExit:  # Ray has replaced the handler of SIGTERM, and exits on the signal
        raise KeyboardInterrupt from None
    except Exception as error:  # Ray raises many types here, among them plain Exception
        reason = one_line(error)[:300]
        raise WorkerError(f"--launcher ray: no cluster at '{address}': {reason}") from error
    return True


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """Discard what native code writes to stderr, where a client of Ray reports every second what it waits for."""
    try:
        kept = os.dup(2)
    except OSError:  # stderr was never open
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _reach(address: str) -> None:
    """Wait up to `REACH_SECONDS` for a host to listen at HOST:PORT; Ray itself would try for minutes.

    Raises:
        OSError: no host listens there.
        OverflowError: there is no such port.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return  # a name such as "auto", which Ray looks up
    deadline = time.monotonic() + REACH_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
            return
        except (OSError, OverflowError) as error:  # another try cannot mend a port out of range
            if time.monotonic() > deadline or not isinstance(error, OSError):
                raise
        time.sleep(0.5)


def _start(ray: Any, address: str, options: dict[str, Any]) -> None:
    """Connect to a cluster, or start one on this host with two tries.

    Ray gives its own processes 30 s to start, which a busy machine may exceed.
    """
    try:
        ray.init(address=address, **options)
    except Exception:
        ray.shutdown()
        if address != "local":
            raise
        ray.init(address=address, **options)
