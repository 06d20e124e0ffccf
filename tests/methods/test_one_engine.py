"""Scores of the observer's record and of `fastdc.scores` on the same logits: one function, known bounds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fastdc
from fastdc.kernels.scores.dynamics import batch_dynamics, batch_final
from fastdc.kernels.scores.fields import EXACT_FIELDS, FIELDS, FINAL_FIELDS
from fastdc.methods import get_method
from fastdc.methods.bases import score_formulas
from fastdc.methods.bases.score_methods import ScoreMethod
from fastdc.methods.scores_of_logits import SCORES
from fastdc.observe.dynamics_log import LOG_NAME, TDDS_NAME, Observation, append_epoch, commit, load_observation
from fastdc.observe.final_outputs import EXACT_NAME, FEATURES_NAME, SCALARS_NAME, FinalPass, commit_final
from fastdc.observe.tdds_log import TddsRecorder

EPOCHS = 12
SETTINGS: dict[str, dict[str, Any]] = {
    "aum_softmax": {"softmax": True},
    "cad_prune": {"last_epoch": EPOCHS},
    "cad_prune_el2n": {"last_epoch": EPOCHS, "reading": "el2n"},
    "el2n": {"last_epoch": EPOCHS},
    "tdds": {"last_epoch": EPOCHS},
}
VARIANT_OF = {"aum_softmax": "aum", "cad_prune_el2n": "cad_prune"}
"""The method of a score that is not its own method's default."""


def observe(folder: Path, logits: np.ndarray, labels: np.ndarray, features: np.ndarray) -> Observation:
    """Record logits float32 [T, N, C] with the observer's own kernels and files."""
    folder.mkdir(exist_ok=True)
    samples, order = labels.size, np.random.default_rng(0).permutation(labels.size)
    recorder = TddsRecorder(folder, samples, logits.shape[2])
    for epoch, batch in enumerate(logits):
        values = np.full((len(FIELDS), samples), np.nan, np.float32)
        batch_dynamics(batch[order], labels[order], order, values)
        append_epoch(folder, epoch, values)
        recorder.batch(epoch, torch.from_numpy(batch[order]), order)
        recorder.epoch_end(epoch)
    scalars = np.empty((len(FINAL_FIELDS), samples), np.float32)
    exact = np.empty((len(EXACT_FIELDS), samples), np.float32)
    batch_final(logits[-1][order], features[order], labels[order], order, scalars, exact)
    scalars.tofile(folder / SCALARS_NAME)
    exact.tofile(folder / EXACT_NAME)
    features.astype(np.float16).tofile(folder / FEATURES_NAME)
    commit_final(FinalPass(folder, len(logits), 1.0, samples, features.shape[1], logits.shape[2], False))
    seconds = tuple(float(epoch) for epoch in range(1, len(logits) + 1))
    commit(Observation(folder, samples, seconds, {}, 1, 0.0, {}, tdds_epochs=len(logits)))
    record = load_observation(folder)
    assert record is not None
    return record


def from_record(name: str, record: Observation) -> np.ndarray:
    method = get_method(VARIANT_OF.get(name, name))
    assert isinstance(method, ScoreMethod)
    return method.run_scores(record, method.configure(SETTINGS.get(name, {})))


def from_logits(name: str, logits: np.ndarray, labels: np.ndarray, features: np.ndarray) -> np.ndarray:
    return fastdc.scores(name, logits, labels, **({"features": features} if name == "grand" else {}))


class Files:
    """Files of the record, read by plain numpy."""

    def __init__(self, folder: Path, samples: int) -> None:
        log = np.fromfile(folder / LOG_NAME, "<f4").reshape(-1, len(FIELDS), samples)
        self.log = {name: log[:, place] for place, name in enumerate(FIELDS)}
        self.final = dict(
            zip(FINAL_FIELDS, np.fromfile(folder / SCALARS_NAME, "<f4").reshape(-1, samples), strict=True)
        )
        self.final |= zip(EXACT_FIELDS, np.fromfile(folder / EXACT_NAME, "<f4").reshape(-1, samples), strict=True)
        self.tdds = np.fromfile(folder / TDDS_NAME, "<f4").reshape(-1, samples)

    def series(self, name: str) -> np.ndarray:
        return self.log[name]

    def last(self, name: str) -> np.ndarray:
        return self.final[name].astype(np.float64)

    def steps(self) -> np.ndarray:
        return self.tdds


def make_logits(scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 5, 300)
    logits = generator.standard_normal((1, 300, 5)) + generator.standard_normal((EPOCHS, 300, 5)) / 2
    logits[:, np.arange(300), labels] += np.linspace(0, 3, EPOCHS)[:, None]
    return (logits * scale).astype(np.float32), labels, generator.standard_normal((300, 6)).astype(np.float32)


@pytest.fixture(scope="module", params=[0.1, 1.0, 5.0, 20.0])
def seen(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Observation, tuple[np.ndarray, ...]]:
    given = make_logits(request.param)
    return observe(tmp_path_factory.mktemp("observed"), *given), given


def bound(name: str, expected: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the bounds that `fastdc.methods.bases.score_formulas` states."""
    own = np.take_along_axis(logits, labels[None, :, None], 2)[..., 0].astype(np.float64)
    others = np.where(np.arange(logits.shape[2]) == labels[:, None], -np.inf, logits).max(2)
    absolute = {"forgetting": 0.0, "aum_softmax": 2e-6, "dyn_unc": 2e-5, "dual": 2e-5}
    absolute |= {"cad_prune": 2e-6, "cad_prune_el2n": 2e-6}
    if name in absolute:
        return np.full_like(expected, absolute[name])
    if name == "aum":
        return 1e-7 * np.abs(own - others).mean(axis=0)
    if name == "tdds":
        unlikely = -torch.log_softmax(torch.from_numpy(logits).double(), 2).numpy().min(axis=(0, 2))
        return np.sqrt(9) * 2.0**-11 * unlikely
    return (2e-6 if name == "el2n" else 3e-7) * np.abs(expected) + 1e-44  # the last steps of float32 before 0


@pytest.mark.parametrize("name", sorted(SCORES))
def test_the_records_score_equals_that_of_its_logits_within_float32(name: str, seen: Any) -> None:
    record, (logits, labels, features) = seen
    expected = from_logits(name, logits, labels, features)
    assert (np.abs(from_record(name, record) - expected) <= bound(name, expected, logits, labels)).all()


@pytest.mark.parametrize("name", sorted(SCORES))
def test_one_function_computes_both(name: str, seen: Any) -> None:
    """Fed the stored scalars, the function behind `fastdc.scores` gives the method's score, bit for bit."""
    record, (_, labels, _) = seen
    score = SCORES[name]
    assert score.compute is getattr(score_formulas, name)
    found = score.compute(Files(record.folder, labels.size), **score.constants)
    assert found.tolist() == from_record(name, record).tolist()


@pytest.mark.parametrize("name", ["least_confidence", "margin", "entropy", "el2n", "grand"])
@pytest.mark.parametrize("label", [0, 1])
def test_stored_scores_of_sure_samples_rank_exactly(tmp_path: Path, name: str, label: int) -> None:
    """Samples are right (label 0) or wrong (label 1) with margins up to 85, near the limit of float32."""
    generator = np.random.default_rng(1)
    margins = generator.permutation(np.linspace(3, 85, 400))
    logits = np.zeros((EPOCHS, 400, 20))
    logits[..., 0] = margins
    logits[..., 2:] -= generator.random((400, 18)) * 5  # common to the others: el2n needs squares, entropy logarithms
    logits = logits.astype(np.float32)
    labels, features = np.full(400, label), np.ones((400, 2), np.float32)
    record = observe(tmp_path / "run", logits, labels, features)
    found, expected = from_record(name, record), from_logits(name, logits, labels, features)
    np.testing.assert_allclose(found, expected, rtol=2e-6)
    if name in ("least_confidence", "margin", "entropy") or label == 0:  # el2n of the wrong is sqrt(2)
        assert np.unique(found).size == 400
        kept, ideal = np.argsort(found)[:50], np.argsort(expected)[:50]
        assert np.intersect1d(kept, ideal).size >= 49  # float32 has 7 digits; neighbours may lie nearer
        assert fastdc.select(found, np.zeros(400, int), 50, keep="easy").tolist() == kept.tolist()


def test_unsure_samples_keep_their_digits(tmp_path: Path) -> None:
    """With nearly equal probabilities, gap and p_max are small, and one minus them must keep their digits."""
    gaps = np.random.default_rng(2).permutation(np.logspace(-6, -3, 200))
    logits = np.zeros((EPOCHS, 200, 3))
    logits[..., 0] = gaps
    labels, features = np.zeros(200, int), np.ones((200, 2), np.float32)
    record = observe(tmp_path / "run", logits.astype(np.float32), labels, features)
    for name in ("margin", "least_confidence"):
        expected = from_logits(name, logits.astype(np.float32), labels, features)
        np.testing.assert_allclose(1 - from_record(name, record), 1 - expected, rtol=1e-7)
    assert np.argsort(from_record("margin", record)).tolist() == np.argsort(-gaps).tolist()


def test_other_rows_keep_the_bits_of_the_vector_code() -> None:
    """A margin above 40 takes its row, and no other, through float64."""
    generator = np.random.default_rng(4)
    logits, labels = generator.standard_normal((60, 37)).astype(np.float32) * 3, generator.integers(0, 37, 60)
    wide = np.arange(0, 60, 7)
    both = logits.copy()
    both[wide, labels[wide]] += 60
    plain, mixed = np.empty((len(FIELDS), 60), np.float32), np.empty((len(FIELDS), 60), np.float32)
    batch_dynamics(logits, labels, np.arange(60), plain)
    batch_dynamics(both, labels, np.arange(60), mixed)
    others = np.setdiff1d(np.arange(60), wide)
    assert np.array_equal(plain[:, others], mixed[:, others])
    assert (mixed[2, wide] > 40).all()
