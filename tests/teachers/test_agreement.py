"""A teacher of another program: its class order is measured first, on real images and a real training."""

import gzip
import json
import re
import shutil
import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch

from fastdc.beton import Sample, describe_beton, load_manifest, write_samples
from fastdc.cli.main import run
from fastdc.common.errors import TeacherError
from fastdc.nn.device import Compute
from fastdc.nn.models import build_model
from fastdc.nn.weights import save_weights
from fastdc.nn.weights_facts import Facts
from fastdc.observe import ObserverConfig
from fastdc.observe.train_observer import observe
from fastdc.teachers import agreement
from fastdc.teachers import load as teacher_load
from fastdc.teachers.load import load_teacher
from fastdc.teachers.names import plan_for
from fastdc.train import EvaluateSettings, get_protocol
from fastdc.train.evaluation import evaluate
from tests.conftest import FASHION_MNIST, Betons

NATURAL = tuple(f"class{number}" for number in range(1, 11))
TEXT = tuple(sorted(NATURAL))
ARCH = "convnet_w16"


def write_ten(out: Path, split: str, per_class: int, classes: tuple[str, ...]) -> Path:
    """Write the ten classes of Fashion-MNIST, with number k named class(k + 1)."""
    stem = "train" if split == "train" else "t10k"
    with gzip.open(FASHION_MNIST / f"{stem}-images-idx3-ubyte.gz") as handle:
        pixels = np.frombuffer(handle.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(FASHION_MNIST / f"{stem}-labels-idx1-ubyte.gz") as handle:
        labels = np.frombuffer(handle.read(), np.uint8, offset=8)
    samples = [
        Sample(np.repeat(pixels[index, :, :, None], 3, axis=2), place, f"{name}/{index}")
        for place, name in enumerate(classes)
        for index in np.flatnonzero(labels == int(re.sub(r"\D", "", name)) - 1)[:per_class].tolist()
    ]
    write_samples(out, samples, classes=classes, dataset="ten", split=split, source="test", made={})
    return out


class Ten(NamedTuple):
    """Betons in text order, and unnamed weights of a network with outputs in natural order."""

    betons: Betons
    natural: Path
    text: Path


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Ten:
    folder = tmp_path_factory.mktemp("ten")
    betons = Betons(
        write_ten(folder / "train.beton", "train", 60, TEXT), write_ten(folder / "val.beton", "val", 20, TEXT)
    )
    other = write_ten(folder / "other.beton", "train", 60, NATURAL)
    config = ObserverConfig(arch=ARCH, epochs=12, batch_size=32, lr=0.05, image_size=28, threads=1)
    (record,) = observe(other, folder / "work", config)
    assert record.weights is not None
    state = safetensors.torch.load_file(record.weights)
    torch.save(state, folder / "natural.pth")
    head = [name for name, tensor in state.items() if tensor.shape[:1] == (10,)]
    turned = {name: state[name][[NATURAL.index(each) for each in TEXT]] for name in head}
    torch.save({**state, **turned}, folder / "text.pth")
    return Ten(betons, folder / "natural.pth", folder / "text.pth")


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """Clear earlier measurements."""
    teacher_load._measured.clear()


def accuracy(ten: Ten, file: Path, compute: Compute, checked: bool = True, **order: str) -> float:
    """Return the accuracy of a small network trained on the teacher's labels, in percent."""
    manifest = describe_beton(ten.betons.train)
    plan = plan_for(f"{ARCH}@{file}", manifest.content_hash, manifest.classes, None, **order)  # type: ignore[arg-type]
    teacher = load_teacher(plan, ten.betons.train if checked else None, Path(), compute, image_size=28)
    protocol = get_protocol("soft-small", {"epochs": 10, "validate_every": 10, "mix": "none"})
    settings = EvaluateSettings(protocol=protocol, arch=ARCH, threads=1)
    return evaluate(ten.betons.train, ten.betons.val, settings, teacher=teacher).top1


def test_natural_order_on_a_set_in_text_order_is_refused_and_named(ten: Ten, compute: Compute) -> None:
    assert accuracy(ten, ten.natural, compute, checked=False) < 15, "unchecked, the labels are garbage"
    with pytest.raises(TeacherError, match=r"another class order.*in the natural order; add --teacher-order natural$"):
        accuracy(ten, ten.natural, compute)
    right = accuracy(ten, ten.natural, compute, order="natural")
    assert right > 55
    assert right == pytest.approx(accuracy(ten, ten.text, compute), abs=5), "equal but for rounding"


def test_a_wrong_given_order_is_refused(ten: Ten, compute: Compute) -> None:
    with pytest.raises(
        TeacherError, match=r"correctly in the natural order, .* in the text order; leave --teacher-order"
    ):
        accuracy(ten, ten.text, compute, order="natural")


def test_the_order_is_part_of_the_teacher(ten: Ten) -> None:
    plain = plan_for(f"{ARCH}@{ten.natural}", "", TEXT, None)
    text = plan_for(f"{ARCH}@{ten.natural}", "", TEXT, None, "text")
    natural = plan_for(f"{ARCH}@{ten.natural}", "", TEXT, None, "natural")
    assert plain.identity == text.identity, "the data set's order by its name is the same network"
    assert natural.identity != plain.identity
    assert natural.name == f"{ARCH}@natural.pth (natural order)"


def test_a_teacher_is_measured_once_for_a_grid(ten: Ten, compute: Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, measured, measure = plan_for(f"{ARCH}@{ten.text}", "", TEXT, None), [], agreement.measure_agreement

    def counted(*args: Any) -> object:
        measured.append(args[1])
        return measure(*args)

    monkeypatch.setattr(agreement, "measure_agreement", counted)
    for _ in range(3):
        load_teacher(plan, ten.betons.train, Path(), compute, image_size=28)
    assert measured == [ten.betons.train]
    load_teacher(plan, None, Path(), compute, image_size=28, images=ten.betons.val)
    assert measured == [ten.betons.train, ten.betons.val]


def test_an_untrained_network_is_at_chance(ten: Ten, compute: Compute, tmp_path: Path) -> None:
    torch.save(build_model(ARCH, 10, 28, 5).state_dict(), tmp_path / "t.pth")
    plan = plan_for(f"{ARCH}@{tmp_path}/t.pth", "", TEXT, None)
    with pytest.raises(TeacherError, match=r"no better than chance.*\(10.0 % on average\), nor is it in natural order"):
        load_teacher(plan, ten.betons.train, Path(), compute, image_size=28)


def test_wrong_class_names_in_a_file_are_refused_and_right_ones_followed(
    ten: Ten, compute: Compute, tmp_path: Path
) -> None:
    model = build_model(ARCH, 10, 28, 0)
    model.load_state_dict(torch.load(ten.natural))
    for name, classes in (("true", NATURAL), ("false", TEXT)):
        save_weights(tmp_path / f"{name}.safetensors", model, Facts(ARCH, classes, 28))
    load_teacher(plan_for(f"{tmp_path}/true.safetensors", "", TEXT, None), ten.betons.train, Path(), compute)
    with pytest.raises(TeacherError, match="its class names are in another order than its outputs; make it again"):
        load_teacher(plan_for(f"{tmp_path}/false.safetensors", "", TEXT, None), ten.betons.train, Path(), compute)


def test_fastdcs_own_observer_only_gives_a_warning(
    ten: Ten, compute: Compute, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ObserverConfig(arch=ARCH, epochs=1, batch_size=600, lr=1e-9, image_size=28, threads=1, seed=3).resolved()
    (record,) = observe(ten.betons.train, tmp_path, config)
    manifest = describe_beton(ten.betons.train)
    for spec in ("observer", str(record.weights)):
        teacher_load._measured.clear()
        capsys.readouterr()
        plan = plan_for(spec, manifest.content_hash, TEXT, config)
        load_teacher(plan, ten.betons.train, tmp_path, compute, image_size=28)
        assert "warning: teacher" in (warning := capsys.readouterr().err)
        assert "no better than chance" in warning
    other = plan_for(str(record.weights), "another set", TEXT, None)
    teacher_load._measured.clear()
    with pytest.raises(TeacherError, match="no better than chance"):
        load_teacher(other, ten.betons.train, tmp_path, compute, image_size=28)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_classes_match_in_any_unicode_spelling(ten: Ten, compute: Compute, tmp_path: Path, forms: Any) -> None:
    """Betons of fastdc 0.1 may hold names as macOS writes them."""
    names = (tuple(unicodedata.normalize(form, name.replace("a", "á")) for name in TEXT) for form in forms)
    train = write_ten(tmp_path / "train.beton", "train", 1, next(names))
    val = write_ten(tmp_path / "val.beton", "val", 20, next(names))
    classes = describe_beton(train).classes
    assert classes != describe_beton(val).classes
    plan = plan_for(f"{ARCH}@{ten.natural}", "", classes, None)
    with pytest.raises(TeacherError, match=r"of 200 images .*; add --teacher-order natural$"):
        load_teacher(plan, None, Path(), compute, image_size=28, images=val)
    model = build_model(ARCH, 10, 28, 0)
    model.load_state_dict(torch.load(ten.text))
    save_weights(tmp_path / "t.safetensors", model, Facts(ARCH, describe_beton(val).classes, 28))
    named = plan_for(f"{tmp_path}/t.safetensors", "", classes, None)
    assert named.columns is None, "they are in one order"
    load_teacher(named, None, Path(), compute, image_size=28, images=val)


def test_subsets_without_manifests_are_checked_on_the_validation_set(
    ten: Ten, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subset, val = (shutil.copy(beton, tmp_path / beton.name) for beton in ten.betons)
    soft = ["evaluate", str(subset), "--val", str(val), "--teacher", f"{ARCH}@{ten.natural}", *EVALUATE]
    assert run(soft) == 2
    assert f"images of {val}" in capsys.readouterr().err


EVALUATE = ["--arch", ARCH, "--threads", "1", "--set", "epochs=6", "--protocol", "soft-small", "-q"]


def test_the_commands_refuse_and_accept(ten: Ten, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subset, spec, workdir = tmp_path / "r.beton", f"{ARCH}@{ten.natural}", tmp_path / "work"
    made = ["compress", "rded", str(ten.betons.train), "--ipc", "4", "--image-size", "28", "--workdir", str(workdir)]
    made += ["--set", f"teachers={spec}", "--threads", "1", "--out", str(subset), "-q"]
    assert run(made) == 2
    assert "add --teacher-order natural" in capsys.readouterr().err
    assert not subset.exists()
    assert run([*made, "--teacher-order", "natural"]) == 0
    assert load_manifest(subset).made["teacher_order"] == "natural"
    soft = ["evaluate", str(subset), "--val", str(ten.betons.val), "--teacher", spec, *EVALUATE]
    assert run(soft) == 2
    error = capsys.readouterr().err
    assert f"images of {ten.betons.val}" in error, "a subset's training images are not at hand"
    assert "add --teacher-order natural" in error
    assert run([*soft, "--teacher-order", "natural"]) == 0
    assert f"labels by {ARCH}@natural.pth (natural order)" in capsys.readouterr().out
    assert run([*soft[:4], *EVALUATE, "--workdir", str(workdir), "--teacher-order", "natural"]) == 2
    assert "has no observer" in capsys.readouterr().err
    hard = ["evaluate", str(subset), "--val", str(ten.betons.val), "--arch", ARCH, "--teacher-order", "natural"]
    assert run(hard) == 2
    assert "--teacher-order natural: does not apply to protocol hard" in capsys.readouterr().err
    assert run(["compress", "random", *made[2:9], "--out", f"{tmp_path}/p.beton", "--teacher-order", "natural"]) == 2
    assert "no teacher here needs it" in capsys.readouterr().err


def test_a_sweep_refuses_before_any_work_and_accepts(
    ten: Ten, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = tmp_path / "work"
    grid = {
        "train": str(ten.betons.train),
        "val": str(ten.betons.val),
        "workdir": str(workdir),
        "methods": ["random", "rded"],
        "ipc": [4],
        "protocols": ["soft-small*epochs=4"],
        "archs": [ARCH],
        "image_size": 28,
        "threads": 1,
        "teacher": f"{ARCH}@{ten.natural}",
        "set": {"rded.teachers": [f"{ARCH}@{ten.natural}"]},
    }
    config = tmp_path / "grid.yaml"
    config.write_text(json.dumps(grid))
    assert run(["sweep", str(config), "-q"]) == 2
    assert "add --teacher-order natural" in capsys.readouterr().err
    assert not list(workdir.glob("subsets/*"))
    assert run(["sweep", str(config), "-q", "--teacher-order", "natural"]) == 0
    assert capsys.readouterr().out
    config.write_text(json.dumps({**grid, "teacher_order": "natural"}))
    assert run(["sweep", str(config), "-q"]) == 0
    assert "(0 of them now)" in capsys.readouterr().out
    config.write_text(json.dumps({**grid, "teacher_order": "random"}))
    assert run(["sweep", str(config), "-q"]) == 2
    assert "teacher_order='random'" in capsys.readouterr().err


def test_too_few_images_give_a_warning(
    ten: Ten, compute: Compute, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = write_ten(tmp_path / "small.beton", "val", 4, TEXT)
    torch.save(build_model(ARCH, 10, 28, 5).state_dict(), tmp_path / "t.pth")
    for file, doubted in ((tmp_path / "t.pth", True), (ten.text, False)):
        plan = plan_for(f"{ARCH}@{file}", "", TEXT, None)
        for _ in range(2):
            load_teacher(plan, None, Path(), compute, image_size=28, images=small)
        words = "of 40 images of .* correctly, chance gives .* %; these images do not confirm its classes"
        assert len(re.findall(words, capsys.readouterr().err)) == doubted, "once, and of the untrained one alone"


def test_a_right_teacher_passes_on_small_or_unusual_validation_sets(ten: Ten, compute: Compute, tmp_path: Path) -> None:
    plan = plan_for(f"{ARCH}@{ten.text}", "", TEXT, None)
    for per_class in (1, 2):
        small = write_ten(tmp_path / f"{per_class}.beton", "val", per_class, TEXT)
        load_teacher(plan, None, Path(), compute, image_size=28, images=small)
    one = write_ten(tmp_path / "one.beton", "val", 20, TEXT[:1])
    load_teacher(plan, None, Path(), compute, image_size=28, images=one)
    part = write_ten(tmp_path / "part.beton", "val", 20, NATURAL[6:])  # matched by name, in any order
    load_teacher(plan, None, Path(), compute, image_size=28, images=part)
