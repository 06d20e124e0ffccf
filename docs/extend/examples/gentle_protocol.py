"""A protocol in a package of its own: `hard` with label smoothing and a lower learning rate."""

from fastdc.train.protocols import Preset, Protocol, Recipe

PROTOCOL = Preset(
    Protocol(base="hard-gentle", lr=5e-4, label_smoothing=0.1, batch_size="small"),
    Recipe("hard with label smoothing", "no paper"),
)
