"""Source of a training's labels, by its protocol."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdc.common.errors import ConfigError
from fastdc.common.keys import content_key
from fastdc.loader import TrainView
from fastdc.nn.device import Compute
from fastdc.nn.fit_loop import Epochs
from fastdc.train.evaluate_settings import EvaluateSettings
from fastdc.train.labels.layout import LabelLayout
from fastdc.train.labels.stored import StoredLabelling, make_labels
from fastdc.train.labels.targets import Labelling, OnlineLabelling
from fastdc.train.protocols import Protocol

if TYPE_CHECKING:
    from fastdc.beton import Manifest
    from fastdc.teachers.network import Teacher

LABEL_FIELDS = ("mix", "label_topk", "label_ratio", "label_seed")
"""Fields of a protocol that stored labels depend on unchanged; `LabelSource._identity` adds those that it resolves."""
SCHEMA = 1


@dataclass
class LabelSource:
    """Factory of the labels of all trainings on one subset; it keeps files of stored labels open between them.

    Attributes:
        stored: the subset's manifest.
        compute: device and precision.
        teacher: the network that makes soft labels.
        root: folder of stored labels.
    """

    stored: "Manifest"
    compute: Compute
    teacher: "Teacher | None" = None
    root: Path | None = None
    _files: dict[Path, StoredLabelling] = field(default_factory=dict)

    def labelling(
        self, settings: EvaluateSettings, view: TrainView, loader: Epochs, views: int = 1
    ) -> Labelling | None:
        """Return a training's labelling, or None for plain hard labels. Missing stored labels are made now.

        Args:
            settings: settings of the training.
            view, loader: the training's view, and its own batches, one per step.
            views: visits to each image per epoch.

        Raises:
            ConfigError, DivergedError, OutputError: as in `evaluate`.
        """
        protocol, classes = settings.protocol, len(self.stored.classes)
        if not protocol.soft:
            changed = protocol.mix != "none" or protocol.batch_augment != "none"
            return Labelling(protocol, settings.seed, classes) if changed else None
        check_source(protocol, self.teacher, self.root)
        assert self.teacher is not None
        if protocol.labels == "online":
            return OnlineLabelling(protocol, settings.seed, classes, self.compute, self.teacher)
        return self._from_file(protocol, view, loader, self.teacher, views)

    def _from_file(
        self, protocol: Protocol, view: TrainView, loader: Epochs, teacher: "Teacher", views: int
    ) -> Labelling:
        assert self.root is not None
        layout = LabelLayout(protocol, len(self.stored.ids), len(self.stored.classes), views)
        # Fields that came later are absent at their defaults, so that earlier files keep their keys.
        identity = self._identity(protocol, view, teacher) | ({} if views == 1 else {"views": views})
        folder = self.root / content_key(identity)
        if folder not in self._files:
            named = {**identity, "dataset": self.stored.dataset, "name": teacher.name, "bytes": layout.file_bytes}
            file = make_labels(folder, layout, loader, self.compute, teacher, named)
            self._files[folder] = StoredLabelling(file)
        return self._files[folder]

    def _identity(self, protocol: Protocol, view: TrainView, teacher: "Teacher") -> dict[str, Any]:
        """Return everything that the labels depend on, including precision and threads, which affect rounding."""
        compute = self.compute
        return {
            "schema": SCHEMA,
            "subset": self.stored.content_hash,
            "teacher": teacher.identity,
            "view": view.identity(),
            "batch_size": protocol.batch_for(len(self.stored.ids)),
            "epochs": protocol.epochs_for(len(self.stored.ids), len(self.stored.classes)),
            "mix_alpha": protocol.alpha,
            **{name: getattr(protocol, name) for name in LABEL_FIELDS},
            **({} if protocol.batch_augment == "none" else {"batch_augment": protocol.batch_augment}),
            "precision": compute.key,
            "device": compute.device.type,
            "threads": compute.threads if compute.device.type == "cpu" else None,
        }

    def close(self) -> None:
        """Close all files of stored labels."""
        for file in self._files.values():
            file.close()


def check_source(protocol: Protocol, teacher: "Teacher | None", root: Path | None) -> None:
    """Check that a soft protocol has a teacher and, for stored labels, a folder.

    Raises:
        ConfigError: one of them is missing.
    """
    if protocol.soft and teacher is None:
        raise ConfigError(
            f"protocol {protocol.name}: its labels come from a teacher, found none; name one with --teacher, or take "
            "a hard protocol"
        )
    if protocol.labels == "stored" and root is None:
        raise ConfigError(f"protocol {protocol.name}: stored labels need a folder, found none; name one with --workdir")
