"""Bytes of sets under one encoder: the tables change, the pixels do not."""

import io
from pathlib import Path

import jpeg_bytes
import numpy as np
import pytest
from PIL import Image

from fastdc.beton import encode_jpeg, encode_jpeg_optimised


def test_tables_made_for_an_image_change_its_bytes_alone() -> None:
    """The result has the size that fastdc's optimised encoder reaches from the pixels, up to the headers."""
    ramp = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3)
    pixels = (ramp + np.random.default_rng(0).normal(0, 12, ramp.shape)).clip(0, 255).astype(np.uint8)
    stored = encode_jpeg(pixels, 75)
    own = jpeg_bytes.with_own_tables(stored)
    assert len(own) == pytest.approx(len(encode_jpeg_optimised(pixels, 75)), abs=32)
    assert len(own) < len(stored)
    assert (np.asarray(Image.open(io.BytesIO(own))) == np.asarray(Image.open(io.BytesIO(stored)))).all()


def test_a_file_that_is_no_beton_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.beton"
    path.write_bytes(b"no beton")
    assert jpeg_bytes.main([str(path)]) == 2
    assert str(path) in capsys.readouterr().err
