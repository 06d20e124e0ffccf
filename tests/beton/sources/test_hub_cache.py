"""The Hugging Face hub's cache as a source."""

import os
import shutil

import pytest

from fastdc.beton import write_beton
from fastdc.beton.sources.hub_cache import enter_hub_cache
from fastdc.beton.sources.open_source import sources
from fastdc.common.errors import SourceError

OLD, NEW = "0" * 40, "1" * 40


@pytest.fixture
def cache(tmp_path, jpegs):
    """Write a cache as `hf download` does: files by hash, and links to them in a snapshot."""
    pytest.importorskip("pyarrow")
    from tests.beton.hub_shards import write_shard

    repository = tmp_path / "hub" / "datasets--zh-plus--tiny-imagenet"
    shard = write_shard(tmp_path / "shard.parquet", jpegs[:4], [0, 1, 0, 1], names=["cat", "dog"])
    (repository / "blobs").mkdir(parents=True)
    os.rename(shard, repository / "blobs" / "abc")
    for revision in (OLD, NEW):
        folder = repository / "snapshots" / revision / "data"
        folder.mkdir(parents=True)
        (folder / "train-00000-of-00001.parquet").symlink_to("../../../blobs/abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(NEW)
    return repository


def test_a_repository_means_its_newest_snapshot(cache, tmp_path):
    for number, source in enumerate((cache, cache / "snapshots", cache / "snapshots" / NEW)):
        manifest = write_beton(source, tmp_path / f"{number}.beton", split="train")
        assert (manifest.dataset, manifest.classes, manifest.source) == ("tiny-imagenet", ("cat", "dog"), NEW)
        assert manifest.ids[0] == "data/train-00000-of-00001.parquet:0"


def test_a_single_snapshot_is_taken_and_several_are_refused(cache):
    (cache / "refs" / "main").unlink()
    with pytest.raises(SourceError, match=f"2 snapshots .{OLD}, {NEW}. and no refs/main; give one of them"):
        enter_hub_cache(cache)
    (cache / "snapshots" / OLD).rename(cache.parent / "elsewhere")
    assert enter_hub_cache(cache).name == NEW


@pytest.mark.parametrize(
    ("inner", "words"),
    [
        ("..", "is the cache of the Hugging Face hub .datasets--zh-plus--tiny-imagenet.; give one"),
        ("blobs", "is a part of a hub cache that has no file names; give .*datasets--zh-plus--tiny-imagenet$"),
        ("blobs/abc", "is a part of a hub cache"),
        ("refs", "is a part of a hub cache"),
    ],
)
def test_other_parts_of_a_cache_name_the_folder_to_give(cache, tmp_path, inner, words):
    source = cache.parent if inner == ".." else cache / inner
    with pytest.raises(SourceError, match=words):
        write_beton(source, tmp_path / "x.beton", split="train")


def test_a_cache_without_a_snapshot(cache):
    for revision in (OLD, NEW):
        (cache / "snapshots" / revision).rename(cache.parent / revision)
    with pytest.raises(SourceError, match="a hub cache without snapshots; download it again"):
        enter_hub_cache(cache)


def test_image_folders_are_no_caches(folder):
    assert enter_hub_cache(folder) == folder
    (folder / "snapshots").mkdir()
    assert enter_hub_cache(folder) == folder


def test_a_snapshot_of_a_saved_set(cache, tmp_path):
    pytest.importorskip("pyarrow")
    snapshot = cache / "snapshots" / NEW
    shutil.rmtree(snapshot)
    snapshot.mkdir()
    sources().get("saved-set").example(snapshot)
    assert write_beton(cache, tmp_path / "x.beton", image_column="image").classes == ("bark", "moss", "sand")
    with pytest.raises(SourceError, match="no column 'x', which --label-column names"):
        write_beton(cache, tmp_path / "y.beton", label_column="x")
