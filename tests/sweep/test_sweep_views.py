"""Views per epoch and crops of single methods in a sweep: predicted and actual steps, and rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastdc.beton import BetonFile, Sample, describe_beton, load_manifest, write_samples
from fastdc.common.errors import ConfigError
from fastdc.common.files import prepare_workdir
from fastdc.report import make_rows, render
from fastdc.sweep.cell_groups import split_groups
from fastdc.sweep.cells import make_plan
from fastdc.sweep.forecast.disk import stored_label_bytes
from fastdc.sweep.forecast.estimate import make_bill, rough_rates
from fastdc.sweep.plan import Cell
from fastdc.sweep.run_cells import run_plan
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig

Make = Callable[..., SweepConfig]


def labels(config: SweepConfig) -> dict[str, dict[str, Any]]:
    """Return the label of each method's first cell."""
    return {cell.label["method"]: cell.label for cell in reversed(make_plan(config).cells)}


def test_steps_and_work_count_every_view(make_config: Make) -> None:
    """3 classes x 4 images, batches of 10, 2 epochs; 3 x 20 validation images twice, at a third."""
    methods = "random,random[augment=tile:1+views=4],pca[score=random,views=3],pca[score=random]"
    found = labels(make_config(methods=methods, ipc="4"))
    steps = {method: label["steps"] for method, label in found.items()}
    assert steps == {
        "random": 2 * 2,
        "random[augment=tile:1+views=4]": 2 * 5,
        "pca[score=random,views=3]": 2 * 4,
        "pca[score=random]": 2 * 2,
    }
    assert {label["batch"] for label in found.values()} == {10}
    assert found["random[augment=tile:1+views=4]"]["work"] - found["random"]["work"] == 2 * 12 * 3


@pytest.mark.parametrize(("augment", "views"), [("tile:2+views=5", 5), ("protocol", 1), ("method", 3)])
def test_the_option_replaces_the_sets_own_views(make_config: Make, augment: str, views: int) -> None:
    plan = make_plan(make_config(methods="pca[score=random,views=3]", augment=augment))
    assert {cell.views for cell in plan.cells} == {views}


def test_the_whole_set_follows_its_own_hints(make_config: Make, tiny: Path, tmp_path: Path) -> None:
    train, manifest = tmp_path / "hinted.beton", describe_beton(tiny / "train.beton")
    with BetonFile(tiny / "train.beton") as file:
        samples = [Sample(file.decode(i), int(file.labels[i]), manifest.ids[i]) for i in range(len(file))]
    how = {"classes": manifest.classes, "dataset": "x", "split": None, "source": "x", "made": {}}
    write_samples(train, samples, **how, hints={"tile_views": 2})
    plan = make_plan(make_config(methods="full,random", train=train))
    assert {cell.label["method"]: cell.views for cell in plan.cells} == {"full": 2, "random": 1}
    with pytest.raises(ConfigError, match=r"method full: augment=tile:2 .* with --augment tile:2"):
        make_plan(make_config(methods="full[augment=tile:2]"))


def test_older_cells_keep_their_keys(make_config: Make) -> None:
    """views=1 is omitted from keys; other values make another set."""
    one, same, two = (
        make_plan(make_config(methods=f"pca[score=random{text}]")).cells for text in ("", ",views=1", ",views=2")
    )
    assert [cell.key for cell in one] == [cell.key for cell in same]
    assert not {cell.key for cell in one} & {cell.key for cell in two}


def test_a_dry_run_predicts_the_time_of_every_view(make_config: Make) -> None:
    def seconds(method: str) -> float:
        plan = make_plan(make_config(methods=method, ipc="20", protocols="hard-small*epochs=200,validate_every=200"))
        return sum(make_bill(plan, plan.cells, rough_rates(plan, "cpu")).trainings.values())

    one, four = seconds("random"), seconds("random[augment=tile:1+views=4]")
    assert 3.5 * one < four < 4.0 * one


def test_only_trainings_of_equal_views_share_a_stream(make_config: Make) -> None:
    config = make_config(
        methods="pca[score=random,views=2]",
        archs="convnet1_w4,convnet2_w4",
        augment="method,tile:1+views=2,protocol",
        seeds="0",
        together="always",
    )
    plan = make_plan(config)
    groups = split_groups(plan, plan.cells, {})
    assert sorted(sorted((cell.label["augment"], cell.arch) for cell in group) for group in groups) == [
        [(rule, arch) for rule in ("method", "tile:1+views=2") for arch in ("convnet1_w4", "convnet2_w4")],
        [("protocol", arch) for arch in ("convnet1_w4", "convnet2_w4")],
    ]


def test_compiled_networks_share_no_stream(make_config: Make) -> None:
    """torch compiles one forward function for few networks of a process, and runs the others uncompiled."""
    plan = make_plan(make_config(methods="random", archs="convnet1_w4,convnet2_w4", together="always", compile=True))
    assert set(map(len, split_groups(plan, plan.cells, {}))) == {1}


def run(config: SweepConfig) -> tuple[list[Cell], Any]:
    plan = make_plan(config)
    prepare_workdir(plan.config.workdir)
    with Store(plan.store_path) as store:
        store.register(cell.planned() for cell in plan.cells)
        outcome = run_plan(plan, store)
        assert outcome.states == {"done": len(plan.cells)}
        return plan.cells, make_rows(store.records())


@pytest.mark.timeout(240)
def test_predicted_steps_are_taken_and_rows_show_the_crops(make_config: Make) -> None:
    rule = "tile:2+whole=0.25+views=2"
    methods = f"random[augment={rule}],rded[augment={rule},factor=2],pca[score=random,views=2,whole=0.25]"
    cells, rows = run(make_config(methods=methods, seeds="0", ipc="4", observer={"arch": "convnet1_w4", "epochs": 1}))
    assert {row.steps for row in rows} == {cell.label["steps"] for cell in cells} == {2 * 3}
    table = render(rows, "table")
    for cell in cells:
        assert cell.label["method"] in table
        assert cell.subset is not None
        hints = load_manifest(cell.subset.path).hints
        assert hints == {"tile_grid": 2, "tile_whole": 0.25, "tile_views": 2}


@pytest.mark.timeout(240)
def test_bytes_of_stored_labels_are_predicted(make_config: Make) -> None:
    config = make_config(
        methods="random", seeds="0", protocols="soft-small*epochs=2,labels=stored", augment="method,tile:1+views=3"
    )
    predicted = stored_label_bytes(make_plan(config), make_plan(config).cells)
    run(config)
    written = [path.stat().st_size for path in config.workdir.glob("labels/*/labels.bin")]
    assert len(written) == 2
    assert predicted == sum(written) == (1 + 3) * 6 * 3 * 2 * 2
