"""Recipes of other papers: they repeat, share a stream, resume, and crop mosaics as documented."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from fastdc.beton import write_samples
from fastdc.train import EvaluateSettings, get_protocol
from fastdc.train.data_pair import open_pair
from fastdc.train.evaluation import evaluate
from fastdc.train.labels.layout import label_bytes
from fastdc.train.labels.targets import Labelling
from fastdc.train.streams import training_view
from fastdc.train.target_losses import make_loss
from tests.conftest import CLASSES, fashion_images
from tests.train.conftest import MakeTeacher, StumbledError, evaluate_together, outcome, soft_settings

CHANGES = ["hard*mix=mixup", "hard*mix=cutout", "hard*mix=cutmix,mix_target=own", "hard*schedule=linear"]


def settings(name: str, **changes: Any) -> EvaluateSettings:
    protocol = get_protocol(name, {"epochs": 2, **changes.pop("protocol", {})})
    return EvaluateSettings(**{"protocol": protocol, "arch": "convnet1_w4", "threads": 1, **changes})


@pytest.mark.parametrize("name", ["cim-hl", "cad-hl", "minimax-hl", "hard*mix=mixup"])
def test_a_recipe_repeats_for_any_loader_and_beside_others(betons: Any, name: str) -> None:
    wanted = [settings(name), settings(name, arch="convnet1_w6")]
    alone = [evaluate(betons.train, betons.val, each) for each in wanted]
    assert alone[0].protocol == get_protocol(name, {"epochs": 2}).name
    through = evaluate(betons.train, betons.val, settings(name, loader="ffcv", loader_workers=2))
    assert outcome(through) == outcome(alone[0])
    together = evaluate_together(betons.train, betons.val, wanted)
    assert list(map(outcome, together)) == list(map(outcome, alone))
    assert outcome(evaluate(betons.train, betons.val, settings(name, seed=1))) != outcome(alone[0])


@pytest.mark.parametrize("name", ["cim-hl", "cad-hl", "minimax-hl", "hard*mix=mixup"])
def test_a_killed_training_resumes_bit_equal(
    betons: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    wanted = settings(name, protocol={"batch_size": 30, "epochs": 3})
    expected = outcome(evaluate(betons.train, betons.val, wanted))
    options: dict[str, Any] = {"checkpoint": tmp_path / "checkpoint.pt", "checkpoint_seconds": 0}
    real, calls = Labelling.__call__, iter(range(100))

    def dies(self: Labelling, *batch: Any) -> tuple[torch.Tensor, Any]:
        if next(calls) == 5:
            raise StumbledError
        return real(self, *batch)

    monkeypatch.setattr(Labelling, "__call__", dies)
    with pytest.raises(StumbledError):
        evaluate(betons.train, betons.val, wanted, **options)
    assert outcome(evaluate(betons.train, betons.val, wanted, **options)) == expected


def test_cim_learns(betons: Any) -> None:
    """Chance is 33 %."""
    result = evaluate(betons.train, betons.val, settings("cim-hl", arch="convnet_w16", protocol={"epochs": 12}))
    assert result.top1 > 50
    assert result.batch_size == 50


def test_every_augmentation_and_mixing_changes_the_result(betons: Any) -> None:
    names = [
        "hard",
        "hard-sgd",
        *CHANGES,
        "hard*mix=cutmix",
        *(f"hard*batch_augment={kind}" for kind in ("dsa", "idc", "jitter")),
    ]
    losses = {
        tuple(e["loss"] for e in evaluate(betons.train, betons.val, settings(name, protocol={"epochs": 3})).curve)
        for name in names
    }
    assert len(losses) == len(names)


def test_epochs_by_ipc_apply_to_the_training(betons: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """120 images of 3 classes are 40 of each: 1500 epochs; a thousandth of them here."""
    assert get_protocol("minimax-hl").epochs_for(120, 3) == 1500
    monkeypatch.setattr("fastdc.train.schedules.MINIMAX_EPOCHS", ((10, 3), (50, 2)))
    result = evaluate(betons.train, betons.val, settings("minimax-hl", protocol={"epochs": "ipc"}))
    assert (result.epochs, result.steps, len(result.curve)) == (2, 4, 2)
    assert result.protocol == "minimax-hl"
    assert [entry["lr"] for entry in result.curve] == pytest.approx([0.01, 0.01 * 0.2 * 0.2])


def test_labels_of_a_recipe_count_its_epochs() -> None:
    assert label_bytes(get_protocol("soft*epochs=ipc"), 100, 10) == 2000 * 100 * 10 * 2
    assert label_bytes(get_protocol("minimax-hl"), 100, 10) == 100


def mosaic(folder: Path, name: str, hints: dict[str, Any]) -> Path:
    out = folder / f"{name}.beton"
    write_samples(
        out, fashion_images("train", 4), classes=CLASSES, dataset="d", split="train", source="s", made={}, hints=hints
    )
    return out


@pytest.mark.parametrize(
    ("protocol", "augment", "hints", "expected"),
    [  # (grid, share of whole mosaics, scale of whole crops, scale in a tile, flip)
        ("cim-hl", "method", {}, (1, 0.0, (1.0, 1.0), None, False)),
        ("cim-hl", "method", {"tile_grid": 2}, (2, 0.25, (1.0, 1.0), None, False)),
        ("cim-hl", "method", {"tile_grid": 3}, (3, 1 / 9, (1.0, 1.0), None, False)),
        ("cim-hl", "method", {"tile_grid": 2, "tile_whole": 0.6}, (2, 0.6, (1.0, 1.0), None, False)),
        ("cim-hl", "method", {"tile_grid": 2, "tile_scale": [0.5, 1.0]}, (2, 0.25, (1.0, 1.0), (0.5, 1.0), False)),
        ("cim-hl", "protocol", {"tile_grid": 2}, (1, 0.0, (1.0, 1.0), None, False)),
        ("cim-hl", "tile:2", {}, (2, 0.0, (1.0, 1.0), None, False)),
        ("cim-hl", "tile:2+whole=0.25", {}, (2, 0.25, (1.0, 1.0), None, False)),
        ("cad-hl", "method", {"tile_grid": 2}, (2, 0.0, (1.0, 1.0), None, False)),
        ("minimax-hl", "method", {"tile_grid": 2}, (2, 0.0, (0.5, 1.0), None, True)),
        ("hard", "method", {"tile_grid": 2}, (2, 0.0, (0.08, 1.0), None, True)),
        ("hard*tile_whole=grid", "method", {"tile_grid": 2}, (2, 0.25, (0.08, 1.0), None, True)),
    ],
)
def test_crops_of_mosaics(
    tmp_path: Path, protocol: str, augment: str, hints: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    subset, val = mosaic(tmp_path, "subset", hints), mosaic(tmp_path, "val", {})
    wanted = EvaluateSettings(protocol=get_protocol(protocol), augment=augment)
    view = training_view(open_pair(subset, val), wanted)
    assert (view.tile_grid, view.tile_whole, view.scale, view.tile_scale, view.flip) == expected


def test_cim_sees_whole_images_and_whole_tiles(tmp_path: Path) -> None:
    """Images with coordinates as pixels show that views are an enlarged tile, or the whole image unchanged."""
    from fastdc.beton import Sample
    from fastdc.loader import open_loader

    side = 32
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    image = torch.stack([rows, columns, torch.zeros_like(rows)], 2).byte().numpy()
    for hints, names in (({}, {"whole"}), ({"tile_grid": 2}, {"whole", "00", "01", "10", "11"})):
        out = tmp_path / f"{len(hints)}.beton"
        samples = [Sample(image, 0, str(number)) for number in range(200)]
        write_samples(out, samples, classes=["a"], dataset="d", split="train", source="s", made={}, hints=hints)
        view = training_view(open_pair(out, out), EvaluateSettings(protocol=get_protocol("cim-hl")))
        seen: list[str] = []
        with open_loader(out, view, batch_size=200, seed=3, shuffle=True) as loader:
            for batch in loader.epoch(0):
                for pixels in batch.images.int():
                    low, high = pixels[0, 0, :2].tolist(), pixels[-1, -1, :2].tolist()
                    tile = "".join(str(int(start >= side // 2)) for start in low)
                    extent = {high_ - low_ for low_, high_ in zip(low, high, strict=True)}
                    assert extent in ({side - 1}, {side // 2 - 1})
                    seen.append("whole" if extent == {side - 1} else tile)
        assert set(seen) == names
        if hints:  # 200 visits, 50 expected of each, standard deviation 6.1
            assert all(abs(seen.count(name) - (50 if name == "whole" else 37.5)) < 4.5 * 6.2 for name in names)


def test_a_mixed_image_is_compared_with_both_classes_or_with_its_own() -> None:
    images, labels = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    logits = torch.randn(6, 3)
    for mix in ("cutmix", "mixup"):
        mixed, own = (get_protocol(f"hard*mix={mix}{rest}") for rest in ("", ",mix_target=own"))
        (seen, shares), (seen_too, target) = (Labelling(p, 5, 3)(images, labels, 1, 2) for p in (mixed, own))
        assert torch.equal(seen, seen_too)
        assert not torch.equal(seen, images)
        assert torch.equal(target, labels)
        assert make_loss(own)(logits, target) == functional.cross_entropy(logits, labels)
        log = functional.log_softmax(logits.double(), 1)
        assert float(make_loss(mixed)(logits, shares)) == pytest.approx(float(-(shares * log).sum(1).mean()), rel=1e-5)
        assert ((shares > 0) & (shares < 1)).any()


def test_a_teacher_sees_augmented_images(betons: Any, make_teacher: MakeTeacher, tmp_path: Path) -> None:
    """Online and stored labels agree, so both were made from the same augmented images."""
    found = {}
    for augment in ("none", "dsa"):
        for labels in ("online", "stored"):
            wanted = soft_settings({"batch_augment": augment, "labels": labels})
            result = evaluate(
                betons.train, betons.val, wanted, teacher=make_teacher(half=True), labels_root=tmp_path / "labels"
            )
            found[augment, labels] = [entry["loss"] for entry in result.curve]
    assert found["dsa", "online"] == found["dsa", "stored"]
    assert found["none", "online"] == found["none", "stored"]
    assert found["dsa", "online"] != found["none", "online"]
    assert len([path for path in (tmp_path / "labels").iterdir() if path.is_dir()]) == 2
