"""Child processes with the default handling of signals, whatever the test run has inherited."""

import signal
import subprocess
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


def default_signals() -> None:
    """Undo in a child, before its program starts, what `nohup`, a shell's `&` or a CI runner ignores."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def start_process(command: list[str], **options: Any) -> "subprocess.Popen[Any]":
    """Start a process for tests of signals; options are those of `subprocess.Popen`."""
    return subprocess.Popen(command, preexec_fn=default_signals, **options)
