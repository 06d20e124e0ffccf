"""Progressive JPEGs without their last scans: library versions smooth them differently, the engines must not."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fastdc.beton import Sample, write_samples
from fastdc.loader import EvalView, open_loader


def unfinished(scans: int) -> bytes:
    """Return a progressive JPEG that ends, correctly, after `scans` scans."""
    pixels = np.random.default_rng(scans).integers(0, 256, (6, 6, 3), np.uint8)
    image = Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80, progressive=True)
    parts = buffer.getvalue().split(b"\xff\xda")
    return b"\xff\xda".join(parts[: scans + 1]) + b"\xff\xd9"


def test_both_engines_show_the_same_picture(tmp_path: Path) -> None:
    out = tmp_path / "set.beton"
    samples = [Sample(unfinished(scans), 0, str(scans)) for scans in range(1, 6)]
    write_samples(out, samples, classes=["a"], dataset="d", split=None, source="s", made={})
    batches = []
    for engine in ("ffcv", "resident"):
        with open_loader(out, EvalView(32), batch_size=8, engine=engine) as loader:  # type: ignore[arg-type]
            batches += list(loader.epoch(0))
    assert torch.equal(batches[0].images, batches[1].images)
    assert batches[0].images.float().std() > 10
