"""Sweeps with soft labels: changed keys, trained teachers, and faults of a teacher."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from fastdc.cli.main import run
from fastdc.common.errors import ConfigError, MethodError
from fastdc.methods import Compressed, MethodConfig, MethodContext, MethodInfo, _registry
from fastdc.methods.bases.teacher_methods import TeacherMethod
from fastdc.nn.models import build_model
from fastdc.observe.train_observer import complete_records, observe
from fastdc.sweep.cells import make_plan
from fastdc.sweep.forecast.preview import preview
from fastdc.sweep.observers_left import observers_left
from fastdc.sweep.plan import Plan
from fastdc.sweep.run_cells import Outcome, run_plan
from fastdc.sweep.store.results import Store
from fastdc.sweep.sweep_config import SweepConfig

Make = Callable[..., SweepConfig]

SOFT = {"protocols": ["soft-small*epochs=2"], "observer": {"arch": "convnet1_w4", "epochs": 3, "threads": 1}}

HARD_KEYS = {
    ("random", "hard"): "874d133dae90fc4d35050db1fbcb61f4",
    ("random", "hard-small*epochs=2"): "37845da91f160421aecedefaabf6063c",
    ("el2n", "hard"): "2e16a65e3e8b1b50ed32a2d330afa126",
    ("el2n", "hard-small*epochs=2"): "55b6d8c8e8bf9c662def8a4d2337faef",
    ("pca", "hard"): "4d47ab242c06eadf49c648461cd3e8fd",
    ("pca", "hard-small*epochs=2"): "66bf00fbd65d0b3d974bc265635fbf39",
    # since 0.2 bytes of raw images are counted as PNG, so `full` of a raw set runs again
    ("full", "hard"): "20b5780a8b0171f45ca7517d91921b25",
    ("full", "hard-small*epochs=2"): "4ff892a2412c80c930cdfcf7998353a8",
}
"""Computed with the release before teachers."""


class Pixels(TeacherMethod):
    """Store noise, in place of a method that runs a teacher with BatchNorm."""

    info: ClassVar[MethodInfo] = MethodInfo(
        name="pixels", title="Pixels", family="distillation", paper="", year=0, bibtex="", needs=("bn_statistics",)
    )

    def network_visits(
        self, config: MethodConfig, images: int, train_images: int, image_size: int, classes: int
    ) -> float:
        return 1000.0 * images

    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        assert context.teaching is not None
        (teacher,) = context.teaching.teachers
        with torch.no_grad():
            assert teacher.model(torch.zeros(1, 3, 28, 28)).shape == (1, 3)
        labels = np.repeat(np.arange(len(context.classes)), ipc)
        blank = np.zeros((context.image_size, context.image_size, 3), np.uint8)
        return Compressed(labels, np.zeros((len(labels), 0), np.int64), lambda: iter([blank] * len(labels)))


@pytest.fixture
def pixels(monkeypatch: pytest.MonkeyPatch) -> Pixels:
    """Add the method to the registry."""
    method = Pixels()
    monkeypatch.setitem(_registry().methods, "pixels", method)
    return method


def keys(config: SweepConfig) -> dict[tuple[str, str], str]:
    return {(cell.label["method"], cell.label["protocol"]): cell.key for cell in make_plan(config, "cpu").cells}


def sweep(config: SweepConfig) -> tuple[Plan, Outcome, Store]:
    plan = make_plan(config)
    config.workdir.mkdir(exist_ok=True)
    store = Store(plan.store_path)
    store.register(cell.planned() for cell in plan.cells)
    outcome = run_plan(plan, store)
    return plan, outcome, store


def test_keys_of_hard_labels_are_those_of_earlier_releases(make_config: Make) -> None:
    grid = make_config(methods="random,el2n,pca,full", seeds="0", protocols="hard,hard-small*epochs=2")
    assert keys(grid) == HARD_KEYS
    assert keys(make_config(**{**grid.model_dump(), "teacher": "observer:convnet1_w8"})) == HARD_KEYS


def test_a_soft_cell_is_another_run_under_another_teacher(make_config: Make) -> None:
    one, same = make_config(**SOFT), make_config(**SOFT, teacher="observer:convnet1_w4")
    other = make_config(**SOFT, teacher="observer:convnet1_w8")
    longer = make_config(**{**SOFT, "observer": {"arch": "convnet1_w4", "epochs": 4, "threads": 1}})
    assert keys(one) == keys(same)
    assert len({key for config in (one, other, longer) for key in keys(config).values()}) == 3
    (label, *_) = [cell.label for cell in make_plan(other).cells]
    assert label["teacher"] == "observer (convnet1_w8, 3 epochs)"


def test_one_training_serves_methods_and_soft_labels(make_config: Make) -> None:
    config = make_config(**SOFT, methods="el2n[last_epoch=2],random,herding", archs="convnet1_w4,convnet1_w8")
    trainings = observers_left(make_plan(config), make_plan(config).cells)
    assert [(observer.arch, epochs) for observer, epochs in trainings] == [("convnet1_w4", 3)]
    plan, outcome, store = sweep(config)
    assert outcome.states == {"done": 12}
    (folder,) = [path for path in (config.workdir / "observers").iterdir() if path.is_dir()]
    assert (folder / "weights.safetensors").exists()
    for record in store.records():
        assert record.summary is not None
        assert record.summary["teacher"] == "observer (convnet1_w4, 3 epochs)"
        assert record.summary["teacher_seconds"] > 0
    assert observers_left(plan, plan.cells) == []
    store.close()


def test_a_dry_run_counts_every_observer(make_config: Make, pixels: Pixels) -> None:
    methods = "random,pixels[teachers=observer+observer:convnet1_w8]"
    config = make_config(**SOFT, methods=methods, teacher="observer:convnet1_w6")
    plan = make_plan(config)
    found = {observer.arch: epochs for observer, epochs in observers_left(plan, plan.cells)}
    assert found == {"convnet1_w4": 3, "convnet1_w8": 3, "convnet1_w6": 3}
    assert "3 observers, 1 distilled set by a rough rate" in "\n".join(preview(config))
    assert not config.workdir.exists()
    observe(config.train, config.workdir, plan.observer, stop_after=2)
    found = {observer.arch: epochs for observer, epochs in observers_left(plan, plan.cells)}
    assert found == {"convnet1_w4": 1, "convnet1_w8": 3, "convnet1_w6": 3}


def test_several_runs_of_an_observer_give_one_teacher(make_config: Make) -> None:
    several = {**SOFT, "observer": {**SOFT["observer"], "runs": 3}}
    plan = make_plan(make_config(**several))
    assert [epochs for _, epochs in observers_left(plan, plan.cells)] == [3]
    plan = make_plan(make_config(**several, methods="random,forgetting"))
    assert [epochs for _, epochs in observers_left(plan, plan.cells)] == [9]


def test_a_method_with_teachers_is_keyed_by_them(make_config: Make, pixels: Pixels) -> None:
    def subset(**changes: Any) -> str:
        (cell,) = make_plan(make_config(**{"methods": "pixels", "seeds": "0", **changes}), "cpu").cells
        assert cell.subset is not None
        return cell.subset.key

    assert subset() == subset(protocols="hard") == subset(set={"pixels": {"teachers": ["observer"]}})
    others = [
        {"observer": {"arch": "convnet1_w8"}},
        {"methods": "pixels[teachers=observer:convnet1_w8]"},
        {"threads": 2},
        {"precision": "bf16"},
    ]
    assert len({subset(), *(subset(**change) for change in others)}) == 5


def test_a_method_runs_its_teacher_in_a_sweep(make_config: Make, pixels: Pixels) -> None:
    _, outcome, store = sweep(make_config(**SOFT, methods="pixels", seeds="0"))
    assert outcome.states == {"done": 1}
    (record,) = store.records()
    assert record.summary is not None
    assert record.summary["cost"]["teacher"] > 0
    assert record.summary["cost"]["observer"] == 0
    store.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher": "resnet18"}, "observer:resnet18 trains one of this network"),
        ({"teacher": "resnet18@gone.pth"}, "gone.pth: does not exist"),
        ({"teacher": "efficientnet_lite0"}, "teacher efficientnet_lite0: "),
        ({"observer": {"arch": "convnet1_w4", "image_size": 16}}, "was trained at 16 px, and a convnet1_w4 takes no"),
    ],
)
def test_an_unusable_teacher_is_refused_before_any_work(make_config: Make, changes: dict[str, Any], words: str) -> None:
    with pytest.raises((ConfigError, MethodError)) as caught:
        make_plan(make_config(**{**SOFT, **changes}))
    assert words in str(caught.value)
    make_plan(make_config(**{**SOFT, **changes, "protocols": ["hard-small"]}))  # hard labels need none


def test_a_method_whose_teacher_lacks_batch_norm_is_skipped_or_refused(make_config: Make, pixels: Pixels) -> None:
    changes: dict[str, Any] = {"set": {"pixels": {"teachers": "observer:vgg11"}}, "seeds": "0"}
    with pytest.raises(MethodError, match=r"method pixels.*vgg11 has no BatchNorm layers"):
        make_plan(make_config(methods="pixels", **changes))
    skipped = {cell.label["method"]: cell.skip for cell in make_plan(make_config(methods="all", **changes)).cells}
    (reason,) = [text for name, text in skipped.items() if name.startswith("pixels")]
    assert "vgg11 has no BatchNorm layers" in str(reason)


def test_a_teacher_that_cannot_be_loaded_fails_each_cell(make_config: Make, tmp_path: Path) -> None:
    state = build_model("convnet1_w4", 3, 28, 0).state_dict()
    state["0.weight"][0] = float("nan")
    torch.save(state, tmp_path / "bad.pth")
    config = make_config(
        protocols=["hard-small*epochs=1", "soft-small*epochs=1"], teacher=f"convnet1_w4@{tmp_path}/bad.pth"
    )
    _, outcome, store = sweep(config)
    assert outcome.states == {"done": 2, "failed": 2}
    reasons = {record.reason for record in store.records() if record.state == "failed"}
    assert reasons == {f"{tmp_path}/bad.pth: weight '0.weight' holds NaN or infinity; train this teacher again"}
    store.close()


def test_a_teacher_whose_training_diverges_is_trained_once(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings: list[Path] = []

    def counted(*args: Any, **options: Any) -> Any:
        trainings.append(args[0])
        return complete_records(*args, **options)

    monkeypatch.setattr("fastdc.observe.train_observer.complete_records", counted)
    config = make_config(**{**SOFT, "observer": {**SOFT["observer"], "lr": 1e30}}, methods="random", together="never")
    _, outcome, store = sweep(config)
    assert outcome.states == {"diverged": 2}
    assert len(trainings) == 1
    store.close()


EVALUATE = ["--arch", "convnet1_w4", "--threads", "1", "--set", "epochs=2", "-q"]


def test_evaluate_takes_a_teacher(
    make_config: Make, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir, subset = tmp_path / "work", tmp_path / "r2.beton"
    command = ["compress", "random", f"{tiny}/train.beton", "--ipc", "2", "--out", str(subset), "--image-size", "28"]
    assert run([*command, "--workdir", str(workdir), "-q"]) == 0
    soft = ["evaluate", str(subset), "--val", f"{tiny}/val.beton", "--protocol", "soft-small", *EVALUATE]
    assert run(soft) == 2
    assert "needs --workdir" in capsys.readouterr().err
    assert run([*soft, "--workdir", str(workdir)]) == 2
    assert "has no observer of this subset's training set" in capsys.readouterr().err
    observed = ["observe", f"{tiny}/train.beton", "--workdir", str(workdir), "--arch", "convnet1_w4", "-q"]
    assert run([*observed, "--set", "epochs=2"]) == 0
    where = capsys.readouterr().out.rpartition(": ")[2].strip()
    assert Path(where).name == "weights.safetensors"
    assert run([*soft, "--workdir", str(workdir)]) == 0
    by_observer = capsys.readouterr().out
    assert "labels by observer (convnet1_w4, 2 epochs)" in by_observer
    assert run([*soft, "--teacher", where]) == 0
    by_file = capsys.readouterr().out
    assert "labels by convnet1_w4@weights.safetensors" in by_file
    assert by_file.partition("\n")[0] == by_observer.partition("\n")[0]
    hard = ["evaluate", str(subset), "--val", f"{tiny}/val.beton", *EVALUATE, "--teacher", where]
    assert run(hard) == 2
    assert "does not apply to protocol hard*epochs=2, which has hard labels" in capsys.readouterr().err


def test_planning_a_soft_sweep_imports_no_torch(make_config: Make) -> None:
    config = make_config(**SOFT, methods="random,herding", teacher="observer:resnet34")
    code = "import sys; from fastdc.sweep.sweep_config import SweepConfig; from fastdc.sweep.cells import make_plan; "
    code += "make_plan(SweepConfig.model_validate_json(sys.argv[1])); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, config.model_dump_json()]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"
