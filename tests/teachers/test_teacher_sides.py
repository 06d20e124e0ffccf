"""The image size of a teacher is read from its weights, not guessed."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from fastdc.cli.main import run
from fastdc.common.errors import TeacherError
from fastdc.nn.device import Compute
from fastdc.nn.models import build_model
from fastdc.observe import ObserverConfig
from fastdc.teachers.load import load_teacher
from fastdc.teachers.names import plan_for
from fastdc.teachers.plan import check_side


@pytest.mark.parametrize("side", [28, 32, 64, 96])
@pytest.mark.parametrize("observer", [None, ObserverConfig(arch="convnet", image_size=48)])
def test_weights_made_at_any_size_are_taken_at_that_size(
    tmp_path: Path, compute: Compute, side: int, observer: ObserverConfig | None
) -> None:
    torch.save(build_model("convnet_w4", 3, side, 0).state_dict(), tmp_path / "t.pth")
    plan = plan_for(f"convnet_w4@{tmp_path}/t.pth", "", ("a", "b", "c"), observer)
    check_side(plan, side)
    teacher = load_teacher(plan, None, tmp_path, compute, image_size=side)
    assert teacher.model(torch.zeros(1, 3, side, side)).shape == (1, 3)
    with pytest.raises(TeacherError, match=r"was trained at \d+ px, and a convnet_w4 takes no other size; the stored"):
        load_teacher(plan, None, tmp_path, compute, image_size=2 * side)


def test_evaluate_takes_a_file_made_at_64_px(betons: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    subset, workdir, train = tmp_path / "s.beton", str(tmp_path / "work"), str(betons.train)
    made = ["compress", "random", train, "--ipc", "4", "--image-size", "64", "--out", str(subset), "-q"]
    assert run([*made, "--workdir", workdir]) == 0
    observed = ["observe", train, "--workdir", workdir, "--arch", "convnet_w4", "--set", "image_size=64"]
    assert run([*observed, "--set", "epochs=6", "--set", "batch_size=20", "--set", "threads=1", "-q"]) == 0
    weights = Path(capsys.readouterr().out.rpartition(": ")[2].strip())
    torch.save(safetensors.torch.load_file(weights), tmp_path / "t.pth")
    soft = [
        "evaluate",
        str(subset),
        "--val",
        str(betons.val),
        "--protocol",
        "soft-small",
        "--set",
        "epochs=1",
        "--arch",
    ]
    soft += ["convnet_w4", "--threads", "1", "-q", "--teacher", f"convnet_w4@{tmp_path}/t.pth"]
    assert run(soft) == 0, capsys.readouterr().err
    assert "labels by convnet_w4@t.pth" in capsys.readouterr().out
