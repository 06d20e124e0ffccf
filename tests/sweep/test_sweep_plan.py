"""Cells, their keys, and errors before any work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastdc.beton import BetonFile, Sample, describe_beton, encode_jpeg, write_samples
from fastdc.common.errors import ConfigError, FastDCError, MethodError
from fastdc.common.keys import content_key
from fastdc.methods import get_method
from fastdc.observe.observer_config import ObserverConfig
from fastdc.subsets.request import machine_identity
from fastdc.sweep.cell_runner import CellRunner
from fastdc.sweep.cells import make_plan
from fastdc.sweep.forecast.disk import stored_label_bytes
from fastdc.sweep.grid_values import split_protocols
from fastdc.sweep.plan import Cell
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig
from fastdc.train.protocols import get_protocol

Make = Callable[..., SweepConfig]
Write = Callable[..., Path]


def cells(config: SweepConfig) -> list[Cell]:
    return make_plan(config).cells


def keys(config: SweepConfig) -> set[str]:
    return {cell.key for cell in cells(config)}


def test_the_grid_is_the_product_of_its_axes(make_config: Make) -> None:
    config = make_config(methods="random,el2n", ipc="1,2", protocols=["hard", "hard-small"], archs="resnet18,convnet")
    assert len(keys(config)) == 2 * 2 * 2 * 2 * 2


def test_sweeps_of_several_observers_can_be_one_row(make_config: Make) -> None:
    def planned(seed: int, pool: bool) -> list[Cell]:
        observer = {"arch": "convnet1_w4", "seed": seed}
        methods = "full,random,el2n,rded"
        return cells(make_config(methods=methods, ipc="1,2", seeds=str(seed), observer=observer, pool_observers=pool))

    def grouped(cells: list[Cell]) -> dict[tuple[str, int | None], str]:
        return {(cell.label["method"], cell.label["ipc"]): cell.label["group"] for cell in cells}

    for seed in (0, 1):
        assert [cell.key for cell in planned(seed, True)] == [cell.key for cell in planned(seed, False)]
    groups = [grouped(planned(seed, True)) for seed in (0, 1)]
    assert groups[0] == groups[1]
    apart = [grouped(planned(seed, False)) for seed in (0, 1)]
    assert {name for (name, ipc), group in apart[0].items() if group != apart[1][name, ipc]} == {"el2n", "rded"}
    assert apart[0] == groups[0]


def test_crop_rules_are_an_axis(make_config: Make) -> None:
    rules = cells(make_config(augment="method,protocol,tile:2+whole=0.250"))
    assert [cell.label["augment"] for cell in rules[::2]] == ["method", "protocol", "tile:2+whole=0.25"]
    assert "augment" not in rules[0].name
    assert "augment tile:2+whole=0.25" in rules[-1].name
    assert {cell.key for cell in rules[:2]} == keys(make_config())
    with pytest.raises(ValueError, match="expected method, protocol or tile:GRID"):
        make_config(augment="tiles")


def test_compiled_trainings_are_rows_of_their_own(make_config: Make) -> None:
    plain, compiled = cells(make_config()), cells(make_config(compile=True))
    assert keys(make_config(compile=False)) == {cell.key for cell in plain}
    for one, other in zip(plain, compiled, strict=True):
        assert one.subset is not None
        assert other.subset is not None
        assert (one.label["precision"], other.label["precision"]) == ("fp32", "fp32 compiled")
        assert one.subset.key == other.subset.key
        assert one.key != other.key
        assert one.axes != other.axes
        assert one.label["group"] != other.label["group"]


def test_a_cell_is_trained_as_the_sweep_says(make_config: Make, tmp_path: Path) -> None:
    plan = make_plan(make_config(compile=True))
    with Store(tmp_path / "store.sqlite") as store:
        assert CellRunner(plan, store)._settings(plan.cells[0]).compile


def test_epochs_are_an_axis_that_spells_protocols(make_config: Make) -> None:
    spelled = "hard-small*epochs=2,hard-small*epochs=7,hard*batch_size=4,epochs=2,hard*batch_size=4,epochs=7"
    grid = make_config(protocols="hard-small,hard*batch_size=4", epochs="2,7", methods="full,random")
    assert keys(grid) == keys(make_config(protocols=spelled, methods="full,random"))
    names = list(dict.fromkeys(cell.label["protocol"] for cell in cells(grid)))
    assert names == split_protocols(spelled)
    preset = get_protocol("hard-small").epochs
    assert keys(make_config(protocols="hard-small", epochs=preset)) == keys(make_config(protocols="hard-small"))


def test_a_method_can_keep_its_own_epochs(make_config: Make) -> None:
    grid = {"protocols": "hard-small", "epochs": "2,7", "set": {"full.protocol.epochs": 1}}
    full = [cell for cell in cells(make_config(**grid, methods="full,random")) if cell.label["method"] == "full"]
    assert [(cell.protocol.epochs, cell.seed) for cell in full] == [(1, 0), (1, 1)]


def test_the_whole_set_ignores_ipc_and_runs_last(make_config: Make) -> None:
    planned = cells(make_config(methods="full,random", ipc="1,2"))
    full = [cell for cell in planned if cell.label["method"] == "full"]
    assert [(cell.label["ipc"], cell.seed) for cell in full] == [(None, 0), (None, 1)]
    assert planned[-2:] == full


@pytest.mark.parametrize("stored", ["raw", "jpg"])
def test_the_key_of_the_whole_set_changed_only_for_raw_pixels(
    make_config: Make, tiny: Path, tmp_path: Path, stored: str
) -> None:
    """Results of before 0.2 count raw pixels as they are, today's as PNG."""
    train = tiny / "train.beton"
    if stored == "jpg":
        train, manifest = tmp_path / "jpg.beton", describe_beton(train)
        with BetonFile(tiny / "train.beton") as file:
            samples = [Sample(encode_jpeg(file.decode(i)), int(file.labels[i]), str(i)) for i in range(len(file))]
        write_samples(train, samples, classes=manifest.classes, dataset="x", split=None, source="x", made={})
    before = content_key({"whole_set": "full", "version": 1, "train": describe_beton(train).content_hash})
    (cell, *_) = cells(make_config(methods="full", train=train))
    assert cell.subset is not None
    assert (cell.subset.key == before) == (stored == "jpg")


def test_classes_in_two_spellings_are_the_same(make_config: Make, write_tiny: Write, tmp_path: Path) -> None:
    train = write_tiny(tmp_path / "train.beton", 2, 0, ("cafe\u0301", "moss"))
    val = write_tiny(tmp_path / "val.beton", 2, 1, ("caf\u00e9", "moss"))
    assert cells(make_config(train=train, val=val))


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": "2"},
        {"ipc": "3"},
        {"protocols": "hard-small*epochs=3"},
        {"archs": "convnet2_w4"},
        {"image_size": 32},
        {"augment": "protocol"},
        {"precision": "bf16"},
        {"threads": 2},
        {"observer": {"arch": "convnet1_w4", "lr": 0.05}},
        {"set": {"el2n": {"keep": "hard"}}},
        {"set": {"el2n.protocol.epochs": 3}},
    ],
    ids=str,
)
def test_every_dependency_of_a_result_is_in_its_key(make_config: Make, change: dict[str, object]) -> None:
    assert not keys(make_config(methods="el2n")) & keys(make_config(methods="el2n", **change))


@pytest.mark.parametrize("change", [{"loader": "resident"}, {"workdir": "elsewhere"}, {"precision": "fp32"}], ids=str)
def test_settings_without_effect_are_not_in_the_key(make_config: Make, change: dict[str, object]) -> None:
    assert keys(make_config(methods="random")) == keys(make_config(methods="random", **change))


GOLDEN = ("37845da91f160421aecedefaabf6063c", "df88837999e2e7b1cc84c5aaca32128e")
"""Keys of `random`'s cell and subset at 1ebff1e, before precisions were named with the version of their arithmetic."""


def test_keys_of_fp32_on_a_cpu_are_unchanged(make_config: Make) -> None:
    for precision in ("fp32", "auto"):
        (cell,) = make_plan(make_config(methods="random", seeds="0", precision=precision), "cpu").cells
        assert cell.subset is not None
        assert (cell.key, cell.subset.key) == GOLDEN
    assert "numerics" not in ObserverConfig(device="cpu", precision="fp32").identity("t", 0)


def test_every_precision_has_its_own_keys(make_config: Make) -> None:
    def plan(device: Any, precision: str) -> list[Cell]:
        return make_plan(make_config(methods="random,el2n,rded", seeds="0", precision=precision), device).cells

    made = {(device, each): plan(device, each) for device, each in PRECISIONS}
    assert {cell.key for cell in plan("cuda", "auto")} == {cell.key for cell in made["cuda", "bf16"]}
    for method, subsets in (("random", 1), ("el2n", len(PRECISIONS)), ("rded", len(PRECISIONS))):
        cells = [cell for planned in made.values() for cell in planned if cell.label["method"] == method]
        assert len({cell.key for cell in cells}) == len(PRECISIONS)
        assert len({cell.subset.key for cell in cells if cell.subset}) == subsets  # random runs no network


PRECISIONS = [("cpu", "fp32"), ("cpu", "bf16"), *(("cuda", each) for each in ("fp32", "tf32", "bf16", "fp16"))]


def test_results_of_older_arithmetic_have_other_keys(make_config: Make) -> None:
    """Before, fp32 on CUDA was TF32 in convolutions, and bf16 ranked rounded logits."""
    for precision in ("fp32", "bf16", "fp16"):
        identity = ObserverConfig(device="cuda", precision=precision).identity("t", 0)
        assert (identity["precision"], identity["numerics"]) == (precision, 2)
    assert machine_identity("fp32", 1, "cuda")["precision"] == "fp32/2"
    assert machine_identity("fp32", 1, "cpu") == {"device": "cpu", "precision": "fp32", "threads": 1}


def test_order_of_methods_and_settings_does_not_matter(make_config: Make) -> None:
    one = make_config(methods="random,el2n", set={"el2n": {"keep": "hard", "last_epoch": 5}}, seeds=[0, 1])
    two = make_config(methods="el2n,random", set={"el2n": {"last_epoch": 5, "keep": "hard"}}, seeds=[1, 0])
    assert keys(one) == keys(two)


def test_other_data_under_the_same_name_is_another_run(make_config: Make, tmp_path: Path, write_tiny: Write) -> None:
    train = write_tiny(tmp_path / "train.beton", 40, seed=0)
    before = keys(make_config(train=train))
    assert before == keys(make_config())  # equal content elsewhere: the same runs
    train.with_suffix(".json").unlink()
    train.unlink()
    write_tiny(train, 40, seed=5)
    assert not before & keys(make_config(train=train))


def test_another_validation_set_is_another_run(make_config: Make, tmp_path: Path, write_tiny: Write) -> None:
    val = write_tiny(tmp_path / "val.beton", 20, seed=8)
    for methods in ("random", "el2n", "full"):
        assert not keys(make_config(methods=methods)) & keys(make_config(methods=methods, val=val))


def test_a_new_method_version_is_another_run(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(make_config(methods="random,full"))
    for name in ("random", "full"):
        monkeypatch.setattr(type(get_method(name)), "version", 99)
    assert not before & keys(make_config(methods="random,full"))


def test_the_observer_matters_only_to_methods_that_read_it(make_config: Make) -> None:
    other = {"arch": "convnet2_w4"}
    assert keys(make_config(methods="random,full")) == keys(make_config(methods="random,full", observer=other))


def test_variants_are_named_by_what_differs_from_the_defaults(make_config: Make) -> None:
    config = make_config(methods="el2n[keep=easy],el2n[keep=hard],el2n", seeds="0", ipc="1")
    assert [cell.label["method"] for cell in cells(config)] == ["el2n", "el2n[keep=hard]"]
    config = make_config(methods="all", set={"pca": {"grid": 3}}, seeds="0", ipc="1")
    assert "pca[grid=3]" in {cell.label["method"] for cell in cells(config)}


def test_a_protocol_override_of_one_method_shows_in_its_name(make_config: Make) -> None:
    config = make_config(methods="full,random", protocols="hard-small", set={"full.protocol.epochs": 4})
    names = {cell.label["method"]: cell.label["protocol"] for cell in cells(config)}
    assert names == {"full": "hard-small*epochs=4", "random": "hard-small"}


def test_recipes_are_separate_rows_and_their_work_depends_on_the_set(make_config: Make) -> None:
    protocols = (
        "hard,hard-sgd,cim-hl,cad-hl,minimax-hl,minimax-hl*epochs=7,hard*mix=mixup,hard*mix=cutmix,mix_target=own"
    )
    planned = cells(make_config(methods="random", protocols=protocols, ipc="1,2", seeds="0"))
    assert len({cell.key for cell in planned}) == len({cell.label["group"] for cell in planned}) == 16
    steps = {(cell.label["protocol"], cell.label["ipc"]): cell.label["steps"] for cell in planned}
    assert (steps["minimax-hl", 1], steps["minimax-hl", 2], steps["minimax-hl*epochs=7", 2]) == (3000, 2000, 7)
    assert (steps["hard*mix=cutmix,mix_target=own", 1], steps["cim-hl", 1], steps["cad-hl", 2]) == (300, 300, 300)
    work = {(cell.label["protocol"], cell.label["ipc"]): cell.label["work"] for cell in planned}
    assert work["minimax-hl", 1] > work["minimax-hl", 2] / 2 > work["minimax-hl*epochs=7", 2]


def test_deterministic_methods_make_one_subset_for_all_seeds(make_config: Make) -> None:
    planned = cells(make_config(methods="random,el2n", seeds="0-2"))
    paths = {
        name: {cell.subset.path for cell in planned if cell.subset and cell.label["method"] == name}
        for name in ("random", "el2n")
    }
    assert (len(paths["random"]), len(paths["el2n"])) == (3, 1)


def test_only_seeds_share_a_group(make_config: Make) -> None:
    planned = cells(make_config(methods="random,el2n", ipc="1,2", seeds="0-2"))
    groups = {(cell.label["method"], cell.label["ipc"]): cell.label["group"] for cell in planned}
    assert len(groups) == len(set(groups.values())) == 4
    assert len({cell.label["group"] for cell in planned}) == 4


def test_a_method_that_needs_more_images_than_there_are_is_skipped_with_the_reason(make_config: Make) -> None:
    planned = cells(make_config(methods="all", ipc="30", seeds="0"))
    skipped = {cell.label["method"]: cell.skip for cell in planned}
    assert skipped["pca"] == "ipc=30 needs 120 images of every class, class 'bark' has 40"
    assert {name for name, reason in skipped.items() if reason is None} >= {"full", "random", "el2n"}
    with pytest.raises(MethodError, match=r"method pca: ipc=30 needs 120 images of every class, class 'bark' has 40"):
        cells(make_config(methods="random,pca", ipc="2,30"))
    with pytest.raises(MethodError, match=r"method pca: ipc=30"):
        cells(make_config(methods="all,pca", ipc="2,30"))


def test_one_message_names_every_method_that_cannot_run_and_the_options(make_config: Make) -> None:
    with pytest.raises(MethodError) as caught:
        cells(make_config(methods="random,pca,el2n[last_epoch=50]", ipc="30", observer={"epochs": 12}))
    first, second = str(caught.value).split("; also ")
    assert first.startswith("method pca: ipc=30 needs 120 images of every class")
    assert first.endswith("; lower --ipc, add images, or leave it out")
    assert second.startswith("method el2n[last_epoch=50]: reads the observer's epochs up to 50, its schedule has 12")
    assert "give --observer epochs=50, or lower the method's last_epoch (in a sweep --set el2n.last_epoch=12" in second


def test_a_global_ranking_may_take_more_of_a_class_than_the_smallest_has(make_config: Make) -> None:
    planned = cells(make_config(methods="random,el2n", set={"el2n": {"balanced": False}}, ipc="40", seeds="0"))
    assert not [cell for cell in planned if cell.skip]
    with pytest.raises(MethodError, match="method pca: ipc=40 needs 160 images of every class"):
        cells(make_config(methods="random,pca", ipc="40", seeds="0"))


def test_an_observer_that_ends_too_early_is_refused_before_any_work(make_config: Make) -> None:
    short = {"arch": "convnet1_w4", "epochs": 3}
    skipped = {cell.label["method"]: cell.skip for cell in cells(make_config(methods="all", observer=short))}
    assert (skipped["full"], skipped["random"]) == (None, None)
    for name in ("el2n", "pca"):
        assert (skipped[name] or "").startswith("reads the observer's epochs up to 10, its schedule has 3")
    for name, epochs in (("dyn_unc", 10), ("dual", 10)):
        assert (skipped[name] or "").startswith(f"its windows need {epochs} epochs of the observer, it reads 3")
    with pytest.raises(MethodError, match=r"method cad_prune.*: its windows need 7 epochs of the observer, it reads 6"):
        make_plan(make_config(methods="cad_prune[last_epoch=6]"))
    config = make_config(methods="random,el2n", observer=short)
    with pytest.raises(MethodError, match="method el2n: reads the observer's epochs up to 10, its schedule has 3"):
        make_plan(config)
    assert not config.workdir.exists()
    assert not [cell for cell in cells(make_config(methods="el2n[last_epoch=3]", observer=short)) if cell.skip]


def test_the_observer_is_planned_for_the_device_that_the_sweep_has(make_config: Make) -> None:
    for device, precision in (("cpu", "fp32"), ("cuda", "bf16")):
        observer = make_plan(make_config(methods="el2n", threads=3), device).observer
        assert (observer.device, observer.precision, observer.threads, observer.image_size) == (
            device,
            precision,
            3,
            28,
        )


def test_a_setting_with_two_values_is_refused(make_config: Make) -> None:
    with pytest.raises(ConfigError, match="method el2n: keep=hard contradicts set keep=easy; keep one"):
        cells(make_config(methods="el2n[keep=hard]", set={"el2n": {"keep": "easy"}}))
    same = make_config(methods="el2n[keep=hard]", set={"el2n": {"keep": "hard", "last_epoch": 5}})
    assert {cell.label["method"] for cell in cells(same)} == {"el2n[keep=hard,last_epoch=5]"}


def test_labels_record_precision_and_inferred_settings(make_config: Make) -> None:
    labels = {cell.label["method"]: cell.label for cell in cells(make_config(methods="all", set={"pca": {"grid": 3}}))}
    assert {(label["device"], label["threads"]) for label in labels.values()} == {("cpu", 1)}
    assert labels["random"]["inferred"] == []
    assert labels["el2n"]["inferred"] == ["first_epoch", "last_epoch"]
    inferred = ["first_epoch", "fit", "last_epoch", "order", "resize", "scale_min"]
    assert sorted(labels["pca[grid=3]"]["inferred"]) == inferred
    (gpu,) = make_plan(make_config(seeds="0"), "cuda").cells
    assert (gpu.label["device"], gpu.label["threads"]) == ("cuda", None)


def test_a_method_without_its_inputs_is_skipped(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    random = type(get_method("random"))
    monkeypatch.setattr(random, "info", random.info.model_copy(update={"needs": ("features", "telepathy")}))
    reason = "needs telepathy, which this version of fastdc does not provide"
    skipped = {cell.label["method"]: cell.skip for cell in cells(make_config(methods="all"))}
    assert (skipped["random"], skipped["full"]) == (reason, None)
    with pytest.raises(MethodError, match=f"method random: {reason}"):
        cells(make_config(methods="random"))


def test_a_broken_plug_in_is_a_skipped_row_of_all(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastdc.methods import _registry

    monkeypatch.setitem(_registry().broken, "mymethod", "mymethod:M: ImportError: no module named x")
    planned = cells(make_config(methods="all", seeds="0"))
    assert {cell.label["method"]: cell.skip for cell in planned}[
        "mymethod"
    ] == "mymethod:M: ImportError: no module named x"
    assert not [cell for cell in cells(make_config(methods="random")) if cell.skip]
    with pytest.raises(FastDCError, match="mymethod"):
        cells(make_config(methods="mymethod"))


REFUSED = [
    ({"methods": "randm"}, r"unknown method 'randm'; did you mean 'random'\?"),
    ({"methods": "el2n[kep=hard]"}, r"unknown setting 'kep'; did you mean 'keep'\?"),
    ({"methods": "el2n[keep=middle]"}, r"method el2n: keep='middle'"),
    ({"protocols": "hrd"}, r"unknown protocol 'hrd'; did you mean 'hard'\?"),
    ({"protocols": "hard*epoch=3"}, r"unknown setting 'epoch'; did you mean 'epochs'\?"),
    ({"archs": "resnet81"}, r"unknown architecture 'resnet81'; did you mean 'resnet18'\?"),
    ({"observer": {"arc": "resnet18"}}, r"observer: unknown setting 'arc'; did you mean 'arch'\?"),
    ({"observer": {"arch": "nonet"}}, r"unknown architecture 'nonet'"),
    ({"set": {"pcaa": {"grid": 3}}}, r"unknown method 'pcaa'"),
    ({"set": {"random.protocol.epoch": 3}}, r"set random.protocol: .*did you mean 'epochs'"),
    ({"ipc": "41"}, r"train.beton: random: ipc=41 needs 41 images of every class, class 'bark' has 40; lower --ipc"),
    ({"methods": "random,el2n,pca", "ipc": "2,41"}, r"ipc=41 needs .* class 'bark' has 40; lower --ipc"),
    ({"methods": "pca", "ipc": "11"}, r"train.beton: pca: ipc=11 needs 44 images .* 'bark' has 40"),
    ({"ipc": []}, r"--ipc is missing; method 'random'"),
    ({"precision": "fp16"}, r"precision fp16: needs a CUDA device"),
    ({"precision": "tf32"}, r"precision tf32: needs a CUDA device, found only the CPU; use fp32, bf16 or auto"),
    ({"observer": {"precision": "tf32"}}, r"precision tf32: needs a CUDA device"),
    ({"train": "none.beton"}, r"none.beton"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[str(change) for change, _ in REFUSED])
def test_bad_input_is_refused_in_one_line_before_any_work(make_config: Make, change: dict, message: str) -> None:
    config = make_config(**change)
    with pytest.raises(FastDCError, match=message) as caught:
        make_plan(config, "cpu")
    assert "\n" not in str(caught.value)
    assert not config.workdir.exists()


def test_class_lists_that_differ_are_refused(make_config: Make, tmp_path: Path, write_tiny: Write) -> None:
    other = write_tiny(tmp_path / "other.beton", 3, seed=1, classes=("bark", "clay", "moss"))
    with pytest.raises(ConfigError, match="'sand' only in the training set, 'clay' only in the validation set"):
        make_plan(make_config(val=other))
    turned = write_tiny(tmp_path / "turned.beton", 3, seed=1, classes=("sand", "moss", "bark"))
    with pytest.raises(ConfigError, match=r"first at class 0: 'bark' and 'sand'; write .*turned\.beton again with"):
        make_plan(make_config(val=turned))


@pytest.mark.parametrize("method", ["rded", "ca2d", "fadrm"])
def test_tiles_of_large_images_count_against_a_class_before_any_work(make_config: Make, method: str) -> None:
    """The bark class has 40 images: from 128 px on a mosaic of 4 patches takes 4 of them, below that a patch is all."""
    with pytest.raises(ConfigError, match=rf"{method}: ipc=11 needs 44 images of every class, class 'bark' has 40"):
        cells(make_config(methods=method, ipc="11", image_size=128))
    assert cells(make_config(methods=method, ipc="11", image_size=127, seeds="0"))[0].skip is None


def test_ipc_is_optional_only_for_the_whole_set(make_config: Make) -> None:
    assert len(cells(make_config(methods="full", ipc=[]))) == 2


def test_method_names_cannot_lead_out_of_the_subset_folder(make_config: Make) -> None:
    with pytest.raises(FastDCError, match="unknown method"):
        make_plan(make_config(methods="../../etc"))
    for cell in cells(make_config(methods="el2n[keep=hard]")):
        assert cell.subset is not None
        assert cell.subset.path.parent.name == "subsets"
        assert "[" not in cell.subset.path.name


def test_more_stored_logits_than_classes_are_refused(make_config: Make) -> None:
    with pytest.raises(ConfigError, match="label_topk=4: the data has 3 classes"):
        cells(make_config(protocols="soft-small*labels=stored,label_topk=4"))


def test_stored_labels_count_once_for_all_seeds(make_config: Make) -> None:
    protocols = "soft-small*epochs=5,labels=stored"
    plan = make_plan(make_config(methods="random,el2n[last_epoch=2]", protocols=protocols, ipc="2", seeds="0-1"))
    # el2n has one subset for both seeds, random one each; each of 6 images, 3 classes, 2 bytes, 5 epochs.
    assert stored_label_bytes(plan, plan.cells) == 3 * 6 * 3 * 2 * 5
    assert stored_label_bytes(plan, []) == 0
