"""Contenders: scores from logits as the official codes of CCS, DeepCore and Forgetting compute them."""

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from contenders.scoring import Scores, Scoring


class Ccs(Scoring):
    """Scoring by CCS: training pickles log-probabilities in fp16; scoring loads them twice, batch by batch.

    Its scoring program reads the labels by loading every training image with the training's transforms. This is
    repeated here if a folder with as many images as samples is given; the labels read are not used.
    """

    def __init__(self, samples: int, classes: int, epochs: int, scratch: str, images: str = "") -> None:
        super().__init__(samples, classes, epochs, scratch)
        self._images = images

    def margin_terms(self, logits: NDArray[Any], p: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return probabilities, of which CCS computes the margin."""
        return p, p

    def kept_bytes(self) -> int:
        """Return the bytes of its pickles."""
        return sum(path.stat().st_size for path in self.scratch.glob("td-*.pickle"))

    def score(self) -> Scores:
        """Write the training's log, then run the pass for EL2N and the pass for forgetting, correctness and margin."""
        for epoch in range(self.epochs):
            self._log(epoch)
        self._read_labels()
        kept = {name: torch.zeros(self.samples) for name in ("el2n", "forgetting", "correctness", "last", "margin")}
        labels = torch.from_numpy(self.labels)
        for log in self._logs():
            for indices, output in log:
                ccs_el2n(kept, labels, indices, output)
        for log in self._logs():
            for indices, output in log:
                ccs_dynamics(kept, labels, indices, output)
        return Scores((kept["el2n"] / self.epochs).numpy(), (kept["margin"] / self.epochs).numpy())

    def _read_labels(self) -> None:
        if self._images:
            from torch.utils.data import DataLoader, Subset
            from torchvision.datasets import ImageFolder

            from contenders.torchvision_loader import train_transform

            data = Subset(ImageFolder(self._images, train_transform(224)), range(self.samples))
            labels: list[Any] = []
            for _, batch in DataLoader(data, batch_size=800):
                labels += list(batch.numpy())

    def _log(self, epoch: int) -> None:
        log = []
        for batch in self.batches:
            output = functional.log_softmax(torch.from_numpy(batch.values), 1).half()
            log.append((torch.from_numpy(batch.indices).clone(), output))
        with (self.scratch / f"td-{epoch}.pickle").open("wb") as handle:
            pickle.dump(log, handle)

    def _logs(self) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
        for epoch in range(self.epochs):
            with (self.scratch / f"td-{epoch}.pickle").open("rb") as handle:
                yield pickle.load(handle)


def ccs_el2n(kept: dict[str, torch.Tensor], labels: torch.Tensor, indices: torch.Tensor, output: torch.Tensor) -> None:
    """Add a batch's EL2N: the L2 distance of probabilities from one-hot labels."""
    p = torch.exp(output.float())
    target = functional.one_hot(labels[indices], p.shape[1])
    kept["el2n"][indices] += functional.mse_loss(p, target.float(), reduction="none").sum(1).sqrt()


def ccs_dynamics(
    kept: dict[str, torch.Tensor], labels: torch.Tensor, indices: torch.Tensor, output: torch.Tensor
) -> None:
    """Add a batch's forgetting events, correctness and margins."""
    p = torch.exp(output.float())
    label = labels[indices]
    correct = (p.argmax(1) == label).float()
    kept["forgetting"][indices] += torch.logical_and(kept["last"][indices] == 1, correct == 0)
    kept["last"][indices] = correct
    kept["correctness"][indices] += correct
    rows = range(len(label))
    own = p[rows, label]
    p[rows, label] = 0
    kept["margin"][indices] += own - p.max(1)[0]


class DeepCore(Scoring):
    """Scoring by DeepCore: forgetting at every batch, and three uncertainties per epoch, each in a separate pass.

    It has neither EL2N nor AUM, so its scores are not compared.
    """

    def kept_bytes(self) -> int:
        """Return the bytes of forgetting events and of the last correctness."""
        return 8 * self.samples * self.epochs

    def score(self) -> Scores:
        """Count forgetting events and compute the three uncertainties; only the last one is returned."""
        events, last = torch.zeros(self.samples), torch.zeros(self.samples)
        for _ in range(self.epochs):
            for batch in self.batches:
                predicted = torch.from_numpy(batch.values).max(1)[1]
                correct = (predicted == torch.from_numpy(batch.labels)).float()
                indices = torch.from_numpy(batch.indices)
                events[indices[(last[indices] - correct) > 0.01]] += 1
                last[indices] = correct
            for uncertainty in (least_confidence, entropy, margin):
                scores = np.array([])
                for batch in self.batches:
                    scores = np.append(scores, uncertainty(torch.from_numpy(batch.values)))
        return Scores(scores, scores)

    def check(self) -> dict[str, Any]:
        """Check nothing, because there is no reference."""
        return {}


def least_confidence(logits: torch.Tensor) -> NDArray[Any]:
    """Return minus the largest logit."""
    return -logits.max(1).values.numpy()


def entropy(logits: torch.Tensor) -> NDArray[Any]:
    """Return minus the entropy."""
    p = functional.softmax(logits, 1).numpy()
    result: NDArray[Any] = (np.log(p + 1e-6) * p).sum(1)
    return result


def margin(logits: torch.Tensor) -> NDArray[Any]:
    """Return the largest minus the second largest probability."""
    p = functional.softmax(logits, 1)
    rows, first = torch.arange(len(p)), p.argmax(1)
    largest = p[rows, first].clone()
    p[rows, first] = -1.0
    return (largest - p[rows, p.argmax(1)]).numpy()


class PerSample(Scoring):
    """Scoring by a Python loop over the samples of every batch, as in the official Forgetting code."""

    def score(self) -> Scores:
        """Compute statistics sample by sample, sorting its outputs, and keep lists by sample."""
        kept: dict[int, tuple[list[float], list[bool], list[float]]] = {}
        for _ in range(self.epochs):
            for batch in self.batches:
                outputs, labels = torch.from_numpy(batch.values), torch.from_numpy(batch.labels)
                _, predicted = outputs.max(1)
                right = predicted.eq(labels)
                for place, index in enumerate(batch.indices.tolist()):
                    own = outputs[place, labels[place].item()]  # type: ignore[index]
                    ordered, _ = torch.sort(outputs[place])
                    other = ordered[-2] if right[place] else ordered[-1]
                    p = functional.softmax(outputs[place], 0)
                    p[labels[place]] -= 1
                    margins, correct, lengths = kept.setdefault(index, ([], [], []))
                    margins.append(own.item() - other.item())
                    correct.append(bool(right[place].item()))
                    lengths.append(p.norm().item())
        entries = [kept[index] for index in range(self.samples)]
        return Scores(
            np.array([np.mean(entry[2]) for entry in entries]), np.array([np.mean(entry[0]) for entry in entries])
        )

    def kept_bytes(self) -> int:
        """Return the bytes of two boxed floats and three list entries; the flags are shared objects."""
        return (2 * 24 + 3 * 8) * self.samples * self.epochs
