"""End a sweep in good order on a first signal, and at once on a second."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXIT_INTERRUPTED = 130


@contextmanager
def signals_interrupt() -> Iterator[Callable[[], None]]:
    """Turn SIGINT, SIGTERM and SIGHUP into KeyboardInterrupt while the block runs (main thread only).

    A signal that is ignored stays ignored, because `nohup` and a shell's `&` start programs that way. A second signal
    exits the process at once and leaves its work as a killed process does.

    Yields:
        A function that installs the handlers again after a library has replaced them.
    """
    came = False

    def interrupt(number: int, _frame: object) -> None:
        nonlocal came
        if came:
            os._exit(EXIT_INTERRUPTED)  # skips all cleanup, which may be what takes so long
        came = True
        raise KeyboardInterrupt(signal.Signals(number).name)

    def install() -> None:
        for number in before:
            signal.signal(number, interrupt)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {number: handler for number in SIGNALS if (handler := signal.getsignal(number)) is not signal.SIG_IGN}
    install()
    try:
        yield install
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
