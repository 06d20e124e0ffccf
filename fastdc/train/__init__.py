"""Protocols and the evaluation of a compressed set; `fastdc.train.evaluation`, which runs it, needs torch."""

from fastdc.train.evaluate_settings import EvaluateSettings, EvaluationResult
from fastdc.train.protocols import Protocol, get_protocol

__all__ = ["EvaluateSettings", "EvaluationResult", "Protocol", "get_protocol"]
