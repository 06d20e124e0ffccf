"""Results of two folders in one comparison, and bundles in place of folders."""

import json
from pathlib import Path

import pytest

from fastdc.cli import main as cli
from fastdc.common.errors import StoreError
from fastdc.common.keys import bytes_key
from fastdc.report.join_results import join_records, source_name
from fastdc.sweep.bundle.bundle_archive import write_archive
from fastdc.sweep.bundle.bundle_index import FileFacts, Index
from fastdc.sweep.store.results import Record, Store
from tests.report.test_report_compare import PCA, runs, store_of
from tests.report.test_result_rows import done, other


def bundle_of(path: Path, records: list[Record]) -> None:
    rows = [{"key": each.key, "axes": "a", "label": each.label, "summary": each.summary, "state": each.state,
             "detail": {}, "provenance": None, "changed": each.changed} for each in records]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    index = Index(written_by="0", rows={}, left_out={}, notes=(), data=(), sweeps=(), subsets={},
                  files={"rows.jsonl": FileFacts(bytes=len(text), sha256=bytes_key(text, 64))})  # fmt: skip
    write_archive(path, {"bundle.json": index.model_dump_json().encode(), "rows.jsonl": text})


def test_every_report_reads_a_bundle_as_its_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Failures are rows too; the page has all but the stored images."""
    store_of(tmp_path, records := runs())
    with Store(tmp_path / "store.sqlite", readonly=True) as store:
        bundle_of(tmp_path / "a.zip", [*store.records(), other(9, "failed", "why")])
        bundle_of(tmp_path / "done.tar.gz", store.records())
    assert len(records) == 16
    for command in (["compare", "{}", "pca", "random"], ["rank", "{}"], ["report", "{}", "--format", "csv"]):
        outputs = []
        for folder in (tmp_path, tmp_path / "done.tar.gz"):
            assert cli.run([each.format(folder) for each in command]) == 0
            outputs.append(capsys.readouterr().out)
        assert outputs[0] == outputs[1]
        assert "pca" in outputs[0]
    assert cli.run(["report", str(tmp_path / "a.zip"), "--html", str(tmp_path / "page.html")]) == 0
    assert "8/9" in capsys.readouterr().out
    assert "pca" in (tmp_path / "page.html").read_text()
    assert cli.run(["report", str(tmp_path / "none.zip")]) == 2
    assert "none.zip: does not exist, expected a bundle" in capsys.readouterr().err


def test_methods_of_two_results_are_paired_by_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`random` is in both, pca in the first, an external set in the second; both have seeds 2 and 3."""
    bundle_of(tmp_path / "one.zip", runs(4))
    second = [done(seed, 41.0 + seed / 10) for seed in range(2, 6)]
    second += [done(seed, 50.0, method="mine", group="c" * 10) for seed in range(2, 6)]
    (tmp_path / "two").mkdir()
    store_of(tmp_path / "two", second)
    both = [str(tmp_path / "one.zip"), "--with", str(tmp_path / "two"), "--format", "json"]

    def compared(*options: str) -> list[tuple[str, str, list[int], float]]:
        assert cli.run(["compare", *both, *options]) == 0
        found = json.loads(capsys.readouterr().out)
        return [(each["first"], each["second"], each["seeds"], round(each["difference"], 6)) for each in found]

    assert compared() == [("random", "random@two", [2, 3], -1.0)]
    assert compared("mine", "pca") == [("mine", "pca", [2, 3], 7.5)]
    assert compared("pca", "random@two") == [("pca", "random@two", [2, 3], 1.25)]
    assert sorted(compared("--all-against", "mine"))[-1] == ("random@two", "mine", [2, 3, 4, 5], -8.65)


def test_results_without_a_common_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle_of(tmp_path / "one.zip", runs(2))
    for name, records, message in (
        ("seeds", [done(7, 1.0)], "'random' and 'random@seeds' share no finished seed in any setting: "),
        ("arch", [done(0, 1.0, arch="resnet50")], "they were run with arch resnet18 and resnet50"),
        ("names", [done(0, 1.0, method="mine")], "--with: they have no method in common; name methods to compare"),
    ):
        bundle_of(tmp_path / f"{name}.zip", records)
        assert cli.run(["compare", str(tmp_path / "one.zip"), "--with", str(tmp_path / f"{name}.zip")]) == 2
        assert message in (errors := capsys.readouterr().err)
        assert errors.count("\n") == 1


def test_methods_that_only_share_their_name_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle_of(tmp_path / "one.zip", runs(2))
    bundle_of(tmp_path / "two.zip", [*runs(2)[:2], done(9, 1.0, **PCA)])
    assert cli.run(["compare", str(tmp_path / "one.zip"), "--with", str(tmp_path / "two.zip")]) == 0
    assert capsys.readouterr().err == "note: no seed in common with themselves in any setting: pca\n"


@pytest.mark.parametrize(
    ("path", "name"), [("a/one.zip", "one"), ("one.TAR.GZ", "one"), ("runs/first", "first"), ("v0.2", "v0.2")]
)
def test_names_of_results(path: str, name: str) -> None:
    assert source_name(Path(path)) == name


def test_the_name_of_a_folder_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "first" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "first" / "inner")
    assert source_name(Path("..")) == "first"


def test_a_damaged_label_is_named() -> None:
    broken = [runs(1)[0]._replace(key="k", label={})]
    for pair in ((broken, runs(1)), (runs(1), broken)):
        with pytest.raises(StoreError, match="run k: what the store holds of it"):
            join_records(*pair, "two")
