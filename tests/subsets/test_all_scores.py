"""Every score of every image: the table names its origin and reproduces the subsets of the methods."""

import csv
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdc.beton import BetonFile, load_manifest
from fastdc.cli.main import run
from fastdc.common.errors import ConfigError, MethodError, OutputError
from fastdc.methods.bases.score_methods import ScoreConfig
from fastdc.methods.scores_of_logits import SCORES
from fastdc.observe import ObserverConfig
from fastdc.subsets.all_scores import write_scores
from fastdc.subsets.from_scores import compress_scores
from fastdc.subsets.score_files import read_scores
from fastdc.subsets.score_record import PARQUET_KEY, ScoreRecord
from tests.subsets.requests import OBSERVER, compress

EVERY = ["aum", "cad_prune", "dual", "dyn_unc", "el2n", "entropy", "forgetting", "grand", "least_confidence", "margin"]
EVERY += ["moderate", "prototypes", "r_cad", "ssp"]  # TDDS needs a longer schedule
LONG = ObserverConfig(arch="convnet1_w4", epochs=11, batch_size=60, lr=0.05, image_size=28, threads=1)


@pytest.fixture(scope="module")
def scored(betons: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the table of every score in every format, with the observer in `work`."""
    folder = tmp_path_factory.mktemp("scored")
    for name in ("s.parquet", "s.csv", "s.csv.gz"):
        write_scores(betons.train, folder / name, workdir=folder / "work", observer=LONG)
    return folder


def test_the_table_has_every_score_and_its_origin(betons: Any, scored: Path) -> None:
    import pyarrow.parquet

    manifest, table = load_manifest(betons.train), pyarrow.parquet.read_table(scored / "s.parquet")
    assert table.column_names == ["index", "imagefolder_index", "id", "class", *EVERY]
    assert table["index"].to_pylist() == list(range(120))
    assert table["imagefolder_index"].null_count == 120  # this set comes from no folder
    assert tuple(table["id"].to_pylist()) == manifest.ids
    with BetonFile(betons.train) as beton:
        assert table["class"].to_pylist() == [manifest.classes[label] for label in beton.labels]
    record = ScoreRecord.model_validate_json(table.schema.metadata[PARQUET_KEY])
    assert record.train == manifest.content_hash
    assert [identity["arch"] for identity in record.observer] == ["convnet1_w4"]
    assert list(record.columns) == EVERY
    assert {column.high for column in record.columns.values()} == {"hard"}
    assert record.columns["aum"].published == "easy"
    assert record.columns["el2n"].published == "hard"
    assert record.columns["el2n"].formula == SCORES["el2n"].formula
    assert record.columns["el2n"].settings["last_epoch"] == 10
    assert not {"keep", "balanced", "fit"} & set(record.columns["el2n"].settings)


def test_text_and_parquet_hold_the_same_scores(betons: Any, scored: Path) -> None:
    manifest = load_manifest(betons.train)
    with BetonFile(betons.train) as beton:
        labels = beton.labels.copy()
    for name in EVERY:
        values = [read_scores(scored / f"s.{end}", manifest, labels, name=name) for end in ("parquet", "csv", "csv.gz")]
        assert values[0].name == name
        np.testing.assert_array_equal(values[0].values, values[1].values)
        np.testing.assert_array_equal(values[0].values, values[2].values)
    assert gzip.decompress((scored / "s.csv.gz").read_bytes()).replace(b"csv.gz", b"csv") == (
        scored / "s.csv"
    ).read_bytes().replace(b"csv.gz", b"csv")
    comment, *rows = (scored / "s.csv").read_text().splitlines()
    assert json.loads(comment.removeprefix("# fastdc-scores "))["train"] == manifest.content_hash
    assert len(list(csv.DictReader(rows))) == 120


@pytest.mark.parametrize("form", ["parquet", "csv", "csv.gz"])
@pytest.mark.parametrize(("method", "keep"), [("el2n", "easy"), ("el2n", "hard"), ("aum", "easy"), ("ssp", "easy")])
def test_a_column_gives_the_subset_of_its_method(
    betons: Any, scored: Path, tmp_path: Path, form: str, method: str, keep: Any
) -> None:
    settings = {"keep": keep}
    made = compress(betons, tmp_path, method, settings=settings, workdir=scored / "work", observer=LONG)
    again = tmp_path / "again.beton"
    config = ScoreConfig(keep=keep)
    compress_scores(scored / f"s.{form}", betons.train, again, ipc=2, config=config, score=method, image_size=28)
    assert again.read_bytes() == made.read_bytes()
    assert load_manifest(again).content_hash == load_manifest(made).content_hash
    assert (tmp_path / "again.list.tsv").read_text() == (tmp_path / "out.list.tsv").read_text()


def test_the_same_scores_are_the_same_bytes(betons: Any, scored: Path, tmp_path: Path) -> None:
    for name in ("s.parquet", "s.csv.gz"):
        write_scores(betons.train, tmp_path / name, workdir=scored / "work")  # with the existing observer
        assert (tmp_path / name).read_bytes() == (scored / name).read_bytes()


def test_scores_of_another_training_set_are_refused(betons: Any, scored: Path, tmp_path: Path) -> None:
    for name in ("s.parquet", "s.csv"):
        with pytest.raises(
            MethodError, match=r"holds scores of fashion3 with content hash .*; score this set with fastdc"
        ):
            compress_scores(scored / name, betons.val, tmp_path / "x.beton", ipc=1, config=ScoreConfig(), score="el2n")


def test_a_short_observer_omits_methods(betons: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "s.csv"
    record = write_scores(betons.train, out, workdir=tmp_path / "work", observer=OBSERVER)
    assert "aum" in record.columns
    assert not {"el2n", "dual", "tdds"} & set(record.columns)
    assert "note: left out: method el2n: reads the observer's epochs up to 10" in capsys.readouterr().err
    names = ["el2n[last_epoch=3]", "ccs[score=aum_softmax]", "aum"]
    record = write_scores(betons.train, out, workdir=tmp_path / "work", observer=OBSERVER, names=names, force=True)
    assert list(record.columns) == names
    assert [column.formula is None for column in record.columns.values()] == [True, True, False]
    compress(betons, tmp_path, "el2n", settings={"last_epoch": 3})
    compress_scores(out, betons.train, tmp_path / "k.beton", ipc=2, config=ScoreConfig(), score=names[0], image_size=28)
    assert (tmp_path / "k.beton").read_bytes() == (tmp_path / "out.beton").read_bytes()


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        (
            {"names": ["random"]},
            ConfigError,
            "score random: random scores no images by the observer's record; did you mean",
        ),
        ({"names": ["pca"]}, ConfigError, "score pca: pca scores no images"),
        ({"names": ["el2n[keep=hard]"]}, ConfigError, "keep changes nothing: the choice of el2n reads it"),
        ({"names": ["el2n"]}, MethodError, "method el2n: reads the observer's epochs up to 10, its schedule has 3"),
        ({"names": ["elm"]}, MethodError, "unknown method 'elm'"),
        ({"names": []}, ConfigError, "no score is named"),
        ({"out": "s.tsv"}, ConfigError, r"expected a name that ends in \.parquet, \.csv, \.csv\.gz"),
        ({"out": "no/s.csv"}, OutputError, "does not exist"),
    ],
)
def test_impossible_scores_are_refused_before_training(
    betons: Any, tmp_path: Path, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    given = {"workdir": tmp_path / "work", "observer": OBSERVER} | options
    with pytest.raises(error, match=match):
        write_scores(betons.train, tmp_path / given.pop("out", "s.csv"), **given)
    assert list(tmp_path.iterdir()) == []


def test_parquet_without_pyarrow_is_refused_before_training(
    betons: Any, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r"parquet needs pyarrow, .* pip install '\.\[hf\]'"):
        write_scores(betons.train, tmp_path / "s.parquet", workdir=tmp_path / "work", observer=OBSERVER)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="parquet needs pyarrow"):
        read_scores(scored / "s.parquet", load_manifest(betons.train), np.zeros(120, np.int64), name="el2n")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": 2}, "holds scores of version 2, this fastdc reads version 1; update fastdc"),
        ({"columns": 3}, "record of the scores: columns=3"),
    ],
)
def test_an_invalid_record_is_refused(
    betons: Any, scored: Path, tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    comment, _, rows = (scored / "s.csv").read_text().partition("\n")
    record = json.loads(comment.removeprefix("# fastdc-scores ")) | change
    (tmp_path / "s.csv").write_text(f"# fastdc-scores {json.dumps(record)}\n{rows}")
    with pytest.raises(ConfigError, match=match):
        read_scores(tmp_path / "s.csv", load_manifest(betons.train), np.zeros(120, np.int64), name="el2n")


def test_the_direction_of_a_record_is_not_contradicted(betons: Any, scored: Path) -> None:
    with BetonFile(betons.train) as beton, pytest.raises(MethodError, match="high values of 'aum' mark hard images"):
        read_scores(scored / "s.csv", load_manifest(betons.train), beton.labels, name="aum", high="easy")


def test_the_command_takes_all_or_some(
    betons: Any, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["scores", str(betons.train), "--out", str(tmp_path / "s.csv"), "--workdir", str(scored / "work"), "-q"]
    assert run([*command, "--score", "el2n,cad_prune[window=3]"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 's.csv'}: 2 scores: el2n, cad_prune[window=3]\n"
    for wrong, message in ([], "give --all or --score"), (["--all", "--score", "aum"], "exclude each other"):
        assert run([*command, *wrong]) == 2
        assert message in capsys.readouterr().err
    assert run([*command, "--all"]) == 2
    assert "exists already" in capsys.readouterr().err
