"""Data sets of the Hugging Face hub as a source, served by a small hub on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastdc.beton import load_manifest, write_beton
from fastdc.beton.export.export_images import export_images
from fastdc.beton.sources.hub_download import Address, parse_address
from fastdc.common.errors import SourceError
from tests.beton.export.conftest import write_set
from tests.beton.hub_server import BRANCH_COMMIT, COMMIT, serve_hub
from tests.beton.sources.test_webdataset import samples, write_tar

pytest.importorskip("huggingface_hub")


@pytest.fixture(scope="module")
def hub():
    with serve_hub() as served:
        yield served


def _serve(monkeypatch, url):
    """Point the client to another endpoint; it reads HF_ENDPOINT only once."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    template = f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def fetch(hub, tmp_path, monkeypatch):
    """Write a source as a beton, with the test's own hub and cache; check that a failure leaves nothing."""
    from huggingface_hub import constants

    for name in [name for name in os.environ if name.startswith("HF_")]:
        monkeypatch.delenv(name)
    _serve(monkeypatch, hub.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def write(source, split=None):
        out = tmp_path / "betons"
        out.mkdir(exist_ok=True)
        try:
            return write_beton(Path(source), out / "out.beton", split=split)
        finally:
            left = list(out.iterdir())
            assert len(left) in (0, 2)
            for path in left:
                path.unlink()

    return write


def run(source, home, endpoint, **environment):
    """Return the manifest of `fastdc write-beton SOURCE`, run with settings in the environment."""
    cleared = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    settings = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, **environment}
    out = home / "out.beton"
    command = [sys.executable, "-m", "fastdc", "write-beton", source, str(out), "--split", "train", "-q", "--force"]
    home.mkdir(exist_ok=True)
    done = subprocess.run(command, env={**cleared, **settings}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return load_manifest(out)


@pytest.fixture
def parquet(hub, tmp_path, jpegs):
    """Return a repository of two parquet shards and other files."""
    from tests.beton.hub_shards import write_shard

    shard = write_shard(tmp_path / "shard.parquet", jpegs[:4], [0, 1, 0, 1], names=["cat", "dog"])
    hub.repositories["zh/tiny"] = {
        "README.md": b"a set",
        "data/train-00000-of-00001.parquet": shard.read_bytes(),
        "raw/huge.bin": b"never fetched",
    }
    return "hf://zh/tiny"


def test_only_parquet_shards_are_fetched_and_the_commit_is_recorded(hub, fetch, parquet, tmp_path):
    hub.requested.clear()
    manifest = fetch(parquet, "train")
    assert (manifest.dataset, manifest.classes, manifest.counts) == ("tiny", ("cat", "dog"), (2, 2))
    assert (manifest.made["repository"], manifest.made["revision"]) == ("zh/tiny", COMMIT)
    assert (tmp_path / "cache" / "datasets--zh--tiny" / "snapshots" / COMMIT / "README.md").exists()
    assert not any("huge.bin" in path for path in hub.requested)


def test_the_environment_sets_cache_endpoint_and_offline_mode(hub, parquet, tmp_path):
    home = tmp_path / "home"
    manifest = run(parquet, home, hub.url)
    assert (home / "hub" / "datasets--zh--tiny").is_dir()
    hub.requested.clear()
    again = run(parquet, home, hub.url, HF_HUB_OFFLINE="1")
    assert (again.content_hash, again.made["revision"], hub.requested) == (manifest.content_hash, COMMIT, [])


@pytest.mark.parametrize("revision", ["v1", BRANCH_COMMIT, "refs/convert/parquet"])
def test_a_revision_is_resolved_to_its_commit(fetch, parquet, revision):
    assert fetch(f"{parquet}@{revision}", "train").made["revision"] == BRANCH_COMMIT


def test_class_folders_and_a_folder_of_the_repository(hub, fetch, jpegs, tmp_path):
    files = {f"{name}/{number}.jpg": data for name in ("ant", "bee") for number, data in enumerate(jpegs[:2])}
    tar = write_tar(tmp_path / "x.tar", samples(jpegs[:4], [0, 1, 1, 0])).read_bytes()
    hub.repositories["me/photos"] = {f"small/{name}": data for name, data in files.items()} | {
        "wds/train-0000.tar": tar
    }
    assert fetch("hf://me/photos/small").classes == ("ant", "bee")
    assert not any(path.endswith("train-0000.tar") for path in hub.requested)
    manifest = fetch("hf://datasets/me/photos@main/wds", "train")
    assert (manifest.dataset, manifest.counts) == ("photos", (2, 2))


def test_downloads_go_to_the_folder_before_the_address(fetch, parquet, tmp_path):
    assert fetch(f"{tmp_path}/disk/hf://zh/tiny", "train").dataset == "tiny"
    assert (tmp_path / "disk" / "datasets--zh--tiny").is_dir()
    assert not (tmp_path / "cache").exists()


def test_a_gated_repository_needs_a_token(hub, fetch, parquet, monkeypatch):
    monkeypatch.setattr(hub, "gated", {"zh/tiny"})
    words = f"hf://zh/tiny@main: is gated; accept its terms at {hub.url}/datasets/zh/tiny, and set HF_TOKEN"
    with pytest.raises(SourceError, match=words):
        fetch(parquet, "train")
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert fetch(parquet, "train").dataset == "tiny"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("hf://no/such", "hf://no/such@main: is not a data set on the hub, or is a private one; check OWNER/NAME"),
        ("hf://zh/tiny@v9", "hf://zh/tiny@v9: has no branch, tag or commit 'v9'; leave @v9 out for the newest"),
        ("hf://zh/..tiny", "hf://zh/..tiny@main: is not a repository name; expected hf://OWNER/NAME"),
        ("hf://zh/tiny/none", "has no folder 'none'; see its files on the hub"),
        ("hf://zh", "hf:/zh: expected hf://OWNER/NAME, hf://OWNER/NAME@REVISION or a folder of these"),
    ],
)
def test_a_failed_download_is_one_line(fetch, parquet, source, words):
    with pytest.raises(SourceError, match=words):
        fetch(source, "train")


def test_a_complete_copy_in_the_cache_works_offline(fetch, parquet, monkeypatch, tmp_path):
    content = fetch(parquet, "train").content_hash
    _serve(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(SourceError, match="the hub cannot be reached, and the cache has no whole copy"):
        fetch("hf://zh/other", "train")
    assert fetch(parquet, "train").content_hash == content
    blob = tmp_path / "cache/datasets--zh--tiny/snapshots" / COMMIT / "data/train-00000-of-00001.parquet"
    blob.unlink()  # as a broken download leaves it
    with pytest.raises(SourceError, match="the hub cannot be reached, and the cache has no whole copy"):
        fetch(parquet, "train")


def test_addresses():
    parsed = parse_address(Path("disk/hf://datasets/a/b@refs/pr/3/c/d"))
    assert parsed == Address("a/b", "refs/pr/3", "c/d", "disk/")
    assert parse_address(Path("hf://datasets/b")) == Address("datasets/b", "main", "", None)
    with pytest.raises(SourceError, match="expected hf://OWNER/NAME"):
        parse_address(Path("hf://a@b"))


def test_an_exported_set_comes_back_from_the_hub(hub, fetch, tmp_path):
    old = write_set(tmp_path / "odd.beton")
    export_images(tmp_path / "odd.beton", tmp_path / "card", "hf")
    files = [path for path in (tmp_path / "card").rglob("*") if path.is_file()]
    hub.repositories["zh/odd"] = {str(path.relative_to(tmp_path / "card")): path.read_bytes() for path in files}
    assert fetch("hf://zh/odd") == old
