"""Class folders as rethinkdc, the code of the benchmark, takes them, and the command that trains on them.

Source: rethinkdc 0.3.2 (PyPI), `imagenet_ipc.py` and `train_KD.py`.
"""

import os
import shlex
from pathlib import Path

from fastdc.beton.export.layout import ExportSet, Layout, write_record
from fastdc.beton.export.layouts.as_folder import class_notes, is_class_file, write_class_folders
from fastdc.beton.exported import Exported
from fastdc.common.errors import OutputError

TRAIN = "train"
HUB_MARK = "he-y"
"""rethinkdc takes a path that contains this for a data set of its authors on the Hugging Face hub."""
NEEDS = "a GPU, torchvision<0.18 (its class folders fail with later ones), numpy<2 and setuptools<81"
SIDE, OUTPUTS = 224, 1000
"""Side of its crops in pixels, and outputs of its networks, which follow from no data set."""


class AsRethinkdc(Layout):
    """Folder `train` of class folders: rethinkdc lists every name in it as a class, so the record lies outside."""

    name = "rethinkdc"
    title = "train/CLASS/NUMBER.jpg for rethinkdc (PyPI), with the command that trains on it"

    def write(self, images: ExportSet, place: Path) -> None:
        """See `Layout`.

        Raises:
            OutputError: a class has no images, which rethinkdc refuses, or there are more than 1000 classes.
        """
        classes, counts = images.manifest.classes, images.manifest.counts
        if 0 in counts:
            raise OutputError(
                f"{images.path}: class {classes[counts.index(0)]!r} has no images, which rethinkdc refuses; "
                "use --as folder"
            )
        if len(classes) > OUTPUTS:
            raise OutputError(f"{images.path}: {len(classes)} classes, rethinkdc's networks have {OUTPUTS} outputs")
        names = write_class_folders(images, place / TRAIN)
        write_record(images, self.name, place, len(images.beton), split=TRAIN, folders=names)

    def may_hold(self, name: str, record: Exported) -> bool:
        folder, _, image = name.partition("/")
        return folder == TRAIN and is_class_file(image, record)

    def notes(self, images: ExportSet, out: Path) -> list[str]:
        train = os.path.relpath(out / TRAIN)
        lines = class_notes(images)
        if HUB_MARK in train:
            lines.append(f"rethinkdc takes a path with '{HUB_MARK}' in it for a set of the hub: move the folder first")
        most = max(images.manifest.counts)
        command = f"rethinkdc {shlex.quote(train)} --hard --model resnet18 --ipc {most}"
        same = f"fastdc evaluate {shlex.quote(str(images.path))} --val VAL.beton --protocol hard --arch resnet18"
        lines += [
            "train on it under the protocol hard (soft: --soft in place of --hard):",
            f"  WANDB_MODE=offline IMAGENET_VAL_DIR=VAL {command} --output-dir {shlex.quote(out.name)}_hard",
            "VAL is a folder of the same class folders: fastdc export VAL.beton VAL --as folder",
            f"rethinkdc 0.3.2 needs {NEEDS}",
            f"the same here: {same} --augment protocol --image-size {SIDE} --precision fp32",
        ]
        if images.manifest.hints:
            hints = ", ".join(f"{name}={value}" for name, value in images.manifest.hints.items())
            lines.append(f"rethinkdc knows no hints and crops from whole images: {hints} is lost there")
        if len(images.manifest.classes) < OUTPUTS:
            found = len(images.manifest.classes)
            lines.append(f"its networks have {OUTPUTS} outputs for these {found} classes; here they have {found}")
        return lines


LAYOUT = AsRethinkdc()
