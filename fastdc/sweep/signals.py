"""Signals that end a sweep in good order, and the second one that ends it at once."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_INTERRUPTED = 130


@contextmanager
def signals_interrupt() -> Iterator[Callable[[], None]]:
    """Turn SIGINT and SIGTERM into KeyboardInterrupt while the block runs (main thread only).

    A second signal ends the process at once: what is at work then is left as a killed process leaves it. The block is
    given a function that takes the signals back from a library that has taken them over.
    """
    came = False

    def interrupt(number: int, _frame: object) -> None:
        nonlocal came
        if came:
            os._exit(EXIT_INTERRUPTED)
        came = True
        raise KeyboardInterrupt(signal.Signals(number).name)

    def install() -> None:
        for number in SIGNALS:
            signal.signal(number, interrupt)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    install()
    try:
        yield install
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
