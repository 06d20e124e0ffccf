"""A protocol of its own name: `hard` with label smoothing and a lower learning rate."""

from fastdc.train.protocols import Protocol
from fastdc.train.recipes import Recipe

PRESET = Protocol(base="hard-gentle", lr=5e-4, label_smoothing=0.1, batch_size="small")
RECIPE = Recipe("hard with label smoothing", "no paper", notes=("an example of fastdc's documentation",))
