"""Progress lines show what is done, the rate, and the time left."""

import pytest

from fastdc.common.log import Progress, format_seconds, log_message, progress, progress_shown, shows_progress


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (12000, "3 h 20 min")]
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_plain_lines_have_rate_time_left_and_note(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdc.common.log.PLAIN_INTERVAL_SECONDS", 0.0)
    with progress("write x", 10, "images") as bar:
        bar.advance(5, "class a")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("write x: 5/10 images, ")
    assert lines[0].endswith("0 s left, class a")


def test_short_work_and_hidden_progress_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for shown in (True, False):
        with progress_shown(shown):
            bar = Progress("write x", 10)
        bar.advance(10)
        bar.close()
    assert capsys.readouterr().err == ""


def test_a_process_without_stderr_continues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    monkeypatch.setattr("fastdc.common.log.PLAIN_INTERVAL_SECONDS", 0.0)
    with progress("write x", 10) as bar:
        bar.advance(5)
    assert bar.done == 5
    assert not log_message("unseen")


def test_a_full_device_ends_only_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = open("/dev/full", "w")  # noqa: SIM115  (its buffer cannot be flushed when it is closed)
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr("fastdc.common.log.PLAIN_INTERVAL_SECONDS", 0.0)
    bar = Progress("write x", 10)
    bar.advance(5)
    assert not bar.enabled
    with pytest.raises(OSError, match="No space"):
        stream.close()


def test_messages_are_escaped_for_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert log_message("red \x1b[31m\nand \u202e turned")
    assert capsys.readouterr().err == "red ?[31m and ? turned\n"


def test_work_in_a_hidden_block_shows_no_progress(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdc.common.log.PLAIN_INTERVAL_SECONDS", 0.0)
    with progress_shown(False), progress_shown(True), progress("write x", 10) as bar:
        bar.advance(5)
    assert capsys.readouterr().err == ""
    with progress("write x", 10) as bar:
        bar.advance(5)
    assert "5/10 images" in capsys.readouterr().err


def test_overlapping_hidden_blocks_do_not_hide_later_work() -> None:
    """Blocks of two threads may overlap: the first to open is the first to close."""
    first, second = progress_shown(False), progress_shown(False)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not shows_progress()
    second.__exit__(None, None, None)
    assert shows_progress()
