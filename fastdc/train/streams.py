"""The batches of an evaluation: of its K trainings, and of its validations."""

from collections.abc import Iterator, Sequence

from fastdc.beton.hints import METHOD, tile_crop
from fastdc.common.errors import ConfigError
from fastdc.common.keys import derive_seed
from fastdc.common.threads import loader_cpus
from fastdc.loader import Batch, EvalView, Loader, LoaderRequest, TrainView, ViewRequest, open_loader, open_stream
from fastdc.nn.device import Compute
from fastdc.nn.fit_loop import Epochs
from fastdc.train.data_pair import Pair
from fastdc.train.evaluate_settings import EvaluateSettings
from fastdc.train.labels.batch_pool import PooledEpochs
from fastdc.train.labels.layout import LabelLayout
from fastdc.train.labels.targets import stream_seed

VALIDATION_BATCH = 256
"""Images per validation batch. It matters for speed only, because BatchNorm's statistics are fixed in eval mode."""


def open_training_loader(
    pair: Pair, settings: Sequence[EvaluateSettings], compute: Compute, streams: int = 1
) -> Loader:
    """Open the subset as one stream with the training views of every network.

    Args:
        pair: the data sets.
        settings: settings of each network.
        compute: device and precision.
        streams: streams that are read at once, and divide the CPUs.

    Raises:
        ConfigError: the networks take different numbers of views per image and epoch, so their steps differ. Or the
            loader is `device` and there is no GPU. It would be slow there, and its pixels, which may differ by one
            level, would change results.
    """
    first, views = settings[0], sorted({pair.views(each) for each in settings})
    if first.loader == "device" and compute.device.type == "cpu":
        raise ConfigError("loader device: needs a CUDA device, found only the CPU; use auto, ffcv or resident")
    if len(views) > 1:
        raise ConfigError(
            f"networks trained together take {' and '.join(map(str, views))} views of an image in an epoch, expected "
            "one number for all; train them one by one (together: never)"
        )
    return open_stream(
        LoaderRequest(
            pair.subset,
            tuple(ViewRequest(training_view(pair, each), _stream_seed(each)) for each in settings),
            batch_size=first.protocol.batch_for(len(pair.stored.ids)),
            order_seed=_order_seed(first),
            shuffle=True,
            visits=views[0],
            engine=first.loader,
            workers=first.loader_workers or max(loader_cpus() // streams, 1),
            device=compute.device,
        )
    )


def open_val_loader(pair: Pair, settings: EvaluateSettings, compute: Compute) -> Loader:
    """Open the validation set at the protocol's resize."""
    size = pair.side(settings)
    view = EvalView(size, round(size * settings.protocol.validate_resize))
    return open_loader(
        pair.val, view, batch_size=VALIDATION_BATCH, workers=settings.loader_workers, device=compute.device
    )


def training_view(pair: Pair, settings: EvaluateSettings) -> TrainView:
    """Return the training view: the protocol's crop, inside the tiles that the hints or `augment` name.

    The protocol's share of whole mosaics applies where the hints are followed and do not give one.
    """
    protocol, hints = settings.protocol, pair.stored.hints
    rule = tile_crop(settings.augment, hints)
    if settings.augment == METHOD and rule.grid > 1 and "tile_whole" not in hints:
        rule = rule._replace(whole=protocol.whole_share(rule.grid))
    return TrainView(
        pair.side(settings),
        (protocol.crop_scale_min, 1.0),
        flip=protocol.flip,
        tile_grid=rule.grid,
        tile_whole=rule.whole,
        tile_align=rule.align,
        tile_scale=rule.scale,
    )


def _stream_seed(settings: EvaluateSettings) -> int:
    return stream_seed(settings.protocol, settings.seed)


def _order_seed(settings: EvaluateSettings) -> int:
    """Return the seed of the sample order: the stream's own, or one that all training seeds share."""
    shared = settings.protocol.order == "shared" and settings.protocol.labels != "stored"
    return derive_seed(0, "shared order") if shared else _stream_seed(settings)


class OneOf:
    """Source of the batches of training `number` alone, from a stream of several."""

    def __init__(self, stream: Epochs, number: int) -> None:
        self.stream, self.number = stream, number

    def epoch_views(self, epoch: int, start: int = 0) -> Iterator[tuple[Batch, ...]]:
        """See `Loader.epoch_views`."""
        return ((batches[self.number],) for batches in self.stream.epoch_views(epoch, start))


def pooled(stream: Epochs, pair: Pair, settings: EvaluateSettings) -> Epochs:
    """Return the trainings' source of batches: the stream itself, or a pool of its batches if labels are pruned."""
    protocol = settings.protocol
    if protocol.labels != "stored" or protocol.label_ratio == 1:
        return stream
    return PooledEpochs(
        stream, LabelLayout(protocol, len(pair.stored.ids), len(pair.stored.classes), pair.views(settings))
    )
