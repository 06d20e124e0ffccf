"""Labels that are made once and read from a file."""

import json
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fastdc.common.errors import ConfigError, DivergedError, LoaderError, OutputError
from fastdc.nn.device import choose_compute
from fastdc.nn.fit_loop import join_lone_sample
from fastdc.train.data_pair import open_pair
from fastdc.train.evaluation import evaluate
from fastdc.train.labels.batch_pool import PooledEpochs
from fastdc.train.labels.layout import label_bytes
from fastdc.train.labels.source import LabelSource
from fastdc.train.labels.stored import StoredLabelling
from fastdc.train.streams import open_training_loader, training_view
from fastdc.train.target_losses import SoftTargets
from tests.train.conftest import MakeTeacher, StumbledError, evaluate_together, outcome, soft_settings


def stored_settings(protocol: dict[str, Any] | None = None, **changes: Any) -> Any:
    return soft_settings({"labels": "stored", **(protocol or {})}, **changes)


def label_files(root: Path) -> list[Path]:
    return sorted(root.glob("*/labels.bin"))


def test_a_stored_run_equals_the_online_run_with_fp16_logits(
    betons: Any, make_teacher: MakeTeacher, tmp_path: Path
) -> None:
    stored = evaluate(betons.train, betons.val, stored_settings(), teacher=make_teacher(), labels_root=tmp_path)
    rounded = evaluate(betons.train, betons.val, soft_settings(), teacher=make_teacher(half=True))
    assert outcome(stored) == outcome(rounded)
    online = evaluate(betons.train, betons.val, soft_settings(), teacher=make_teacher())
    losses = [[entry["loss"] for entry in result.curve] for result in (stored, online)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_the_file_contains_only_logits(betons: Any, make_teacher: MakeTeacher, tmp_path: Path) -> None:
    settings = stored_settings()
    result = evaluate(betons.train, betons.val, settings, teacher=make_teacher(), labels_root=tmp_path)
    (path,) = label_files(tmp_path)
    assert path.stat().st_size == result.label_bytes == label_bytes(settings.protocol, 120, 3) == 2 * 120 * 3 * 2
    assert {file.name for file in path.parent.iterdir()} == {"labels.bin", "labels.json"}
    record = json.loads((path.parent / "labels.json").read_bytes())
    assert (result.label_file, result.labels, result.teacher) == (record["sha256"], "stored", "tutor")
    assert (record["bytes"], record["name"], record["dataset"]) == (1440, "tutor", "fashion3")
    assert result.relabel_seconds == record["seconds"] > 0


def test_crops_inside_tiles_have_their_own_labels(betons: Any, make_teacher: MakeTeacher, tmp_path: Path) -> None:
    for augment in ("method", "tile:2", "tile:2+whole=0.5", "method"):
        settings = stored_settings(augment=augment)
        evaluate(betons.train, betons.val, settings, teacher=make_teacher(), labels_root=tmp_path)
    views = [json.loads((path.parent / "labels.json").read_bytes())["view"] for path in label_files(tmp_path)]
    assert {(view["tile_grid"], view.get("tile_whole")) for view in views} == {(1, None), (2, None), (2, 0.5)}
    assert len(views) == 3


def test_labels_are_made_once_for_all_seeds_and_networks(
    betons: Any, make_teacher: MakeTeacher, tmp_path: Path
) -> None:
    teacher = make_teacher()
    runs = [stored_settings(seed=seed) for seed in range(2)] + [stored_settings(arch="convnet_w12")]
    alone = [evaluate(betons.train, betons.val, each, teacher=teacher, labels_root=tmp_path) for each in runs]
    assert teacher.model.calls == 20
    assert len(label_files(tmp_path)) == 1
    assert len({str(outcome(result)) for result in alone}) == 3
    together = evaluate_together(betons.train, betons.val, runs, teacher=teacher, labels_root=tmp_path / "fresh")
    assert list(map(outcome, together)) == list(map(outcome, alone))
    assert teacher.model.calls == 40
    assert label_files(tmp_path / "fresh")[0].read_bytes() == label_files(tmp_path)[0].read_bytes()


def test_every_dependency_of_labels_is_in_their_key(betons: Any, make_teacher: MakeTeacher, tmp_path: Path) -> None:
    def run(teacher: Any = None, protocol: dict[str, Any] | None = None, **changes: Any) -> int:
        settings = stored_settings({"epochs": 1, **(protocol or {})}, **changes)
        evaluate(betons.train, betons.val, settings, teacher=teacher or make_teacher(), labels_root=tmp_path)
        return len(label_files(tmp_path))

    changes: list[dict[str, Any]] = [{}]
    changes += [{"label_seed": 1}, {"mix": "none"}, {"label_topk": 2}, {"label_ratio": 2}, {"crop_scale_min": 0.5}]
    assert [run(protocol=change) for change in changes] == [1, 2, 3, 4, 5, 6]
    assert run(teacher=make_teacher(identity="other")) == 7
    assert run(image_size=24) == 8
    # They do not depend on the training that reads them.
    assert run(protocol={"lr": 0.1, "temperature": 4, "validate_every": 1}, seed=5) == 8


def source_of(betons: Any, settings: Any, teacher: Any, root: Path) -> tuple[Any, StoredLabelling]:
    """Return the training's loader, and its labels."""
    pair, compute = open_pair(betons.train, betons.val), choose_compute("fp32", 1)
    loader = open_training_loader(pair, [settings], compute)
    labelling = LabelSource(pair.stored, compute, teacher, root).labelling(
        settings, training_view(pair, settings), loader
    )
    assert isinstance(labelling, StoredLabelling)
    return loader, labelling


@pytest.mark.parametrize("protocol", [{"label_ratio": 3}, {"label_ratio": 3, "batch_size": 17}, {"batch_size": 17}])
def test_a_step_gets_the_images_mixing_and_labels_of_the_batch_it_draws(
    betons: Any, make_teacher: MakeTeacher, tmp_path: Path, protocol: dict[str, Any]
) -> None:
    settings = stored_settings({"epochs": 3, **protocol})
    teacher = make_teacher()
    loader, labelling = source_of(betons, settings, teacher, tmp_path)
    layout = labelling.file.layout
    steps = len(layout.sizes)  # 120 = 7 * 17 + 1: the last sample joins the seventh batch
    compute = choose_compute("fp32", 1)
    assert teacher.model.calls == len(layout.kept) == round(3 * steps / protocol.get("label_ratio", 1))
    made = {
        (epoch, step): batch
        for epoch in range(3)
        for step, (batch,) in enumerate(join_lone_sample(loader.epoch_views(epoch)))
    }
    taken = list(PooledEpochs(loader, layout).epoch_views(1, 2))
    assert len(taken) == steps - 2
    for step, (batch,) in enumerate(taken, 2):
        place = layout.drawn(1, step)
        expected = made[place.epoch, place.step]
        assert all(torch.equal(*pair) for pair in zip(batch, expected, strict=True))
        mixed, targets = labelling(compute.images(batch.images), batch.labels, 1, step)
        assert isinstance(targets, SoftTargets)
        with torch.no_grad():
            assert torch.equal(targets.logits, teacher.model(mixed).half().float())
        assert torch.equal(mixed, labelling.mixed(compute.images(expected.images), place)[0])


def test_top_k_keeps_the_largest_logits(betons: Any, make_teacher: MakeTeacher, tmp_path: Path) -> None:
    full = source_of(betons, stored_settings({"epochs": 1}), make_teacher(), tmp_path)[1]
    cut = source_of(betons, stored_settings({"epochs": 1, "label_topk": 2}), make_teacher(), tmp_path)[1]
    assert cut.file.path.stat().st_size == 120 * 2 * (2 + 1)
    images = torch.zeros(12, 3, 28, 28)
    for slot in range(10):
        place = full.file.layout.place(slot)
        all_logits, kept = full.logits(images, place), cut.logits(images, place)
        assert torch.equal(torch.isfinite(kept), all_logits > all_logits.min(1, keepdim=True).values)
        assert torch.equal(kept[torch.isfinite(kept)], all_logits[torch.isfinite(kept)])


def test_pruned_and_quantised_labels_train(betons: Any, make_teacher: MakeTeacher, tmp_path: Path) -> None:
    settings = stored_settings({"epochs": 8, "label_ratio": 4, "label_topk": 2, "temperature": 1}, arch="convnet_w16")
    result = evaluate(betons.train, betons.val, settings, teacher=make_teacher(), labels_root=tmp_path)
    assert result.top1 > 50
    assert result.label_bytes == 20 * 12 * 6 == label_files(tmp_path)[0].stat().st_size
    assert result.steps == 80
    seeds = [settings.model_copy(update={"seed": seed}) for seed in range(2)]
    together = evaluate_together(betons.train, betons.val, seeds, teacher=make_teacher(), labels_root=tmp_path)
    assert outcome(together[0]) == outcome(result)


@pytest.mark.parametrize(("dies_at", "left"), [(1, 30), (10, 30), (11, 20), (25, 10)])
def test_a_killed_relabelling_resumes_at_its_epoch(
    betons: Any, make_teacher: MakeTeacher, tmp_path: Path, dies_at: int, left: int
) -> None:
    settings = stored_settings({"epochs": 3})
    with pytest.raises(StumbledError):
        source_of(betons, settings, make_teacher(dies_at=dies_at), tmp_path / "killed")
    assert not label_files(tmp_path / "killed")
    second = make_teacher()
    _, resumed = source_of(betons, settings, second, tmp_path / "killed")
    _, whole = source_of(betons, settings, make_teacher(), tmp_path / "whole")
    assert second.model.calls == left
    assert resumed.file.path.read_bytes() == whole.file.path.read_bytes()
    assert resumed.file.sha256 == whole.file.sha256
    assert {file.name for file in resumed.file.path.parent.iterdir()} == {"labels.bin", "labels.json"}


def damage_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "a flipped bit": damage_byte,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "gone": Path.unlink,
    "no description": lambda path: (path.parent / "labels.json").unlink(),
    "half a description": lambda path: (path.parent / "labels.json").write_text('{"sha256": '),
    "no dictionary": lambda path: (path.parent / "labels.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_labels_are_made_again(betons: Any, make_teacher: MakeTeacher, tmp_path: Path, damage: str) -> None:
    settings = stored_settings({"epochs": 1})
    first = source_of(betons, settings, make_teacher(), tmp_path)[1].file
    before = first.path.read_bytes()
    DAMAGES[damage](first.path)
    teacher = make_teacher()
    again = source_of(betons, settings, teacher, tmp_path)[1].file
    assert teacher.model.calls == 10
    assert (again.path.read_bytes(), again.sha256) == (before, first.sha256)


def test_a_file_that_is_cut_while_it_is_read_is_an_error(
    betons: Any, make_teacher: MakeTeacher, tmp_path: Path
) -> None:
    _, labelling = source_of(betons, stored_settings({"epochs": 1}), make_teacher(), tmp_path)
    with labelling.file.path.open("r+b") as handle:
        handle.truncate(100)
    with pytest.raises(LoaderError, match="was cut short while it was read"):
        labelling.rows(9)


def test_a_full_disk_ends_before_any_label_is_made(betons: Any, make_teacher: MakeTeacher, tmp_path: Path) -> None:
    teacher, (soft, hard) = make_teacher(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match=r"labels\.part: the labels take .*label_topk or label_ratio"):
            source_of(betons, stored_settings(), teacher, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert teacher.model.calls == 0
    assert not list(tmp_path.glob("*/*"))


class Huge(nn.Module):
    """Return logits beyond fp16."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.new_full((len(images), 3), 1e5)


def test_logits_that_cannot_be_stored_are_refused(betons: Any, make_teacher: MakeTeacher, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="teacher tutor: its logits are NaN, infinite or beyond 65,504"):
        source_of(betons, stored_settings(), make_teacher(Huge()), tmp_path)
    with pytest.raises(ConfigError, match="label_topk=4: the data has 3 classes"):
        source_of(betons, stored_settings({"label_topk": 4}), make_teacher(), tmp_path)
    assert not label_files(tmp_path)


def test_a_killed_training_on_stored_labels_resumes_bit_equal(
    betons: Any, make_teacher: MakeTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = stored_settings({"label_ratio": 2})
    shared: dict[str, Any] = {"teacher": make_teacher(), "labels_root": tmp_path}
    whole = evaluate(betons.train, betons.val, settings, **shared)
    options = {**shared, "checkpoint": tmp_path / "checkpoint.pt", "checkpoint_seconds": 0}
    original, calls = StoredLabelling.rows, []

    def dies(self: StoredLabelling, slot: int) -> Any:
        calls.append(slot)
        if len(calls) == 14:
            raise StumbledError
        return original(self, slot)

    monkeypatch.setattr(StoredLabelling, "rows", dies)
    with pytest.raises(StumbledError):
        evaluate(betons.train, betons.val, settings, **options)
    assert outcome(evaluate(betons.train, betons.val, settings, **options)) == outcome(whole)
    assert len(calls) == 14 + 7


def test_views_of_a_stored_run_depend_on_its_label_seed(betons: Any) -> None:
    pair, compute = open_pair(betons.train, betons.val), choose_compute("fp32", 1)
    first = next(open_training_loader(pair, [stored_settings(seed=3)], compute).epoch(0))
    second = next(open_training_loader(pair, [stored_settings(seed=4)], compute).epoch(0))
    third = next(open_training_loader(pair, [stored_settings({"label_seed": 1}, seed=3)], compute).epoch(0))
    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.images, third.images)


def test_two_runs_that_need_the_same_labels_make_them_once(
    betons: Any, make_teacher: MakeTeacher, tmp_path: Path
) -> None:
    teacher = make_teacher()

    def run() -> str:
        return source_of(betons, stored_settings({"epochs": 3}), teacher, tmp_path)[1].file.sha256

    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(run) for _ in range(2))
        assert first.result() == second.result()
    assert teacher.model.calls == 30
