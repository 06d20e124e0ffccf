"""A list of images reproduces the subset."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastdc.beton import BetonFile, load_manifest, write_beton
from fastdc.common.errors import MethodError, OutputError
from fastdc.subsets.from_list import compress_list
from tests.subsets.requests import WINDOW, compress


def test_the_list_beside_a_subset_reproduces_it(betons: Any, tmp_path: Path) -> None:
    out = compress(betons, tmp_path, "el2n", settings=WINDOW)
    kept = tmp_path / "out.list.tsv"
    rows = [line.split("\t") for line in kept.read_text().splitlines()[1:]]
    manifest = load_manifest(out)
    assert [row[0] for row in rows] == list(manifest.ids)
    scores = [float(row[2]) for row in rows]
    assert scores == [sorted(scores[i : i + 2])[k] for i in range(0, 6, 2) for k in range(2)]
    again = compress_list(kept, betons.train, tmp_path / "again.beton", image_size=28)
    assert again.hashes == manifest.hashes
    assert again.made["variant"] == "from-list"
    with pytest.raises(OutputError):
        compress_list(kept, betons.train, kept, image_size=28, force=True)


def test_the_list_beside_a_subset_is_kept_up_to_date(betons: Any, tmp_path: Path) -> None:
    kept, out = tmp_path / "out.list.tsv", tmp_path / "out.beton"
    other = tmp_path / "other.txt"
    other.write_text("0\n")
    kept.write_text("train/1\nprecious notes\n")
    with pytest.raises(OutputError, match=r"out\.list\.tsv: exists already"):
        compress(betons, tmp_path, "random")
    with pytest.raises(OutputError, match=r"out\.list\.tsv: exists already"):
        compress_list(other, betons.train, out, index_order="own")
    with pytest.raises(MethodError, match=r":2: image 'precious'"):
        compress_list(kept, betons.train, out, image_size=28)
    assert kept.read_text() == "train/1\nprecious notes\n"
    kept.write_text("0\n")
    with pytest.raises(MethodError, match=r"do not come from class folders.*--index-order own"):
        compress_list(kept, betons.train, out, image_size=28)
    compress_list(kept, betons.train, out, image_size=28, index_order="own")
    assert kept.read_text() == "0\n"  # it was the input
    other.write_text("2\n1\n")
    compress_list(other, betons.train, out, image_size=28, index_order="own", force=True)
    ids = [line.split("\t")[0] for line in kept.read_text().splitlines()[1:]]
    assert ids == list(load_manifest(out).ids)


@pytest.mark.parametrize("settings", [{}, {"grid": 3, "fit": "crop"}, {"grid": 1}], ids=["plain", "grid 3", "grid 1"])
def test_a_list_of_mosaics_reproduces_them(betons: Any, tmp_path: Path, settings: dict[str, Any]) -> None:
    out = compress(betons, tmp_path, "pca", settings=WINDOW | settings, ipc=2)
    first = load_manifest(out)
    again = compress_list(tmp_path / "out.list.tsv", betons.train, tmp_path / "again.beton")
    assert (again.hashes, again.ids, again.hints) == (first.hashes, first.ids, first.hints)
    assert again.content_hash == first.content_hash
    third = compress_list(tmp_path / "again.list.tsv", betons.train, tmp_path / "third.beton")
    assert third.content_hash == first.content_hash
    larger = compress_list(tmp_path / "out.list.tsv", betons.train, tmp_path / "large.beton", image_size=56)
    assert larger.hints == first.hints
    with BetonFile(tmp_path / "large.beton") as beton:
        assert {*beton.widths.tolist(), *beton.heights.tolist()} == {56}


def test_crops_given_with_a_list_replace_its_own(betons: Any, tmp_path: Path) -> None:
    ids, mosaics = tmp_path / "ids.txt", tmp_path / "out.list.tsv"
    ids.write_text("0\n")
    made = compress_list(ids, betons.train, tmp_path / "a.beton", image_size=28, augment="tile:2", index_order="own")
    assert made.hints == {"tile_grid": 2}
    compress(betons, tmp_path, "pca", settings=WINDOW, ipc=2)
    again = compress_list(mosaics, betons.train, tmp_path / "again.beton", augment="tile:2+whole=0.5")
    assert again.hints == {"tile_grid": 2, "tile_whole": 0.5}
    third = compress_list(tmp_path / "again.list.tsv", betons.train, tmp_path / "third.beton")
    assert third.content_hash == again.content_hash


def test_a_list_of_mosaics_of_an_older_release_is_refused(betons: Any, tmp_path: Path) -> None:
    compress(betons, tmp_path, "pca", settings=WINDOW, ipc=2)
    kept = tmp_path / "out.list.tsv"
    rows = [row.rpartition("\t")[0] for row in kept.read_text().splitlines()[1:]]
    kept.write_text("\n".join(rows) + "\n")  # as fastdc 0.1 wrote it
    assert rows[0] == "# id\tclass\tscore"
    with pytest.raises(MethodError, match=r"is a list of mosaics of an older fastdc: .* made of 4 of its lines"):
        compress_list(kept, betons.train, tmp_path / "again.beton", image_size=28)
    plain = tmp_path / "ids.txt"
    plain.write_text("\n".join(row.partition("\t")[0] for row in rows[1:]) + "\n")
    assert len(compress_list(plain, betons.train, tmp_path / "again.beton", image_size=28).ids) == 24


def test_indices_of_imagefolder_choose_its_images(betons: Any, tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    folder = tmp_path / "images"
    with BetonFile(betons.train) as beton:
        for index, name in enumerate(
            ("a/z.jpg", "a/deep/1.jpg", "a/deep-er/1.jpg", "b/10.jpg", "b/9.jpg", "b/0/1.png")
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(beton.decode(index)).save(folder / name)
    train = tmp_path / "train.beton"
    assert write_beton(folder, train).order == "imagefolder"
    wanted = [5, 0, 2]
    np.save(tmp_path / "kept.npy", wanted)
    made = compress_list(tmp_path / "kept.npy", train, tmp_path / "kept.beton", image_size=28)
    samples = ImageFolder(str(folder)).samples
    assert [folder / name for name in made.ids] == [Path(samples[index][0]) for index in wanted]
    (folder / "a" / "0.gif").write_bytes((folder / "b" / "0" / "1.png").read_bytes())
    write_beton(folder, train, force=True)
    with pytest.raises(MethodError, match=r"ImageFolder does not read files such as a/0\.gif.*--index-order own"):
        compress_list(tmp_path / "kept.npy", train, tmp_path / "other.beton", image_size=28)
