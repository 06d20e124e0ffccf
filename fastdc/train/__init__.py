"""Protocols and the evaluation of a compressed set."""

from typing import TYPE_CHECKING

from fastdc.train.evaluate_settings import EvaluateSettings, EvaluationResult
from fastdc.train.labels.layout import label_bytes
from fastdc.train.protocols import Protocol, get_protocol

if TYPE_CHECKING:
    from fastdc.train.evaluation import evaluate

__all__ = ["EvaluateSettings", "EvaluationResult", "Protocol", "evaluate", "get_protocol", "label_bytes"]


def __getattr__(name: str) -> object:
    """Import `evaluate`, which needs torch, on first access."""
    if name == "evaluate":
        from fastdc.train.evaluation import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
