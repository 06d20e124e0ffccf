"""Errors that a user can fix become one line and an exit code; others are bugs."""

import errno

import pytest

from fastdc.common.errors import DivergedError, SourceError, explain, is_disk_full


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (SourceError("photos: is empty"), ("photos: is empty", 2)),
        (DivergedError("the loss is NaN"), ("the loss is NaN", 1)),
        (
            PermissionError(errno.EACCES, "Permission denied", "/d/x"),
            ("/d/x: Permission denied; check path and permissions", 2),
        ),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            ("output: disk full (Disk quota exceeded); free space and run again", 2),
        ),
        (OSError(errno.EIO, "Input/output error"), None),
        (KeyError("x"), None),
    ],
)
def test_an_error_is_a_line_and_a_code_or_a_bug(error: Exception, found: tuple[str, int] | None) -> None:
    assert explain(error) == found


def test_a_full_disk_is_recognised_by_its_number() -> None:
    full = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG]
    assert all(is_disk_full(OSError(number, "full")) for number in full)
    assert not is_disk_full(OSError(errno.EIO, "failing"))
    assert not is_disk_full(SourceError("disk full"))
