"""Threads for shares of a batch, whose death does not leave the consumer waiting for ever."""

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TypeVar

Result = TypeVar("Result")

_POLL_SECONDS = 0.5


class Workers(ThreadPoolExecutor):
    """A pool that notices when it has lost its threads; the standard one keeps a job of theirs waiting."""

    def wait(self, job: "Future[Result]") -> Result:
        """The job's result.

        Raises:
            RuntimeError: no thread is left to do it.
        """
        while True:
            try:
                return job.result(timeout=_POLL_SECONDS)
            except FutureTimeoutError:
                if job.done():  # just now, or it raised such an error itself
                    return job.result()
                if not any(thread.is_alive() for thread in list(self._threads)):
                    raise RuntimeError("its thread died") from None
