"""Small image sets with the oddities of the real ones, and a recipe run in this process."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from fastdc.common.tars import add_file

WNIDS = ("n01440764", "n01443537", "n02105855")


def picture(seed, kind="JPEG", mode="RGB"):
    """Return an image file, different for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    image = Image.fromarray(pixels).resize((12, 10), Image.Resampling.BICUBIC)
    image.convert(mode).save(buffer, kind)
    return buffer.getvalue()


def put(root, files):
    """Write files by path below `root`."""
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def make_tar(path, files, mode="w"):
    """Make a tar of files by name."""
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            add_file(archive, name, data)
    return path


def make_zip(path, root, top):
    """Make a zip of everything below `root`, in a single outer folder."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(root.rglob("*")):
            archive.write(name, f"{top}/{name.relative_to(root)}")
    return path


@pytest.fixture
def recipe(capsys):
    """Run a recipe in this process; return its exit code, output and error lines."""

    def run(main, *arguments, **described):
        code = 0
        try:
            main([*map(str, arguments), "-q"], **described)
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run
