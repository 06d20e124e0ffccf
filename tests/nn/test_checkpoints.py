"""Checkpoints of other programs: wrapped, nested, averaged, several networks, or no weights at all."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from fastdc.common.errors import MethodError
from fastdc.nn.models import build_model
from fastdc.nn.weights import State, build_from, read_weights


def network() -> nn.Module:
    return build_model("resnet18", 3, 32, 7).eval()


def check(path: Path) -> None:
    """Check that a file loads into `network`."""
    model, outputs = build_from(path, read_weights(path), "resnet18", 32)
    assert outputs == 3
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.eval()(images), network()(images))


def prefixed(*prefixes: str) -> Callable[[nn.Module], State]:
    return lambda model: {"".join(prefixes) + name: tensor for name, tensor in model.state_dict().items()}


def compiled(model: nn.Module) -> State:
    return torch.compile(model).state_dict()  # type: ignore[no-any-return, attr-defined]


def compiled_in_parallel(model: nn.Module) -> State:
    return nn.DataParallel(torch.compile(model)).state_dict()  # type: ignore[arg-type]


def compiled_part(model: nn.Module) -> State:
    model.layer1 = torch.compile(model.layer1)  # type: ignore[call-overload, assignment]
    return {f"module.{name}": tensor for name, tensor in model.state_dict().items()}


def averaged(model: nn.Module) -> State:
    return AveragedModel(nn.DataParallel(model)).state_dict()


def lightning(model: nn.Module) -> State:
    return {**prefixed("model.")(model), "criterion.weight": torch.ones(3)}


FORMS: dict[str, Callable[[nn.Module], State]] = {
    "parallel": prefixed("module."),
    "parallel twice": prefixed("module.", "module."),
    "compiled": compiled,
    "compiled, parallel": prefixed("_orig_mod.", "module."),
    "parallel of compiled": compiled_in_parallel,
    "compiled thrice": prefixed("_orig_mod.", "_orig_mod.", "module.", "_orig_mod."),
    "a compiled part": compiled_part,
    "averaged": averaged,
    "lightning": lightning,
    "lightning, compiled": prefixed("model.", "_orig_mod."),
    "parallel, an attribute": prefixed("module.", "net.backbone."),
}


@pytest.mark.parametrize("form", FORMS)
def test_names_are_unwrapped(form: str, tmp_path: Path) -> None:
    torch.save({"state_dict": FORMS[form](network()), "epoch": 3}, tmp_path / "t.ckpt")
    check(tmp_path / "t.ckpt")


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "model_ema", "state_dict_ema", "ema"])
def test_weights_under_a_key(key: str, tmp_path: Path) -> None:
    torch.save({key: network().state_dict(), "optimizer": {"lr": 0.1}}, tmp_path / "t.pth")
    check(tmp_path / "t.pth")


def test_averaged_weights_beside_plain_ones_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = build_model("resnet18", 3, 32, 8).state_dict()
    torch.save({"model": network().state_dict(), "model_ema": other}, tmp_path / "t.pth")
    check(tmp_path / "t.pth")
    assert "'model' is read, not the averaged weights in 'model_ema'" in capsys.readouterr().err


def test_weights_under_a_custom_key_are_named(tmp_path: Path) -> None:
    torch.save({"net": network().state_dict(), "acc": 91.2, "epoch": 3}, tmp_path / "t.pth")
    with pytest.raises(MethodError, match=r"found 'net', 'acc', 'epoch'; expected a state_dict, by itself or under"):
        read_weights(tmp_path / "t.pth")


@pytest.mark.parametrize("form", ["zip", "old", "TorchScript"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_damaged_files_are_named_or_read(form: str, tmp_path: Path) -> None:
    """Files are truncated anywhere or have changed bytes; any error of torch or zipfile is converted."""
    whole, path = tmp_path / "whole.pth", tmp_path / "t.pth"
    small = nn.Linear(3, 2)
    if form == "TorchScript":
        torch.jit.save(torch.jit.trace(small, torch.zeros(1, 3)), str(whole))  # type: ignore[no-untyped-call]
    else:
        torch.save({"state_dict": small.state_dict()}, whole, _use_new_zipfile_serialization=form == "zip")
    data, generator, refused = whole.read_bytes(), np.random.default_rng(0), []
    for number in range(200):
        changed = bytearray(data[: generator.integers(1, len(data))] if number % 2 else data)
        for place in generator.integers(0, len(changed), 0 if number % 2 else 20):
            changed[place] = generator.integers(256)
        path.write_bytes(changed)
        try:
            read_weights(path)
        except MethodError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert all(str(path) in reason for reason in refused)


def test_several_networks_in_one_file_are_refused(tmp_path: Path) -> None:
    state = {**prefixed("student.")(network()), **prefixed("teacher.")(network())}
    torch.save(state, tmp_path / "t.pth")
    with pytest.raises(MethodError, match=r"holds several networks, under 'student.', 'teacher.'; save the state_dict"):
        check(tmp_path / "t.pth")
    state = {**network().state_dict(), **prefixed("module.")(network())}
    torch.save({name: state[name] for name in state if name != "fc.bias"}, tmp_path / "t.pth")
    with pytest.raises(MethodError, match=r"holds 'conv1.weight' twice, wrapped and not"):
        check(tmp_path / "t.pth")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_torchscript_is_named_with_a_remedy(tmp_path: Path, suffix: str) -> None:
    script = torch.jit.trace(network(), torch.zeros(1, 3, 32, 32))  # type: ignore[no-untyped-call]
    path = tmp_path / f"t{suffix}"
    torch.jit.save(script, str(path))  # type: ignore[no-untyped-call]
    with pytest.raises(MethodError, match=r"is a TorchScript file.*none of it was run; if you trust it") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
    saved = tmp_path / "weights.pth"
    torch.save(torch.jit.load(str(path)).state_dict(), saved)  # type: ignore[no-untyped-call]  # as the message advises
    check(saved)


def test_an_exported_program_is_named_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "t.pt2"
    torch.export.save(torch.export.export(network(), (torch.zeros(1, 3, 32, 32),)), path)
    with pytest.raises(MethodError, match=r"is a torch.export file.*torch.export.load\('t.pt2'\).state_dict, 'w"):
        read_weights(path)
    saved = tmp_path / "weights.pth"
    torch.save(torch.export.load(path).state_dict, saved)
    check(saved)
