"""Record of the final pass of an observer: outputs and features of every training image. Imports no torch."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdc.common.errors import ManifestError
from fastdc.common.files import write_atomic
from fastdc.kernels.scores.fields import EXACT_FIELDS, FINAL_FIELDS

INDEX_NAME = "final.json"
SCALARS_NAME, EXACT_NAME, FEATURES_NAME, OUTPUTS_NAME = "final.f32", "final_exact.f32", "features.f16", "outputs.f16"


@dataclass(frozen=True)
class FinalPass:
    """Outputs and features of the trained observer for every training image, in eval mode on the validation view.

    Attributes:
        folder: folder of its files.
        epoch: whole epochs of training before it.
        seconds: wall time of the pass.
        num_samples: N, number of training images.
        width: D, length of the penultimate features.
        num_classes: C, number of classes.
        has_outputs: whether the probabilities were kept.
        exact: whether `EXACT_FIELDS` were kept; fastdc 0.1 did not keep them.
    """

    folder: Path
    epoch: int
    seconds: float
    num_samples: int
    width: int
    num_classes: int
    has_outputs: bool
    exact: bool = True

    def files(self) -> dict[str, tuple[str, tuple[int, int]]]:
        """Return the dtype and shape of each file."""
        files = {SCALARS_NAME: ("<f4", (len(FINAL_FIELDS), self.num_samples))}
        files |= {EXACT_NAME: ("<f4", (len(EXACT_FIELDS), self.num_samples))} if self.exact else {}
        files |= {FEATURES_NAME: ("<f2", (self.num_samples, self.width))}
        return files | ({OUTPUTS_NAME: ("<f2", (self.num_samples, self.num_classes))} if self.has_outputs else {})

    def _map(self, name: str) -> NDArray[Any]:
        dtype, shape = self.files()[name]
        return np.memmap(self.folder / name, dtype, "r", shape=shape)

    def field(self, name: str) -> NDArray[np.float32]:
        """Return one scalar of every sample, float32 [N], memory-mapped.

        Args:
            name: one of `FINAL_FIELDS` or `EXACT_FIELDS`.

        Raises:
            ManifestError: the pass did not keep this field.
        """
        if name in EXACT_FIELDS and not self.exact:
            raise ManifestError(
                f"{self.folder}: its final pass is of fastdc 0.1 and lacks {name}; observe again for a method that "
                "reads it"
            )
        file, fields = (EXACT_NAME, EXACT_FIELDS) if name in EXACT_FIELDS else (SCALARS_NAME, FINAL_FIELDS)
        row: NDArray[np.float32] = self._map(file)[fields.index(name)]
        return row

    def features(self) -> NDArray[np.float16]:
        """Return the penultimate features (input of the last linear layer), float16 [N, D], memory-mapped."""
        return self._map(FEATURES_NAME)

    def outputs(self) -> NDArray[np.float16]:
        """Return the softmax probabilities, float16 [N, C], memory-mapped.

        Raises:
            ManifestError: the pass did not keep them.
        """
        if not self.has_outputs:
            raise ManifestError(
                f"{self.folder}: probabilities were not kept; observe again for a method that reads them"
            )
        return self._map(OUTPUTS_NAME)


def commit_final(final: FinalPass) -> None:
    """Write the index that declares the pass complete; its arrays must be on disk already."""
    # `exact` shows in the list of fields, so that an index of fastdc 0.1 has the same form.
    content = {name: value for name, value in asdict(final).items() if name not in ("folder", "exact")}
    content["fields"] = FINAL_FIELDS + EXACT_FIELDS * final.exact
    write_atomic(final.folder / INDEX_NAME, json.dumps(content, indent=1, sort_keys=True).encode())


def load_final(folder: Path) -> FinalPass | None:
    """Load the final pass in `folder`, or return None if none was committed.

    Raises:
        ManifestError: the record is damaged, or an array has another size than it states.
    """
    path = folder / INDEX_NAME
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        fields = tuple(content.pop("fields"))
        final = FinalPass(folder, **content, exact=fields != FINAL_FIELDS)
        if not (final.num_samples > 0 and final.width > 0 and math.isfinite(final.seconds)):
            raise ValueError(f"{final.num_samples} samples of width {final.width}")
        files = final.files()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{path}: not a final pass ({error}); delete it and observe again") from error
    expected = FINAL_FIELDS + EXACT_FIELDS * final.exact
    if fields != expected:
        raise ManifestError(f"{path}: has fields {fields}, expected {expected}; delete it and observe again")
    for name, (dtype, (rows, columns)) in files.items():
        file, size = folder / name, rows * columns * np.dtype(dtype).itemsize
        found = file.stat().st_size if file.exists() else 0
        if found != size:
            raise ManifestError(f"{file}: {found} bytes, expected {size}; delete {path} and observe again")
    return final
