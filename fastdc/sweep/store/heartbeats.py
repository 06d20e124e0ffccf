"""Send heartbeats for running cells, and find cells whose heartbeats have stopped."""

import threading
import time

from fastdc.common.errors import FastDCError
from fastdc.sweep.store.lease import Lease
from fastdc.sweep.store.results import Store

HEARTBEAT_SECONDS = 15.0
SILENCE_SECONDS = 120.0


class Heartbeat:
    """Context manager that writes a heartbeat to the store while a cell runs.

    Other hosts need it, because they cannot look up this process.
    """

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store, self._lease = store, lease
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="fastdc-heart", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                if not self._store.heartbeat(self._lease):
                    return
            except FastDCError:
                continue  # the store is busy: the next beat may succeed, and the main thread stores the result


class SilentHolders:
    """Finder of processes whose heartbeat has stopped, measured by the clock of this process only.

    A heartbeat is compared only with its own earlier value, never with the local time of day. So the clocks of hosts
    may differ or jump.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, float, float]] = {}

    def expire(self, store: Store, keys: set[str]) -> None:
        """Take back the runs among `keys` whose process has been silent for too long."""
        now = time.monotonic()
        for key, holder in store.holders().items():
            token, beat, since = self._seen.get(key, ("", 0.0, now))
            if (token, beat) != (holder.token, holder.heartbeat):
                since = now  # a new claim or a new beat restarts the silence; so does the first look
            self._seen[key] = (holder.token, holder.heartbeat, since)
            if key in keys and now - since > SILENCE_SECONDS:
                store.expire(key, holder.token)
