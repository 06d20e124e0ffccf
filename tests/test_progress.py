"""Progress lines say how much is done, how fast, and how long it still takes."""

import pytest

from fastdc.progress import Progress, format_seconds, progress


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (12000, "3 h 20 min")]
)
def test_durations_read_like_people_say_them(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_plain_lines_have_rate_time_left_and_note(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastdc.progress.PLAIN_INTERVAL_SECONDS", 0.0)
    with progress("write x", 10, "images") as bar:
        bar.advance(5, "class a")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("write x: 5/10 images, ")
    assert lines[0].endswith("0 s left, class a")


def test_short_work_and_disabled_progress_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for enabled in (True, False):
        bar = Progress("write x", 10, enabled=enabled)
        bar.advance(10)
        bar.close()
    assert capsys.readouterr().err == ""
