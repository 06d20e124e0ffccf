"""Float64 references of every score, from the papers' definitions: one sample, one epoch, plain numpy."""

from itertools import pairwise

import numpy as np


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z.astype(np.float64) - z.max())
    return e / e.sum()


def log_softmax(z: np.ndarray) -> np.ndarray:
    shifted = z.astype(np.float64) - z.max()
    return shifted - np.log(np.exp(shifted).sum())


def others(values: np.ndarray, label: int) -> np.ndarray:
    return np.delete(values, label)


def windows_of(series: np.ndarray, length: int) -> list[np.ndarray]:
    return [series[k : k + length] for k in range(len(series) - length + 1)]


def el2n(z, y):
    return np.mean([np.linalg.norm(softmax(e) - np.eye(e.size)[y]) for e in z])


def forgetting(z, y):
    correct = [bool((e[y] > others(e, y)).all()) for e in z]
    if not any(correct):
        return float(len(z))
    return float(sum(a and not b for a, b in pairwise(correct)))


def aum(z, y):
    return np.mean([float(e[y]) - float(others(e, y).max()) for e in z])


def aum_softmax(z, y):
    return np.mean([softmax(e)[y] - others(softmax(e), y).max() for e in z])


def entropy(z, y):
    return -sum(p * q for p, q in zip(softmax(z[-1]), log_softmax(z[-1]), strict=True) if p > 0)


def margin(z, y):
    first, second = np.sort(softmax(z[-1]))[::-1][:2]
    return first - second


def least_confidence(z, y):
    return softmax(z[-1]).max()


def tdds(z, y, window=10, decay=0.9):
    total, epochs = 0.0, len(z)
    for k in range(epochs - window + 1):
        steps = []
        for j in range(k, k + window - 1):
            p, log_p, log_before = softmax(z[j + 1]), log_softmax(z[j + 1]), log_softmax(z[j])
            steps.append(np.abs(p * (log_p - log_before)).sum())
        norm = np.linalg.norm(np.array(steps) - np.mean(steps))
        total += norm * decay * (1 - decay) ** (epochs - window - k)
    return total


def dyn_unc(z, y, window=10):
    p = np.array([softmax(e)[y] for e in z])
    return np.mean([10 * np.std(w, ddof=1) for w in windows_of(p, window)])


def dual(z, y, window=10):
    p = np.array([softmax(e)[y] for e in z])
    return np.mean([10 * np.std(w, ddof=1) * (1 - w.mean()) for w in windows_of(p, window)])


def cad_prune(z, y, window=6, last_windows=2):
    p = np.array([softmax(e)[y] for e in z])
    return np.mean([np.std(w, ddof=1) for w in windows_of(p, window)[-last_windows:]])


def cad_prune_el2n(z, y, window=6, last_windows=2):
    """Take the windows k..k+J-1 for k = K-J-W..K-J-1: none of them contains the last of the K epochs."""
    errors = [np.linalg.norm(softmax(e) - np.eye(z.shape[-1])[y]) for e in z]
    first = len(errors) - window - last_windows
    return np.mean([np.std(errors[k : k + window], ddof=1) for k in range(first, len(errors) - window)])


def grand(z, y, h):
    error = softmax(z[-1]) - np.eye(z.shape[-1])[y]
    return np.linalg.norm(np.outer(error, np.append(h.astype(np.float64), 1.0)))


REFERENCES = {
    function.__name__: function
    for function in (
        el2n,
        forgetting,
        aum,
        aum_softmax,
        entropy,
        margin,
        least_confidence,
        tdds,
        dyn_unc,
        dual,
        cad_prune,
        cad_prune_el2n,
    )
}
