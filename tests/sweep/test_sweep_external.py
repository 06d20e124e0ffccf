"""Imported betons, lists and scores in a sweep: planned, trained and ranked beside the methods."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastdc.beton import load_manifest
from fastdc.cli.main import run as run_command
from fastdc.common.errors import ConfigError, MethodError
from fastdc.report.page.document import make_page
from fastdc.report.rows import Row, make_rows
from fastdc.report.table import csv_table, json_table, latex_table, plain_table
from fastdc.subsets.compress import compress_beton
from fastdc.sweep.cell_runner import CellRunner
from fastdc.sweep.cells import make_plan
from fastdc.sweep.forecast.preview import preview
from fastdc.sweep.launch.remote_worker import Home, RemoteWorker, this_fastdc
from fastdc.sweep.plan import Cell
from fastdc.sweep.run_cells import run_sweep
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig, load_config
from tests.sweep.conftest import make_tiny

Make = Callable[..., SweepConfig]
LIST = "mine=list:kept.txt"
SCORES = "theirs=scores:el2n.npy[keep=easy,index_order=own]"
EVERY = f"random,made=made.beton,{LIST},uneven=list:uneven.txt,{SCORES}"


@pytest.fixture(scope="module")
def sets(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write made.beton (mosaics with hints), kept.txt (3 x 2), uneven.txt (3, 1 and 0) and el2n.npy into a folder."""
    folder = tmp_path_factory.mktemp("sets")
    settings = {"score": "random"}
    options: dict[str, Any] = {"ipc": 2, "image_size": 28, "workdir": folder / "work", "settings": settings}
    compress_beton("pca", tiny / "train.beton", folder / "made.beton", **options)
    (folder / "kept.txt").write_text("".join(f"{name}/{n}\n" for name in ("bark", "moss", "sand") for n in (3, 5)))
    (folder / "uneven.txt").write_text("bark/1\nbark/2\nbark/3\nmoss/1\n")
    np.save(folder / "el2n.npy", np.random.default_rng(0).random(120))
    return folder


@pytest.fixture
def there(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a folder with copies of the sets."""
    for path in sets.glob("*.*"):
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cells(config: SweepConfig) -> list[Cell]:
    return make_plan(config).cells


def shown(config: SweepConfig) -> list[tuple[str, int | None, int]]:
    planned = [(cell.label["method"], cell.label["ipc"], cell.subset.images) for cell in cells(config) if cell.subset]
    return list(dict.fromkeys(planned))


@pytest.mark.usefixtures("there")
def test_betons_and_lists_keep_their_counts_and_scores_follow_ipc(make_config: Make) -> None:
    assert shown(make_config(methods=EVERY, ipc="3,4")) == [
        *[("uneven", 1, 4), ("made", 2, 6), ("mine", 2, 6)],
        *[("random", 3, 9), ("theirs", 3, 9), ("random", 4, 12), ("theirs", 4, 12)],
    ]
    assert shown(make_config(methods=f"made=made.beton,{LIST}", ipc=())) == [("made", 2, 6), ("mine", 2, 6)]
    with pytest.raises(ConfigError, match="--ipc is missing; external set 'theirs' needs the images per class"):
        make_plan(make_config(methods=SCORES, ipc=()))
    with pytest.raises(ConfigError, match=r"theirs: ipc=41 needs 41 images of every class, class 'bark' has 40"):
        make_plan(make_config(methods=SCORES, ipc="41"))


@pytest.mark.usefixtures("there")
def test_all_can_be_combined_with_external_sets(make_config: Make) -> None:
    names = {cell.label["method"] for cell in cells(make_config(methods=f"all,{LIST}"))}
    assert {"mine", "random", "full", "pca"} < names


@pytest.mark.usefixtures("there")
def test_external_sets_change_no_key_of_a_method(make_config: Make) -> None:
    before = {cell.key for cell in cells(make_config())}
    both = cells(make_config(methods=f"random,{LIST}"))
    assert before == {cell.key for cell in both if cell.label["method"] == "random"}


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ("el2n=made.beton", "'el2n=made.beton': 'el2n' is the name of a method; give .* such as my-el2n=made.beton"),
        (
            "Full=list:kept.txt",
            "'Full' is the name of a method; give your set another one, such as my-Full=list:kept.txt",
        ),
        ("all=made.beton", "'all' is the name of a method"),
        ("a=none.beton", "none.beton: does not exist, expected the file of external set a"),
    ],
)
@pytest.mark.usefixtures("there")
def test_a_set_that_cannot_be_ranked_is_refused_up_front(make_config: Make, methods: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_plan(make_config(methods=methods))


def test_sets_can_be_named_in_a_file(make_config: Make, there: Path) -> None:
    grid = there / "grid.yaml"
    values = json.loads(make_config().model_dump_json())
    values |= {"methods": ["random", "my.set=list:kept.txt"], "set": {"my.set": {"fit": "pad", "protocol.epochs": 3}}}
    grid.write_text(json.dumps(values))
    mine = [cell for cell in cells(load_config(grid, {})) if cell.label["method"] == "my.set"]
    assert {cell.protocol.epochs for cell in mine} == {3}
    others = cells(load_config(grid, {}, ["my.set.fit=squash"]))
    assert not {cell.key for cell in mine} & {cell.key for cell in others}
    with pytest.raises(ConfigError, match=r"external set my.set: fit=crop contradicts set fit=pad"):
        make_plan(load_config(grid, {"methods": "my.set=list:kept.txt[fit=crop]"}))
    with pytest.raises(ConfigError, match=r"set my.set.protocol: .*unknown setting 'epoch'; did you mean 'epochs'"):
        make_plan(load_config(grid, {}, ["my.set.protocol.epoch=3"]))
    with pytest.raises(ConfigError, match=r"--set your.*: is not among the methods random, my.set"):
        load_config(grid, {}, ["your.set.fit=pad"])


def test_a_bad_name_in_a_file_is_reported_with_its_line(tmp_path: Path) -> None:
    grid, head = tmp_path / "grid.yaml", "train: t.beton\nval: v.beton\nworkdir: runs\n"
    grid.write_text(f"{head}methods:\n  - random\n  - mine=kept.txt\n")
    with pytest.raises(ConfigError, match=r"grid.yaml:4: methods=.*found 'kept.txt' after mine=, expected NAME=FILE"):
        load_config(grid, {})
    grid.write_text(f"{head}methods: ['a=x.beton,a=list:y']\n")
    with pytest.raises(ConfigError, match=r"grid.yaml:4: methods=.*two external sets are called 'a'; give each its"):
        load_config(grid, {})


def test_external_sets_with_held_out_images_are_refused(make_config: Make, there: Path, tiny: Path) -> None:
    held = {"methods": LIST, "holdout": 0.25, "val": None}
    plan = make_plan(make_config(**held | {"methods": "random"}))
    out, kept = plan.val.ids[0], plan.train.ids[:4]
    (there / "kept.txt").write_text("\n".join(kept))
    (cell, *_) = cells(make_config(**held))
    assert cell.subset is not None
    assert cell.subset.images == 4
    (there / "kept.txt").write_text(out)
    with pytest.raises(MethodError, match=r"not in the training set.*with --holdout the training set is the part"):
        make_plan(make_config(**held))
    with pytest.raises(ConfigError, match=r"30 of the 120 images of external set a are validated on, held out"):
        make_plan(make_config(**held | {"methods": f"a={tiny / 'train.beton'}"}))


@pytest.mark.usefixtures("there")
def test_a_holdout_set_is_stored_from_the_kept_part(make_config: Make) -> None:
    held = {"holdout": 0.25, "val": None, "seeds": "0"}
    kept = make_plan(make_config(methods="random", **held)).train.ids[:4]
    Path("kept.txt").write_text("\n".join(kept))
    plan, outcome = run_sweep(make_config(methods=LIST, **held), show_progress=False)
    assert outcome.states == {"done": 1}
    (cell,) = plan.cells
    assert cell.subset is not None
    assert list(load_manifest(cell.subset.path).ids) == list(kept)


def rows_of(config: SweepConfig) -> list[Row]:
    with Store(config.workdir / "store.sqlite", readonly=True) as store:
        return make_rows(store.records())


@pytest.fixture
def ranked(make_config: Make, there: Path) -> SweepConfig:
    """Run a sweep of a method, an imported beton, two lists and scores."""
    config = make_config(methods=f"pca[score=random],{EVERY}")
    _, outcome = run_sweep(config, show_progress=False)
    assert outcome.states == {"done": 12}
    return config


def test_methods_and_external_sets_share_a_table(
    ranked: SweepConfig, there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {row.method: row for row in rows_of(ranked)}
    pca, made, mine, uneven, theirs = (rows[name] for name in ("pca[score=random]", "made", "mine", "uneven", "theirs"))
    # The imported beton is the set of `pca[score=random]` with seed 0: same bytes, same hints, same training.
    assert made.image_bytes == load_manifest(there / "made.beton").image_bytes
    assert (made.images, made.ipc, made.n, made.subsets) == (6, 2, 2, 1)
    assert made.external == "beton made.beton, cropped by tile_grid=2"
    assert (uneven.images, uneven.per_class, uneven.ipc) == (4, "0-3", 1)
    assert (mine.external, theirs.external) == ("list kept.txt", "scores el2n.npy, keep=easy")
    assert (made.compress_seconds, made.scoring_seconds) == (None, None)
    assert pca.compress_seconds is not None
    table = plain_table(list(rows.values()))
    lines = [" ".join(line.split()) for line in table.splitlines()]
    assert any(line.startswith("made (external) 2 ") for line in lines)
    assert any(line.startswith("uneven (external) ~1 ") for line in lines)
    assert "uneven (external): list uneven.txt; 0-3 images per class, 4 in all" in table
    assert "mine (external): list kept.txt\n" in table
    assert "made (external): beton made.beton, cropped by tile_grid=2\n" in table
    assert "made (external) & 2 &" in latex_table(list(rows.values()))
    assert {row["external"] for row in json.loads(json_table(list(rows.values())))} >= {None, "list kept.txt"}
    assert ",scores el2n.npy" in csv_table(list(rows.values())).replace('"', "")
    capsys.readouterr()
    assert run_command(["rank", str(ranked.workdir), "--ipc", "2"]) == 0
    ranking = capsys.readouterr().out
    assert all(f"{name} (external)" in ranking for name in ("made", "mine", "theirs"))
    assert run_command(["compare", str(ranked.workdir), "mine", "random"]) == 0
    compared = capsys.readouterr().out
    assert "mine (external) " in compared
    assert compared.endswith("mine (external): list kept.txt\n")
    # No lock, list or other file appears beside those of the user.
    assert {path.name for path in there.iterdir()} == {
        *("made.beton", "made.json", "made.list.tsv", "kept.txt", "uneven.txt", "el2n.npy", "work"),
    }


def test_the_page_marks_external_sets_and_shows_their_images(ranked: SweepConfig, there: Path) -> None:
    with Store(ranked.workdir / "store.sqlite", readonly=True) as store:
        page = make_page(store, ranked.workdir)
        assert page.count("made (external)</b>") == page.count("theirs (external)</b>") == 1
        assert "made (external): beton made.beton" in page
        assert "not shown" not in page
        (there / "made.beton").unlink()
        page = make_page(store, ranked.workdir)
        assert "made: not shown: its file is gone or has changed (beton made.beton, " in page


def test_a_second_sweep_resumes_and_a_changed_file_is_a_new_row(ranked: SweepConfig, there: Path) -> None:
    assert run_sweep(ranked, show_progress=False)[1].ran == 0
    lines = preview(ranked)
    assert "cached   mine ipc 2 hard-small*epochs=2 convnet1_w4 seed 0" in lines
    (there / "kept.txt").write_text("bark/7\nmoss/7\nsand/7\nbark/8\nmoss/8\nsand/8\n")
    assert sum(line.startswith("missing  mine") for line in preview(ranked)) == 2
    assert run_sweep(ranked, show_progress=False)[1].ran == 2
    names = [row.method for row in rows_of(ranked) if row.method.partition("#")[0] == "mine"]
    assert sorted(name.count("#") for name in names) == [0, 1]


def test_hints_of_an_imported_beton_are_followed(make_config: Make, there: Path) -> None:
    config = make_config(methods="pca[score=random],made=made.beton", seeds="0", augment="method,protocol")
    run_sweep(config, show_progress=False)
    top1 = {(row.augment, row.method): row.top1_mean for row in rows_of(config)}
    for rule in config.augment:
        assert top1[rule, "made"] == top1[rule, "pca[score=random]"]
    keys = {(cell.label["augment"], cell.key) for cell in cells(config) if cell.label["method"] == "made"}
    assert load_manifest(there / "made.beton").hints["tile_grid"] == 2
    assert len(keys) == 2


def test_a_beton_that_changes_during_the_sweep_fails_its_runs_and_no_others(make_config: Make, there: Path) -> None:
    config = make_config(methods="random,made=made.beton", seeds="0")
    plan = make_plan(config)
    for suffix in (".beton", ".json"):
        (there / f"made{suffix}").unlink()
    make_tiny(there / "made.beton", 2, seed=9)
    (there / "work").mkdir()
    (cell,) = [cell for cell in plan.cells if cell.label["method"] == "made"]
    with Store(plan.store_path) as store:
        runner = CellRunner(plan, store)
        for _ in range(2):
            with pytest.raises(MethodError, match=r"made.beton: changed after external set made was read; run"):
                runner.run(cell)
        problem = RemoteWorker(print).open(plan, Home(this_fastdc(), there))
    assert problem is not None
    assert "made.beton: changed after external set made was read" in problem
    assert run_sweep(config, show_progress=False)[1].states == {"done": 2}  # a new plan reads the new file
