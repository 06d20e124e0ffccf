"""All contenders compute the same scores from logits, so they race over the same work."""

from collections.abc import Callable
from pathlib import Path

import pytest
from contenders import official_scoring, scoring


@pytest.mark.parametrize(
    "kind", [scoring.Ours, scoring.Numpy, scoring.Torch, official_scoring.Ccs, official_scoring.PerSample]
)
def test_scores_are_right(kind: Callable[..., scoring.Scoring], tmp_path: Path) -> None:
    facts = kind(samples=300, classes=12, epochs=2, scratch=str(tmp_path)).check()
    assert "error" not in facts
    assert facts["largest_error"] < (3e-3 if kind is official_scoring.Ccs else 1e-5)  # CCS keeps fp16


def test_wrong_scores_are_detected(tmp_path: Path) -> None:
    way = scoring.Numpy(samples=300, classes=12, epochs=2, scratch=str(tmp_path))
    way.labels = (way.labels + 1) % 12  # the reference's labels, not those of the batches
    assert "scores are" in way.check()["error"]


def test_memory_grows_only_with_samples(tmp_path: Path) -> None:
    facts = scoring.Ours(samples=4000, classes=50, epochs=2, scratch=str(tmp_path)).check()
    half, whole = facts["peak_bytes_per_sample_of_half_and_whole"]
    assert whole == pytest.approx(half, rel=0.1)
    assert whole < 100  # five floats, a sum of doubles, the scores; the logits of one sample alone are 200
