"""Contender: NVIDIA DALI's CPU pipeline, as in its ImageNet example: crop while decoding, resize, mirror, normalise."""

from typing import Any

import torch
from harness.race import Outcome
from nvidia.dali import fn as dali_operations
from nvidia.dali import types as dali_types
from nvidia.dali.pipeline import pipeline_def
from nvidia.dali.plugin.base_iterator import LastBatchPolicy
from nvidia.dali.plugin.pytorch import DALIGenericIterator

from contenders.delivered import Delivered

fn: Any = dali_operations  # DALI fills these modules at run time, which type checkers cannot see
types: Any = dali_types
MEAN = [0.485 * 255, 0.456 * 255, 0.406 * 255]
STD = [0.229 * 255, 0.224 * 255, 0.225 * 255]


@pipeline_def(enable_conditionals=False)
def train_pipeline(folder: str, size: int) -> Any:
    """Define a pipeline from JPEG files of a folder to normalised views, float32 [3, S, S], and labels."""
    encoded, labels = fn.readers.file(file_root=folder, random_shuffle=True, name="Reader")
    images = fn.decoders.image_random_crop(
        encoded, device="cpu", output_type=types.RGB, random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3]
    )
    images = fn.resize(images, size=[size, size], interp_type=types.INTERP_LINEAR, antialias=True)
    images = fn.crop_mirror_normalize(
        images, dtype=types.FLOAT, output_layout="CHW", mean=MEAN, std=STD, mirror=fn.random.coin_flip()
    )
    return images, labels


class Epoch:
    """Runner of epochs over all images."""

    def __init__(self, folder: str, size: int, batch_size: int = 128) -> None:
        self._settings: dict[str, Any] = {"folder": folder, "size": size, "batch_size": batch_size}
        self._batches: Any = None

    def prepare(self, workers: int) -> None:
        """Build the pipeline with this number of threads and no GPU."""
        torch.set_num_threads(1)
        pipeline = train_pipeline(**self._settings, num_threads=workers, device_id=None, seed=0)
        self._batches = DALIGenericIterator(
            pipeline, ["images", "labels"], reader_name="Reader", last_batch_policy=LastBatchPolicy.PARTIAL
        )

    def repeat(self, share: float) -> Outcome:
        """Run a complete epoch whatever the share, because an interrupted epoch would continue in the next."""
        delivered = Delivered()
        for batch in self._batches:
            delivered.take(batch[0]["images"], batch[0]["labels"])
        self._batches.reset()
        return Outcome(delivered.images, facts=delivered.facts)

    def check(self) -> dict[str, Any]:
        """Check nothing; the facts hold the counts."""
        return {}
