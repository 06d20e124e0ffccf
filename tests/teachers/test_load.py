"""Teachers by name: the meaning of names, loaded weights, and one-sentence errors."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from fastdc.beton import Manifest
from fastdc.common.errors import ConfigError, FastDCError, MethodError
from fastdc.nn.device import Compute
from fastdc.nn.models import build_model
from fastdc.nn.weights import save_weights
from fastdc.nn.weights_facts import Facts, imagenet_wnids
from fastdc.observe import ObserverConfig
from fastdc.observe.dynamics_log import WEIGHTS_NAME
from fastdc.teachers.load import load_teacher
from fastdc.teachers.names import plan_for, plan_for_subset, plan_teacher
from fastdc.teachers.network import Teacher
from fastdc.teachers.plan import TeacherPlan, check_side

Plan = Callable[[str], TeacherPlan]
Load = Callable[[str], Teacher]

PLANNED = """
import sys
from pathlib import Path
from fastdc.beton import describe_beton
from fastdc.observe import choose_observer
from fastdc.teachers.names import plan_teacher
train, workdir = Path(sys.argv[1]), Path(sys.argv[2])
manifest = describe_beton(train)
observer = choose_observer(train, manifest.content_hash, workdir)
for spec in sys.argv[3:]:
    print(plan_teacher(spec, manifest, observer).identity)
print("torch" in sys.modules)
"""


def images(side: int = 28) -> torch.Tensor:
    return torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0))


def weights_of(workdir: Path) -> Path:
    (file,) = workdir.glob(f"observers/*convnet_w8*/{WEIGHTS_NAME}")
    return file


def network(observed: Path) -> nn.Module:
    """Build the observer's network without the code under test."""
    model = build_model("convnet_w8", 3, 28, seed=99)
    model.load_state_dict(safetensors.torch.load_file(weights_of(observed)))
    return model.eval()


def test_the_observer_is_frozen_and_has_its_trained_outputs(load: Load, observed: Path) -> None:
    teacher = load("observer")
    assert torch.equal(teacher.model(images()), network(observed)(images()))
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert (teacher.name, teacher.arch, teacher.image_size) == ("observer (convnet_w8, 3 epochs)", "convnet_w8", 28)
    assert teacher.seconds > 0


def test_an_observer_of_another_network_is_trained_on_request(
    betons: Any, tmp_path: Path, manifest: Manifest, observer: ObserverConfig, compute: Compute
) -> None:
    plan = plan_teacher("observer:convnet_w4", manifest, observer)
    assert plan.observer is not None
    assert plan.observer == observer.model_copy(update={"arch": "convnet_w4"})
    assert plan.extra
    with pytest.raises(MethodError, match=r"holds no weights of a finished training; run `fastdc observe"):
        load_teacher(plan, None, tmp_path, compute)
    first = load_teacher(plan, betons.train, tmp_path, compute)
    again = load_teacher(plan, None, tmp_path, compute)
    assert torch.equal(first.model(images()), again.model(images()))


def test_one_network_has_one_identity_under_every_name(plan: Plan) -> None:
    assert plan("observer").identity == plan("observer:convnet_w8").identity
    assert not plan("observer:convnet_w8").extra
    assert plan("observer").identity != plan("observer:convnet_w4").identity


def test_weights_from_a_file_have_the_observers_outputs(plan: Plan, load: Load, observed: Path) -> None:
    file = weights_of(observed)
    assert torch.equal(load(str(file)).model(images()), load("observer").model(images()))
    assert plan(str(file)).identity == plan(f"convnet_w8@{file}").identity


@pytest.mark.parametrize("nesting", ["", "state_dict", "model"])
def test_checkpoints_of_other_programs(load: Load, observed: Path, tmp_path: Path, nesting: str) -> None:
    state = {f"module.{name}": tensor for name, tensor in network(observed).state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    torch.save({nesting: state, "epoch": 3} if nesting else state, tmp_path / "other.pth")
    teacher = load(f"convnet_w8@{tmp_path}/other.pth")
    assert torch.equal(teacher.model(images()), network(observed)(images()))
    assert "does not name its classes" in teacher.note


def test_a_plan_depends_on_the_content_of_the_file(plan: Plan, observed: Path, tmp_path: Path) -> None:
    model = network(observed)
    torch.save(model.state_dict(), tmp_path / "t.pth")
    before = plan(f"convnet_w8@{tmp_path}/t.pth").identity
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    torch.save(model.state_dict(), tmp_path / "t.pth")
    assert plan(f"convnet_w8@{tmp_path}/t.pth").identity != before


def test_outputs_are_permuted_to_the_data_sets_order(
    betons: Any, observed: Path, manifest: Manifest, observer: ObserverConfig, compute: Compute, tmp_path: Path
) -> None:
    turned = (manifest.classes[2], "boot", manifest.classes[0], manifest.classes[1])
    model = build_model("convnet_w4", 4, 28, seed=1).eval()
    save_weights(tmp_path / "t.safetensors", model, Facts("convnet_w4", turned, 28))
    plan = plan_teacher(f"{tmp_path}/t.safetensors", manifest, observer)
    found = load_teacher(plan, None, observed, compute).model(images())
    assert torch.equal(found, model(images())[:, [2, 3, 0]])


def test_other_normalisation_is_undone(plan: Plan, compute: Compute, manifest: Manifest, tmp_path: Path) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)
    model = build_model("convnet_w4", 3, 28, seed=1).eval()
    save_weights(tmp_path / "t.safetensors", model, Facts("convnet_w4", manifest.classes, 28, mean, std))
    levels = torch.rand(4, 3, 28, 28, dtype=torch.float64)

    def normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
        shift, scale = (torch.tensor(each, dtype=torch.float64).view(1, 3, 1, 1) for each in (mean, std))
        return ((levels - shift) / scale).float()

    untrained = load_teacher(plan(f"{tmp_path}/t.safetensors"), None, tmp_path, compute)
    found = untrained.model(normalised((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(found, model(normalised(mean, std)))


def test_a_network_of_imagenet_gives_the_outputs_of_the_data_sets_classes(tmp_path: Path, compute: Compute) -> None:
    wnids = imagenet_wnids()
    assert (len(wnids), len(set(wnids)), sorted(wnids)) == (1000, 1000, list(wnids))
    model = build_model("convnet1_w2", 1000, 16, seed=0).eval()
    torch.save(model.state_dict(), tmp_path / "t.pth")
    plan = plan_for(f"convnet1_w2@{tmp_path}/t.pth", "", (wnids[217], wnids[0], wnids[999]), None)
    teacher = load_teacher(plan, None, tmp_path, compute)
    assert torch.equal(teacher.model(images(16)), model(images(16))[:, [217, 0, 999]])
    assert "ImageNet" in teacher.note
    other = plan_for(f"convnet1_w2@{tmp_path}/t.pth", "", ("coat", "bag"), None)
    with pytest.raises(MethodError, match=r"trained on other classes: it has no class 'coat' \(2 of 2"):
        load_teacher(other, None, tmp_path, compute)


def test_planning_imports_no_torch(betons: Any, observed: Path, plan: Plan) -> None:
    specs = ["observer", "observer:resnet34", str(weights_of(observed))]
    command = [sys.executable, "-c", PLANNED, str(betons.train), str(observed), *specs]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert lines == [*(plan(spec).identity for spec in specs), "False"]


class Evil:
    """Pickle that makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("form", ["zip", "plain", "nested"])
def test_a_malicious_pickle_runs_nothing(load: Load, observed: Path, tmp_path: Path, form: str) -> None:
    file, harm = tmp_path / "evil.pth", tmp_path / "harm"
    state: dict[str, Any] = dict(network(observed).state_dict())
    if form == "plain":
        file.write_bytes(pickle.dumps(Evil(harm)))
    else:
        torch.save({"state_dict": state, "args": Evil(harm)} if form == "nested" else {**state, "x": Evil(harm)}, file)
    with pytest.raises(MethodError, match=r"evil.pth: holds more than weights.*none of it was run") as caught:
        load(f"convnet_w8@{file}")
    assert "\n" not in str(caught.value)
    assert not harm.exists()
    pickle.loads(pickle.dumps(Evil(harm)))
    assert harm.exists(), "the pickle does no harm to anyone; the test shows nothing"


def damage_tail(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def damage_all(path: Path) -> None:
    path.write_bytes(b"not weights at all" * 50)


def damage_nan(path: Path) -> None:
    state = torch.load(path) if path.suffix == ".pth" else safetensors.torch.load_file(path)
    state["0.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, path) if path.suffix == ".pth" else safetensors.torch.save_file(state, path)


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_names(path: Path) -> None:
    torch.save({"epoch": 3, "best": "91 %"}, path)


@pytest.mark.parametrize(
    ("suffix", "damage", "words"),
    [
        (".pth", damage_tail, "not a whole checkpoint"),
        (".pth", damage_all, "not a whole"),
        (".pth", damage_empty, "not a whole"),
        (".pth", damage_nan, "weight '0.weight' holds NaN or infinity"),
        (".pth", damage_names, "holds no weights, found 'epoch', 'best'; expected a state_dict"),
        (".safetensors", damage_tail, "not a whole weights file"),
        (".safetensors", damage_all, "not a whole weights file"),
        (".safetensors", damage_empty, "not a whole weights file"),
        (".safetensors", damage_nan, "weight '0.weight' holds NaN or infinity"),
    ],
)
def test_damaged_files_are_refused(
    load: Load, observed: Path, tmp_path: Path, suffix: str, damage: Callable[[Path], None], words: str
) -> None:
    file = tmp_path / f"t{suffix}"
    state = {name: tensor.contiguous() for name, tensor in network(observed).state_dict().items()}
    torch.save(state, file) if suffix == ".pth" else safetensors.torch.save_file(state, file)
    load(f"convnet_w8@{file}")
    damage(file)
    with pytest.raises(MethodError) as caught:
        load(f"convnet_w8@{file}")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("convnet_w4@{file}", "not the weights of a convnet_w4: '0.weight' is [8, 3, 3, 3], expected [4, 3, 3, 3]"),
        ("convnet2_w8@{file}", "not the weights of a convnet2_w8"),
        ("resnet18@{file}", "so it is not of a resnet18"),
        ("{file}", "does not record its network; write ARCH@"),
        ("nonet@{file}", "unknown architecture 'nonet'"),
        ("convnet_w8@{file}x", "does not exist, expected a weights file"),
        ("observer:nonet", "unknown architecture 'nonet'"),
        ("resnet18", "observer:resnet18 trains one of this network"),
        ("lite0", "no such teacher; expected observer, observer:ARCH"),
        ("torchvision:resnet18", "trained on other classes: it has no class 't-shirt' (3 of 3"),
    ],
)
def test_unusable_teachers_are_named(load: Load, observed: Path, tmp_path: Path, spec: str, words: str) -> None:
    torch.save(network(observed).state_dict(), tmp_path / "t.pth")
    with pytest.raises(FastDCError) as caught:
        load(spec.format(file=tmp_path / "t.pth"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_teacher_of_other_classes_is_refused_before_it_is_loaded(plan: Plan, load: Load, tmp_path: Path) -> None:
    save_weights(tmp_path / "t.safetensors", build_model("convnet_w4", 2, 28, 0), Facts("convnet_w4", ("a", "b"), 28))
    with pytest.raises(MethodError, match=r"trained on other classes: it has no class 't-shirt' \(3 of 3 are missing"):
        plan(f"{tmp_path}/t.safetensors")
    torch.save(build_model("convnet_w4", 7, 28, 0).state_dict(), tmp_path / "t.pth")
    with pytest.raises(MethodError, match="has 7 outputs, the data set has 3 classes"):
        load(f"convnet_w4@{tmp_path}/t.pth")


def test_a_convnet_takes_one_image_size(plan: Plan, load: Load) -> None:
    check_side(plan("observer"), 28)
    with pytest.raises(MethodError, match="was trained at 28 px, and a convnet_w8 takes no other size"):
        check_side(plan("observer"), 64)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        load("observer").model(images(64))
    check_side(plan("observer:resnet18_small"), 64)


def test_a_subset_finds_the_observer_of_its_training_set(
    observed: Path, manifest: Manifest, plan: Plan, tmp_path: Path
) -> None:
    subset = manifest.model_copy(update={"content_hash": "?", "made": {"train": manifest.content_hash}})
    assert plan_for_subset("observer", subset, observed).identity == plan("observer").identity
    assert plan_for_subset("observer", manifest, observed).identity == plan("observer").identity
    with pytest.raises(ConfigError, match="needs --workdir"):
        plan_for_subset("observer", subset, None)
    with pytest.raises(MethodError, match="has no observer of this subset's training set; run `fastdc observe"):
        plan_for_subset("observer:convnet", subset, tmp_path)
