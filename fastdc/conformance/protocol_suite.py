"""Conformance suite of protocols: names, keys, and one epoch on a generated set."""

import json
import math
from pathlib import Path

import torch

from fastdc.common.keys import content_key
from fastdc.conformance.data import CLASSES, PER_CLASS, SIDE, write_set
from fastdc.conformance.suite import Suite, expect
from fastdc.nn.models import build_model
from fastdc.teachers.network import Teacher, freeze
from fastdc.train.evaluate_settings import EvaluateSettings
from fastdc.train.evaluation import evaluate
from fastdc.train.protocols import Protocol, get_protocol, protocols
from fastdc.train.schedules import rate_share

ARCH = "convnet1_w4"


class ProtocolSuite(Suite):
    """Suite of protocols."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        self.protocol = get_protocol(name)

    def source_is_given(self) -> None:
        """Check the title and source that lists show."""
        recipe = protocols().get(self.protocol.base).recipe
        expect(bool(recipe.title and recipe.source), recipe, "a title and a source")

    def name_reads_back(self) -> None:
        """Check that the name stands for the protocol, in tables and on the command line."""
        expect(get_protocol(self.protocol.name) == self.protocol, self.protocol.name, "a name that reads back")

    def overrides_are_named(self) -> None:
        """Check that a changed protocol has the change in its name."""
        changed = self._changed(7)
        expect("epochs=7" in changed.name, changed.name, "epochs=7 in the name")
        expect(get_protocol(changed.name) == changed, changed.name, "a name that reads back")

    def key_is_stable(self) -> None:
        """Check that the settings are plain data and survive storage."""
        values = self.protocol.model_dump(mode="json")
        stored = Protocol.make(json.loads(json.dumps(values)), "stored")
        expect(stored == self.protocol, stored, "the protocol that was stored")
        same = content_key(stored.model_dump(mode="json")) == content_key(values)
        expect(same, "two keys of one protocol", "one")

    def schedule_is_finite(self) -> None:
        """Check the learning rate of every epoch, and the batch of a small set."""
        images = len(CLASSES) * PER_CLASS["train"]
        epochs = self.protocol.epochs_for(images, len(CLASSES))
        rates = [self.protocol.lr * rate_share(self.protocol.schedule, epoch, epochs) for epoch in range(epochs)]
        bad = [rate for rate in rates if not (math.isfinite(rate) and rate >= 0)]
        expect(not bad, f"a learning rate of {bad[:1]}", "finite ones of at least 0")
        expect(self.protocol.batch_for(images) >= 1, self.protocol.batch_for(images), "at least 1 image a step")

    def one_epoch_trains(self) -> None:
        """Check one epoch of a small network."""
        subset, val = write_set(self.folder, "train"), write_set(self.folder, "val")
        settings = EvaluateSettings(protocol=self._changed(1), arch=ARCH, threads=1, image_size=SIDE)
        result = evaluate(subset, val, settings, teacher=_teacher(), labels_root=self.folder / "labels")
        loss = result.curve[-1]["loss"]
        expect(loss is not None and math.isfinite(loss), f"a loss of {loss}", "a finite one")
        expect(len(result.curve) == 1, f"{len(result.curve)} epochs", "1")

    def _changed(self, epochs: int) -> Protocol:
        return get_protocol(self.protocol.name, {"epochs": epochs})


def _teacher() -> Teacher:
    """Return an untrained network, for protocols with soft labels."""
    network = freeze(build_model(ARCH, len(CLASSES), SIDE, 1), torch.device("cpu"))
    return Teacher("untrained", "untrained", ARCH, network, SIDE, 0.0)
