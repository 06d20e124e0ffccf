"""Threads for shares of a batch, which report their loss instead of leaving the consumer waiting."""

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TypeVar

Result = TypeVar("Result")

_POLL_SECONDS = 0.5


class Workers(ThreadPoolExecutor):
    """Thread pool that detects the loss of its threads; the standard pool would wait for their jobs forever."""

    def wait(self, job: "Future[Result]") -> Result:
        """Return the job's result.

        Raises:
            RuntimeError: no thread is left to run it.
        """
        while True:
            try:
                return job.result(timeout=_POLL_SECONDS)
            except FutureTimeoutError:
                if job.done():  # it ended just now, or the job itself raised a TimeoutError
                    return job.result()
                # A copy of the set, because the pool may add threads meanwhile.
                if not any(thread.is_alive() for thread in list(self._threads)):
                    raise RuntimeError("its thread died") from None
