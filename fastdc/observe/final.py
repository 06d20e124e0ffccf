"""The record of the pass at the end of an observer's training: outputs and features of every sample. No torch."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastdc.errors import ManifestError
from fastdc.files import write_atomic
from fastdc.kernels.fields import EXACT_FIELDS, FINAL_FIELDS

INDEX_NAME = "final.json"
SCALARS_NAME, EXACT_NAME, FEATURES_NAME, OUTPUTS_NAME = "final.f32", "final_exact.f32", "features.f16", "outputs.f16"


@dataclass(frozen=True)
class FinalPass:
    """What the trained observer says of every training image, in eval mode, on its validation view.

    Attributes:
        folder: where its files lie.
        epoch: whole epochs of training before it.
        seconds: its wall time.
        num_samples: N. width: D, length of the penultimate features. num_classes: C.
        has_outputs: whether the probabilities were kept.
        exact: whether `EXACT_FIELDS` were kept; a pass of fastdc 0.1 has none.
    """

    folder: Path
    epoch: int
    seconds: float
    num_samples: int
    width: int
    num_classes: int
    has_outputs: bool
    exact: bool = True

    def field(self, name: str) -> NDArray[np.float32]:
        """One scalar of every sample, float32 [N], memory-mapped; a name of `FINAL_FIELDS` or `EXACT_FIELDS`.

        Raises:
            ManifestError: it was not kept.
        """
        if name in EXACT_FIELDS and not self.exact:
            raise ManifestError(
                f"{self.folder}: its final pass is of fastdc 0.1 and lacks {name}; observe again for a method that "
                "reads it"
            )
        file, fields = (EXACT_NAME, EXACT_FIELDS) if name in EXACT_FIELDS else (SCALARS_NAME, FINAL_FIELDS)
        shape = (len(fields), self.num_samples)
        found: NDArray[np.float32] = np.memmap(self.folder / file, "<f4", "r", shape=shape)[fields.index(name)]
        return found

    def features(self) -> NDArray[np.float16]:
        """Penultimate features (the input of the last linear layer), float16 [N, D], memory-mapped."""
        return np.memmap(self.folder / FEATURES_NAME, "<f2", "r", shape=(self.num_samples, self.width))

    def outputs(self) -> NDArray[np.float16]:
        """Softmax probabilities, float16 [N, C], memory-mapped.

        Raises:
            ManifestError: they were not kept.
        """
        if not self.has_outputs:
            raise ManifestError(
                f"{self.folder}: probabilities were not kept; observe again for a method that reads them"
            )
        return np.memmap(self.folder / OUTPUTS_NAME, "<f2", "r", shape=(self.num_samples, self.num_classes))


def commit_final(final: FinalPass) -> None:
    """Record that the pass is whole; its arrays must be on disk."""
    content = {name: value for name, value in asdict(final).items() if name not in ("folder", "exact")}
    content["fields"] = FINAL_FIELDS + EXACT_FIELDS * final.exact
    write_atomic(final.folder / INDEX_NAME, json.dumps(content, indent=1, sort_keys=True).encode())


def load_final(folder: Path) -> FinalPass | None:
    """The final pass in `folder`, or None when none was committed there.

    Raises:
        ManifestError: the record is damaged, or an array is shorter than it says.
    """
    path = folder / INDEX_NAME
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        fields = tuple(content.pop("fields"))
        final = FinalPass(folder, **content, exact=fields != FINAL_FIELDS)
        expected = _sizes(final)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{path}: not a final pass ({error}); delete it and observe again") from error
    for name, size in expected.items():
        file = folder / name
        found = file.stat().st_size if file.exists() else 0
        if fields != FINAL_FIELDS + EXACT_FIELDS * final.exact or found != size:
            raise ManifestError(f"{file}: {found} bytes, expected {size}; delete {path} and observe again")
    return final


def _sizes(final: FinalPass) -> dict[str, int]:
    """Bytes of every array."""
    sizes = {
        SCALARS_NAME: 4 * len(FINAL_FIELDS) * final.num_samples,
        FEATURES_NAME: 2 * final.num_samples * final.width,
    }
    if final.exact:
        sizes[EXACT_NAME] = 4 * len(EXACT_FIELDS) * final.num_samples
    if final.has_outputs:
        sizes[OUTPUTS_NAME] = 2 * final.num_samples * final.num_classes
    if not (final.num_samples > 0 and final.width > 0 and math.isfinite(final.seconds)):
        raise ValueError(f"{final.num_samples} samples of width {final.width}")
    return sizes
