"""Signs of life of running cells: given by who runs them, and watched by who waits for them."""

import threading
import time

from fastdc.errors import FastDCError
from fastdc.sweep.lease import Lease
from fastdc.sweep.store import Store

HEARTBEAT_SECONDS = 15.0
SILENCE_SECONDS = 120.0


class Heart:
    """Shows, while a cell runs, that its process lives: other hosts cannot look for the process."""

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
                continue  # a busy store; the next beat may pass, and the result is stored by the main thread


class SilentWorkers:
    """Finds workers of other hosts that show no sign of life, by this process's clock alone.

    A run's heartbeat is compared with itself, never with our time of day, so clocks may differ or jump.
    """

    def __init__(self, silence: float = SILENCE_SECONDS) -> None:
        self._silence = silence
        self._seen: dict[str, tuple[str, float, float]] = {}

    def expire(self, store: Store, keys: set[str]) -> None:
        """Take back the runs among `keys` whose worker was silent for too long."""
        now = time.monotonic()
        for key, worker in store.workers().items():
            token, beat, since = self._seen.get(key, ("", 0.0, now))
            if (token, beat) != (worker.token, worker.heartbeat):
                since = now
            self._seen[key] = (worker.token, worker.heartbeat, since)
            if key in keys and now - since > self._silence:
                store.expire(key, worker.token)
