"""Class names in the YAML header of a README.md beside parquet shards."""

import pytest

from fastdc.beton import write_beton
from fastdc.beton.sources.readme_names import readme_names
from fastdc.common.errors import SourceError

HEADER = """\
---
license: mit
dataset_info:
- config_name: default
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': ant
          '1': no
          '2': cat
---
# A set
"""
SECOND = """\
- config_name: coarse
  features:
  - name: label
    dtype:
      class_label:
        names: [animal, plant]
---
"""


@pytest.fixture
def shards(tmp_path, jpegs):
    """Write a shard with unnamed numeric labels into the folder `data` of a repository."""
    pytest.importorskip("pyarrow")
    from tests.beton.hub_shards import write_shard

    write_shard(tmp_path / "set/data/train-00000-of-00001.parquet", jpegs[:3], [0, 2, 2], columns=("image", "label"))
    return tmp_path / "set"


def test_numbers_take_the_names_of_the_readme(shards, tmp_path):
    (shards / "README.md").write_text(HEADER)
    made = write_beton(shards, tmp_path / "x.beton", split="train")
    assert (made.classes, made.made["class_names"]) == (("ant", "no", "cat"), "README")
    assert made.counts == (1, 0, 2)


def test_given_names_are_matched_with_those_of_the_readme(shards, tmp_path):
    (shards / "README.md").write_text(HEADER)
    (tmp_path / "names.txt").write_text("cat\nant\nno\n")
    made = write_beton(shards, tmp_path / "x.beton", split="train", classes=tmp_path / "names.txt")
    assert (made.classes, made.counts) == (("cat", "ant", "no"), (2, 1, 0))
    (tmp_path / "names.txt").write_text("cat\nant\n")
    with pytest.raises(SourceError, match="3 classes, but --classes names 2; name all of them"):
        write_beton(shards, tmp_path / "y.beton", split="train", classes=tmp_path / "names.txt")


def test_a_label_beyond_the_names_is_refused(shards, tmp_path):
    (shards / "README.md").write_text(HEADER.replace("          '2': cat\n", ""))
    with pytest.raises(SourceError, match=r"label 2, expected 0\.\.1"):
        write_beton(shards, tmp_path / "x.beton", split="train")


def test_names_of_the_schema_take_precedence(shards, tmp_path, jpegs):
    from tests.beton.hub_shards import write_shard

    (shards / "README.md").write_text(HEADER)
    path = shards / "data/train-00000-of-00001.parquet"
    write_shard(path, jpegs[:3], [0, 1, 1], columns=("image", "label"), names=("x", "y"))
    assert write_beton(shards, tmp_path / "x.beton", split="train").classes == ("x", "y")


def test_the_configuration_follows_from_the_path(tmp_path, capsys):
    (tmp_path / "README.md").write_text(HEADER.partition("---\n#")[0] + SECOND)
    assert readme_names(tmp_path, "coarse/train.parquet", "label") == ("animal", "plant")
    assert readme_names(tmp_path, "default/train.parquet", "label") == ("ant", "no", "cat")
    assert readme_names(tmp_path, "data/train.parquet", "label") is None
    assert "README.md: its configurations name the classes in 2 ways; none is taken" in capsys.readouterr().err
    assert readme_names(tmp_path, "coarse/train.parquet", "other") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# no header",
        "---\n---\n",
        "---\n- a list\n---\n",
        "---\ndataset_info: x\n---\n",
        "---\ndataset_info:\n  features: {label: 3}\n---\n",
        HEADER.replace("'1'", "'7'"),
        HEADER.replace("class_label", "sequence"),
        HEADER.replace("---\n#", "#"),
    ],
)
def test_headers_without_names(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    assert readme_names(tmp_path, "x.parquet", "label") is None


@pytest.mark.parametrize("text", ["---\na: [\n---\n", "---\na: " + "[" * 100_000 + "\n---\n"])
def test_a_header_that_is_no_yaml_is_noted(tmp_path, capsys, text):
    (tmp_path / "README.md").write_text(text)
    assert readme_names(tmp_path, "x.parquet", "label") is None
    assert "README.md: its header is not read" in capsys.readouterr().err


def test_the_readme_of_a_snapshot_applies_to_a_folder_or_shard_in_it(shards, tmp_path):
    snapshot = tmp_path / "datasets--me--set" / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    shards.rename(snapshot)
    (snapshot / "README.md").write_text(HEADER)
    for number, place in enumerate(("data", "data/train-00000-of-00001.parquet")):
        made = write_beton(snapshot / place, tmp_path / f"{number}.beton", split="train")
        assert (made.classes, made.made["class_names"]) == (("ant", "no", "cat"), "README")
