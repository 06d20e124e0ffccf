"""Writes at a position."""

import os
import subprocess
import sys

import pytest

from fastdc.beton.positioned_io import start_writeback, write_all


def test_buffers_are_written_in_sequence_from_the_position(tmp_path):
    buffers = [bytes([number % 251]) * (number % 7) for number in range(3000)]  # more than one call takes, some empty
    with (tmp_path / "x").open("w+b") as handle:
        write_all(handle.fileno(), [*buffers, memoryview(b"end")], 10)
        start_writeback(handle.fileno(), 0, 4096)
    assert (tmp_path / "x").read_bytes() == bytes(10) + b"".join(buffers) + b"end"


def test_a_partial_write_is_continued(tmp_path):
    """At a file size limit the kernel writes what fits, and reports the error only at the next call."""
    script = """
import errno, resource, sys
from fastdc.beton.positioned_io import write_all
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with open(sys.argv[1], "w+b") as handle:
    try:
        write_all(handle.fileno(), [b"a" * 600, b"b" * 600], 0)
    except OSError as error:
        print(errno.errorcode[error.errno])
"""
    command = [sys.executable, "-c", script, str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "EFBIG\n"
    assert (tmp_path / "x").read_bytes() == b"a" * 600 + b"b" * 400


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's own call")
def test_writeback_changes_nothing_and_ignores_files_that_cannot_be_synced(tmp_path):
    (tmp_path / "x").write_bytes(b"content")
    with (tmp_path / "x").open("r+b") as handle:
        start_writeback(handle.fileno(), 0, 1 << 30)
    assert (tmp_path / "x").read_bytes() == b"content"
    reading, writing = os.pipe()
    start_writeback(writing, 0, 10)  # a pipe has no pages
    os.close(reading)
    os.close(writing)
