"""Training on a teacher's online labels."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fastdc.common.errors import ConfigError, DivergedError
from fastdc.train import get_protocol
from fastdc.train.evaluation import evaluate
from fastdc.train.labels.layout import Place
from fastdc.train.labels.targets import Labelling
from tests.train.conftest import MakeTeacher, StumbledError, evaluate_together, outcome, soft_settings


def test_learns_from_the_teacher_and_reports_its_cost(betons: Any, make_teacher: MakeTeacher) -> None:
    teacher = make_teacher()
    result = evaluate(betons.train, betons.val, soft_settings({"epochs": 8}, arch="convnet_w16"), teacher=teacher)
    assert result.top1 > 50  # chance is 33
    assert (result.labels, result.teacher, result.teacher_note) == ("online", "tutor", "has seen everything")
    assert result.label_bytes == 8 * 120 * 3 * 2
    assert result.label_file is None
    assert result.teacher_seconds == 7.5
    assert 0 < result.relabel_seconds < result.train_seconds
    assert teacher.model.calls == 8 * 10
    assert result.protocol == "soft-small*epochs=8,validate_every=2"


def test_results_depend_only_on_seed_teacher_and_mixing(betons: Any, make_teacher: MakeTeacher) -> None:
    def run(**changes: Any) -> tuple[Any, ...]:
        teacher = changes.pop("teacher", None) or make_teacher()
        return outcome(evaluate(betons.train, betons.val, soft_settings(**changes), teacher=teacher))

    first = run()
    assert run() == first
    others = [
        run(seed=1),
        run(protocol={"mix": "none"}),
        run(protocol={"temperature": 1}),
        run(protocol={"mix_alpha": 9}),
    ]
    others.append(run(protocol={"loss": "mse_ce"}))
    assert len({str(each) for each in [first, *others]}) == 6


class LooksAt(nn.Module):
    """Keep the labelled images."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        self.seen.append(images.clone())
        return self.norm(images).mean((2, 3))  # type: ignore[no-any-return]


def test_the_teacher_sees_the_mixed_images_in_eval_mode(betons: Any, make_teacher: MakeTeacher) -> None:
    looks = LooksAt().eval()
    before = {name: value.clone() for name, value in looks.state_dict().items()}
    settings = soft_settings({"epochs": 1})
    labelling = Labelling(settings.protocol, settings.seed, 3)
    evaluate(betons.train, betons.val, settings, teacher=make_teacher(looks))
    plain = LooksAt().eval()
    evaluate(betons.train, betons.val, soft_settings({"epochs": 1, "mix": "none"}), teacher=make_teacher(plain))
    assert len(looks.seen) == len(plain.seen) == 10
    for step, (mixed, images) in enumerate(zip(looks.seen, plain.seen, strict=True)):
        assert torch.equal(mixed, labelling.mixed(images, Place(0, step))[0])
    assert any(not torch.equal(*pair) for pair in zip(looks.seen, plain.seen, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in looks.state_dict().items())


@pytest.mark.parametrize("dies_at", [3, 10, 16])
def test_a_killed_training_resumes_bit_equal(
    betons: Any, make_teacher: MakeTeacher, tmp_path: Path, dies_at: int
) -> None:
    whole = evaluate(betons.train, betons.val, soft_settings(), teacher=make_teacher())
    options = {"checkpoint": tmp_path / "checkpoint.pt", "checkpoint_seconds": 0}
    with pytest.raises(StumbledError):
        evaluate(betons.train, betons.val, soft_settings(), teacher=make_teacher(dies_at=dies_at), **options)
    second = make_teacher()
    resumed = evaluate(betons.train, betons.val, soft_settings(), teacher=second, **options)
    assert outcome(resumed) == outcome(whole)
    assert second.model.calls == 20 - (dies_at - 1)


def test_networks_trained_together_equal_single_ones(betons: Any, make_teacher: MakeTeacher) -> None:
    wanted = [soft_settings(arch=arch) for arch in ("convnet_w8", "convnet_w12")]
    wanted_shared = [soft_settings({"order": "shared"}, seed=seed) for seed in range(2)]
    for group in (wanted, wanted_shared):
        together = evaluate_together(betons.train, betons.val, group, teacher=make_teacher())
        alone = [evaluate(betons.train, betons.val, each, teacher=make_teacher()) for each in group]
        assert list(map(outcome, together)) == list(map(outcome, alone))


def test_hard_labels_can_be_mixed(betons: Any) -> None:
    def run(name: str) -> tuple[Any, ...]:
        protocol = get_protocol(name, {"epochs": 2})
        result = evaluate(betons.train, betons.val, soft_settings().model_copy(update={"protocol": protocol}))
        assert (result.labels, result.teacher, result.label_bytes, result.relabel_seconds) == ("hard", None, 120, 0)
        return outcome(result)

    assert run("hard-small*mix=cutmix") == run("soft-small*labels=hard,validate_every=50")
    assert run("hard-small*mix=cutmix") != run("hard-small")


def test_a_hard_protocol_ignores_a_teacher(betons: Any, make_teacher: MakeTeacher, tmp_path: Path) -> None:
    settings = soft_settings().model_copy(update={"protocol": get_protocol("hard-small*epochs=1")})
    teacher, checkpoint = make_teacher(), tmp_path / "checkpoint.pt"
    with_teacher = evaluate(betons.train, betons.val, settings, teacher=teacher, checkpoint=checkpoint)
    assert outcome(evaluate(betons.train, betons.val, settings, checkpoint=checkpoint)) == outcome(with_teacher)
    assert (teacher.model.calls, with_teacher.teacher) == (0, None)


class Constant(nn.Module):
    """Return a constant output for a number of classes."""

    def __init__(self, classes: int, value: float) -> None:
        super().__init__()
        self.classes, self.value = classes, value

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.new_full((len(images), self.classes), self.value)


def test_unusable_teachers_are_refused(betons: Any, make_teacher: MakeTeacher) -> None:
    with pytest.raises(ConfigError, match=r"soft-small.*come from a teacher, found none"):
        evaluate(betons.train, betons.val, soft_settings())
    with pytest.raises(ConfigError, match=r"teacher tutor: its outputs have shape \(12, 5\), expected \(12, 3\)"):
        evaluate(betons.train, betons.val, soft_settings(), teacher=make_teacher(Constant(5, 0.0)))
    with pytest.raises(DivergedError, match="loss is nan"):
        evaluate(betons.train, betons.val, soft_settings(), teacher=make_teacher(Constant(3, float("nan"))))
    with pytest.raises(ConfigError, match="stored labels need a folder"):
        evaluate(betons.train, betons.val, soft_settings({"labels": "stored"}), teacher=make_teacher())
