"""Choices that settings name; apart from the code that needs torch."""

from typing import Literal

Precision = Literal["auto", "fp32", "bf16", "fp16"]
