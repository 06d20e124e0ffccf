"""The README's pictures equal those drawn from the committed rows and Fashion-MNIST."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.docs.test_blocks import ROOT, SECONDS

IMAGES = ROOT / "docs" / "images"
MOST = {"leaderboard.png": 0.2, "mosaics.png": 8.0}
"""Largest mean difference of the grey levels, 0 to 255. Another CPU rounds the observer's sums differently, which may
exchange images of equal rank in the mosaics."""


@pytest.mark.long
@pytest.mark.timeout(SECONDS)
def test_the_pictures_are_up_to_date(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "pictures.py"), str(tmp_path)], cwd=ROOT, check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in IMAGES.iterdir())
    for name, most in MOST.items():
        assert (IMAGES / name).stat().st_size < 150_000
        new, old = (np.asarray(Image.open(folder / name).convert("L"), np.float64) for folder in (tmp_path, IMAGES))
        assert new.shape == old.shape
        assert np.abs(new - old).mean() < most, f"{name}: run scripts/pictures.py"
