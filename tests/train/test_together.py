"""Networks evaluated together: digits of separate evaluations, and refusal of settings that cannot share."""

from pathlib import Path
from typing import Any

import pytest

from fastdc.common.errors import ConfigError, DivergedError, OutputError
from fastdc.train import EvaluateSettings, EvaluationResult, get_protocol
from fastdc.train.evaluation import evaluate, run_evaluations
from fastdc.train.evaluation_request import EvaluationRequest
from tests.conftest import write_fashion
from tests.train.conftest import evaluate_together


def settings(**changes: Any) -> EvaluateSettings:
    protocol = get_protocol("hard-small", {"epochs": 3, "validate_every": 2, **changes.pop("protocol", {})})
    return EvaluateSettings(**{"protocol": protocol, "arch": "convnet_w8", "threads": 1, **changes})


def outcome(result: EvaluationResult | DivergedError) -> tuple[Any, ...]:
    assert isinstance(result, EvaluationResult)
    return result.arch, result.seed, result.protocol, result.top1, result.per_class, result.curve


@pytest.mark.parametrize("loader", ["resident", "ffcv"])
def test_architectures_of_one_seed(betons: Any, loader: str) -> None:
    wanted = [settings(arch=arch, loader=loader) for arch in ("convnet_w8", "convnet_w12", "convnet1_w4")]
    together = evaluate_together(betons.train, betons.val, wanted)
    assert list(map(outcome, together)) == [outcome(evaluate(betons.train, betons.val, each)) for each in wanted]
    assert all(isinstance(result, EvaluationResult) and result.loader == loader for result in together)


def test_seeds_share_a_stream_when_the_protocol_shares_the_order(betons: Any) -> None:
    wanted = [settings(seed=seed, protocol={"order": "shared"}) for seed in range(3)]
    together = [outcome(result) for result in evaluate_together(betons.train, betons.val, wanted)]
    assert together == [outcome(evaluate(betons.train, betons.val, each)) for each in wanted]
    assert len({result[5][0]["loss"] for result in together}) == 3  # other weights and crops for every seed
    assert together[0][2] == "hard-small*epochs=3,order=shared,validate_every=2"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seed": 1}, "differ in seed .0 and 1.*order=shared"),
        ({"threads": 2}, "differ in threads"),
        (
            {"protocol": {"lr": 0.5}, "threads": 2},
            r"differ in protocol \(hard-small\*epochs=3,validate_every=2 and hard-small\*epochs=3,lr=0.5,validate_e",
        ),
    ],
)
def test_settings_that_cannot_share_are_refused(betons: Any, change: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        evaluate_together(betons.train, betons.val, [settings(), settings(**change)])


def test_sets_and_seeds_train_side_by_side(betons: Any, tmp_path: Path) -> None:
    other = write_fashion(tmp_path, "val", 40)
    sets = [(betons.train, [settings(), settings(arch="convnet1_w4")]), (betons.train, [settings(seed=1)])]
    sets.append((other, [settings(seed=1)]))
    requests = [EvaluationRequest(subset, betons.val, tuple(wanted)) for subset, wanted in sets]
    together = [list(map(outcome, results)) for results in run_evaluations(requests)]
    assert together == [[outcome(evaluate(one, betons.val, each)) for each in wanted] for one, wanted in sets]
    assert len({str(result) for results in together for result in results}) == 4


@pytest.mark.parametrize(
    ("data", "change", "match"),
    [
        ("val", {}, "epochs of 60 in steps of .* and 120 in steps of .* images, expected one length.*together: never"),
        ("train", {"threads": 2}, "differ in threads"),
        ("train", {"protocol": {"lr": 0.5}}, "differ in protocol"),
    ],
)
def test_requests_that_cannot_step_together_are_refused(
    betons: Any, data: str, change: dict[str, Any], match: str
) -> None:
    sets = (betons.train, settings()), (getattr(betons, data), settings(**change))
    with pytest.raises(ConfigError, match=match):
        run_evaluations([EvaluationRequest(subset, betons.val, (each,)) for subset, each in sets])


def test_requests_with_other_validation_sets_are_refused(betons: Any) -> None:
    requests = [EvaluationRequest(betons.train, val, (settings(),)) for val in (betons.val, betons.train)]
    with pytest.raises(ConfigError, match=r"differ in val \(.*val.beton and .*train.beton\)"):
        run_evaluations(requests)


def test_no_networks_are_refused(betons: Any) -> None:
    with pytest.raises(ConfigError, match="no sets"):
        run_evaluations([])
    with pytest.raises(ConfigError, match="no networks"):
        evaluate_together(betons.train, betons.val, [])


def test_the_data_cannot_be_a_checkpoint(betons: Any) -> None:
    with pytest.raises(OutputError):
        evaluate_together(betons.train, betons.val, [settings()], checkpoints=(betons.val,))


def test_the_device_loader_needs_a_device(betons: Any) -> None:
    with pytest.raises(ConfigError, match="loader device: needs a CUDA device"):
        evaluate(betons.train, betons.val, settings(loader="device"))


def test_old_results_keep_their_keys() -> None:
    assert "order" not in get_protocol("hard").model_dump()
    assert get_protocol("hard", {"order": "shared"}).model_dump()["order"] == "shared"
    assert get_protocol("hard*order=shared").name == "hard*order=shared"
