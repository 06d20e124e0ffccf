"""Measurement of layers' input statistics over a training set, of every class and of the set."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from fastdc.common.errors import MethodError, is_out_of_memory
from fastdc.common.keys import content_key
from fastdc.common.log import progress
from fastdc.loader import TrainView, open_loader
from fastdc.nn.device import Compute
from fastdc.recover.layer_statistics import Moments, Statistics, convolution_layers, image_moments, norm_layers
from fastdc.recover.recovery_recipe import ClassVariance, StatisticsSpec
from fastdc.teachers.resources import Teaching


class _Sums:
    """Running sums of the moments of single images, per row, in float64."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.sums: tuple[Tensor, Tensor, Tensor] | None = None

    def add(self, moments: Moments, places: Tensor) -> None:
        """Add images with moments [B, D] to the rows `places`, int64 [B]."""
        mean, variance = moments.mean.double(), moments.variance.double()
        if self.sums is None:
            empty = mean.new_zeros(self.rows, mean.shape[1])
            self.sums = (empty, empty.clone(), empty.clone())
        for total, values in zip(self.sums, (mean, mean.square(), variance), strict=True):
            total.index_add_(0, places, values)

    def by_class(self, counts: Tensor, variance: ClassVariance) -> Moments:
        """Return the moments of every row, float32 [C, D] each; `counts` holds the images per row, float64 [C]."""
        assert self.sums is not None
        return _moments([total / counts[:, None] for total in self.sums], variance)

    def of_set(self, counts: Tensor) -> Moments:
        """Return the moments over all rows, float32 [D] each."""
        assert self.sums is not None
        return _moments([total.sum(0) / counts.sum() for total in self.sums], "exact")


def _moments(averages: list[Tensor], variance: ClassVariance) -> Moments:
    """Combine averages over images: a variance is the mean variance within images plus the variance of their means."""
    mean, mean_square, within = averages
    # Rounding can make a variance of nearly equal means negative.
    between = (mean_square - mean.square()).clamp(min=0)
    return Moments(mean.float(), (within if variance == "released" else within + between).float())


def measure_statistics(
    model: nn.Module, train: Path, classes: int, spec: StatisticsSpec, compute: Compute, *, batch_size: int = 256
) -> Statistics:
    """Run a frozen network once over a training set, in eval mode on augmented views, as LPLD and G-VBSM do.

    Sums are kept in float64 over the moments of single images. Batch size and order therefore matter only through the
    rounding of the network itself.

    Args:
        model: on the compute device.
        train: the training set's beton.
        classes: number of classes C.
        spec: the statistics to measure.
        compute: device and precision.
        batch_size: views per forward pass.

    Raises:
        MethodError: a class has no image.
        LoaderError, BetonError: the training set cannot be read.
    """
    rows = classes if spec.by_class else 1
    counts = torch.zeros(rows, dtype=torch.float64, device=compute.device)
    view = TrainView(spec.image_size)
    with (
        open_loader(train, view, batch_size=batch_size, seed=spec.seed, device=compute.device) as loader,
        progress("layer statistics", loader.num_samples) as bar,
        torch.no_grad(),
        _summing(model, rows, spec) as (sums, current),
    ):
        for batch in loader.epoch(0):
            labels = batch.labels.to(compute.device)
            # In place, because the hooks read this list; without classes, all images go to row 0.
            current[:] = [labels if spec.by_class else torch.zeros_like(labels)]
            counts += torch.bincount(current[0], minlength=rows)
            compute.logits(model, compute.images(batch.images))
            bar.advance(len(labels))
    return _finish(sums, counts, spec)


def _finish(sums: dict[str, _Sums], counts: Tensor, spec: StatisticsSpec) -> Statistics:
    if (counts == 0).any():
        raise MethodError(f"layer statistics: class number {int((counts == 0).nonzero()[0])} has no training image")
    tensors: dict[str, Tensor] = {}
    for name, total in sums.items():
        scopes = {"set": total.of_set(counts)}
        if spec.by_class:
            scopes["class"] = total.by_class(counts, spec.class_variance)
        for scope, moments in scopes.items():
            tensors |= {f"{name}/{scope}/{field}": value for field, value in moments._asdict().items()}
    return Statistics(tensors)


@contextmanager
def _summing(model: nn.Module, rows: int, spec: StatisticsSpec) -> Iterator[tuple[dict[str, _Sums], list[Tensor]]]:
    """Attach hooks that add every forward pass to sums named "LAYER/kind".

    Yields:
        (the sums, a list with the rows of the current pass's images, which the caller sets).
    """
    sums: dict[str, _Sums] = {}
    current: list[Tensor] = []
    handles = []

    def watch(layer: nn.Module, name: str, patch: int) -> None:
        total = sums.setdefault(name, _Sums(rows))
        handles.append(layer.register_forward_pre_hook(lambda _m, x: total.add(image_moments(x[0], patch), current[0])))

    for name, norm in (norm_layers(model) if spec.norms else {}).items():
        watch(norm, f"{name}/channel", 0)
    for name, convolution in (convolution_layers(model) if spec.convolutions else {}).items():
        watch(convolution, f"{name}/channel", 0)
        watch(convolution, f"{name}/patch", spec.patch)
    try:
        yield sums, current
    finally:
        for handle in handles:
            handle.remove()


def teacher_statistics(teaching: Teaching, classes: int, spec: StatisticsSpec) -> tuple[Statistics, ...]:
    """Return the statistics of every teacher.

    They are cached in the scratch folder, so that a resumed recovery does not measure them again.

    Raises:
        MethodError: a class has no image; a batch of views does not fit into memory.
        LoaderError, BetonError: the training set cannot be read.
    """
    found = []
    for teacher in teaching.teachers:
        key = content_key({"teacher": teacher.identity, "precision": teaching.compute.key, **asdict(spec)}, 16)

        # The default argument binds this iteration's model.
        def measure(model: nn.Module = teacher.model) -> Statistics:
            return measure_statistics(
                model,
                teaching.train,
                classes,
                spec,
                teaching.compute,
                batch_size=64 if spec.convolutions else 256,  # small maps are enlarged to whole patches
            )

        try:
            kept = cached_statistics(teaching.scratch / f"statistics_{key}.safetensors", measure)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise MethodError(
                f"layer statistics: the training set's views of {spec.image_size} px do not fit into memory with "
                f"teacher {teacher.name}; free memory, or take a smaller teacher or --image-size"
            ) from error
        found.append(kept.to(teaching.compute.device))
    return tuple(found)


def cached_statistics(path: Path, measure: Callable[[], Statistics]) -> Statistics:
    """Return the statistics in `path`; if it is missing or damaged, measure them and write the file."""
    if path.exists():
        try:
            return Statistics(safetensors.torch.load_file(path))
        except (safetensors.SafetensorError, OSError):
            path.unlink(missing_ok=True)
    statistics = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    statistics.save(path)
    return statistics
