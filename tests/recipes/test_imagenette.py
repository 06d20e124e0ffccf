"""The Imagenette recipe and its download, from a local web server."""

import dataclasses
import hashlib
import http.server
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from fastdc.beton import load_manifest
from fastdc.recipes import download, expected, imagenette
from tests.recipes.conftest import make_tar, picture

pytestmark = pytest.mark.timeout(60)

CLASSES = imagenette.CLASSES[:2]
SMALL = dataclasses.replace(
    imagenette.IMAGENETTE,
    num_classes=2,
    classes=CLASSES,
    splits=(
        expected.Split("train", 5, (2, 3), dict(zip(CLASSES, (3, 2), strict=True))),
        expected.Split("val", 2, (1, 1), dict.fromkeys(CLASSES, 1)),
    ),
)
COUNTS = {"train": (3, 2), "val": (1, 1)}


def files(counts):
    """Return train/WNID/x.JPEG, val/WNID/x.JPEG in one outer folder, with the list of noisy labels."""
    images = [(split, wnid, number) for split in counts for wnid, count in zip(CLASSES, counts[split], strict=True)
              for number in range(count)]  # fmt: skip
    named = {f"imagenette2-160/{split}/{wnid}/{split}_{wnid}_{number}.JPEG": picture(seed)
             for seed, (split, wnid, number) in enumerate(images)}  # fmt: skip
    return named | {"imagenette2-160/noisy_imagenette.csv": b"path,noisy_labels_0\n"}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serve files without log lines."""

    def log_message(self, *_):
        """Nothing."""


@pytest.fixture
def web(tmp_path, monkeypatch):
    """Serve a folder; return it and the address."""
    (tmp_path / "web").mkdir()
    monkeypatch.setenv("no_proxy", "*")
    handler = partial(Quiet, directory=str(tmp_path / "web"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield tmp_path / "web", f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def publish(web, **changes):
    folder, address = web
    path = make_tar(folder / "imagenette2-160.tgz", files(COUNTS), "w:gz")
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    return {"160": download.Archive(changes.get("url", f"{address}/{path.name}"), changes.get("md5", md5))}


def test_the_set_is_downloaded_checked_and_written(recipe, web, tmp_path):
    out = tmp_path / "new" / "out"
    code, lines, errors = recipe(imagenette.main, "--out", out, data=SMALL, archives=publish(web))
    assert (code, errors) == (0, [])
    assert "5 images, 2 classes" in lines[0]
    assert load_manifest(out / "train.beton").counts == (3, 2)
    assert load_manifest(out / "train.beton").made["size"] == "160"
    assert sorted(path.name for path in out.iterdir()) == [
        "imagenette2-160.tgz",
        "train.beton",
        "train.json",
        "val.beton",
        "val.json",
    ]
    nowhere = {"160": download.Archive("http://127.0.0.1:9/none.tgz", "")}
    code, lines, _ = recipe(imagenette.main, "--out", out, data=SMALL, archives=nowhere)
    assert (code, len(lines)) == (0, 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"md5": "0" * 32}, "expected 00000000000000000000000000000000; run again"),
        ({"url": "http://127.0.0.1:9/imagenette2-160.tgz"}, "cannot be fetched (.*refused.*give it as --source"),
    ],
)
def test_a_failed_download_leaves_nothing(recipe, web, tmp_path, changes, words):
    out = tmp_path / "out"
    code, lines, errors = recipe(imagenette.main, "--out", out, data=SMALL, archives=publish(web, **changes))
    assert (code, lines, len(errors)) == (2, [], 1)
    assert all(word in errors[0] for word in words.split(".*"))
    assert list(out.iterdir()) == []


def test_a_file_that_the_server_lacks(recipe, web, tmp_path):
    missing = {"160": download.Archive(f"{web[1]}/imagenette2-160.tgz", "")}
    code, _, errors = recipe(imagenette.main, "--out", tmp_path / "out", data=SMALL, archives=missing)
    assert code == 2
    assert "imagenette2-160.tgz: cannot be fetched (File not found); fetch it by other means" in errors[0]


def test_sources_by_path(recipe, tmp_path):
    archive = make_tar(tmp_path / "imagenette2-320.tgz", files(COUNTS), "w:gz")
    code, _, errors = recipe(imagenette.main, "--source", archive, "--out", tmp_path / "out", data=SMALL)
    assert (code, errors) == (0, [])
    assert load_manifest(tmp_path / "out" / "val.beton").made["size"] == "320"
    code, _, errors = recipe(imagenette.main, "--out", tmp_path / "out", data=SMALL)
    assert code == 2
    assert "other options (size 320, not 160)" in errors[0]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("imagenette2-160.tgz", "160"),
        ("imagenette2-320", "320"),
        ("imagenette2.tar", "full"),
        ("imagenette2", "full"),
        ("pictures", None),
    ],
)
def test_the_size_follows_from_the_name(name, size):
    assert imagenette.name_size(name) == size


def test_wrong_counts_name_the_class(recipe, tmp_path):
    archive = make_tar(tmp_path / "x.tar", files({"train": (3, 1), "val": (1, 1)}))
    code, _, errors = recipe(imagenette.main, "--source", archive, "--out", tmp_path / "out", data=SMALL)
    assert code == 2
    assert f"train: class {CLASSES[1]} has 1 images, expected 2: 1 missing" in errors[0]


def test_a_missing_class_is_named(recipe, tmp_path):
    few = {name: data for name, data in files(COUNTS).items() if f"/{CLASSES[0]}/" not in name}
    archive = make_tar(tmp_path / "x.tar", few)
    code, _, errors = recipe(imagenette.main, "--source", archive, "--out", tmp_path / "out", data=SMALL)
    assert code == 2
    assert f"1 classes, Imagenette has 2, the first missing one is {CLASSES[0]}" in errors[0]


def test_the_real_numbers_are_consistent():
    for split in imagenette.IMAGENETTE.splits:
        assert sum(split.exact.values()) == split.images
        assert (min(split.exact.values()), max(split.exact.values())) == split.per_class
    assert list(imagenette.CLASSES) == sorted(imagenette.CLASSES)


def test_the_script_of_the_repository_runs_the_recipe(tmp_path):
    archive = make_tar(tmp_path / "imagenette2-160.tar", files(COUNTS))
    script = Path(__file__).parents[2] / "writers" / "imagenette.py"
    command = [sys.executable, str(script), "--source", str(archive), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 2  # the real set has ten classes
    assert "2 classes, Imagenette has 10" in done.stderr
