"""What every section is given: the device, the sizes of its work, and the files. Needs only Python itself."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

SizesName = Literal["full", "small", "tiny"]


@dataclass(frozen=True)
class Sizes:
    """Amount of work.

    Attributes:
        images: generated JPEGs of 224 px.
        trained: images of an epoch that is timed, at 224 px. batch: images of a step.
        product: side of the matrices whose products are timed. buffer: bytes of the copies that are timed.
        epochs: of an accuracy. seeds: accuracies of a precision. timed: epochs of a 28-px timing.
    """

    images: int
    trained: int
    batch: int
    product: int
    buffer: int
    epochs: int
    seeds: int
    timed: int


SIZES: dict[str, Sizes] = {
    "full": Sizes(10_000, 5_120, 128, 8192, 1 << 30, epochs=100, seeds=5, timed=40),
    "small": Sizes(1_000, 32, 16, 1024, 1 << 26, epochs=100, seeds=5, timed=10),
    "tiny": Sizes(40, 8, 4, 256, 1 << 20, epochs=3, seeds=2, timed=3),
}


@dataclass(frozen=True)
class Setup:
    """Arguments of a section.

    Attributes:
        device: "cuda" or "cpu". sizes: amount of work, a name of `SIZES`.
        subset, val: Fashion-MNIST at ten images per class, and its validation set.
        reference: accuracies of the CPU at full size, if the bundle has them.
        work: folder that sections share and that is removed at the end.
        seconds: time limit of the section.
    """

    device: str
    sizes: SizesName
    subset: str
    val: str
    reference: str
    work: str
    seconds: float

    @property
    def size(self) -> Sizes:
        """Return the amount of work."""
        return SIZES[self.sizes]

    @property
    def on_cuda(self) -> bool:
        """Return whether the device is a GPU."""
        return self.device == "cuda"

    @property
    def folder(self) -> Path:
        """Return the folder that sections share."""
        return Path(self.work)

    def text(self) -> str:
        """Return the setup as JSON, for a section's process."""
        return json.dumps(asdict(self))
