"""From a method's name to a stored subset: observe what is missing, run the method, write the beton."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastdc
from fastdc.beton import (
    BetonFile,
    Manifest,
    Sample,
    check_beton_output,
    describe_beton,
    encode_jpeg,
    fit_image,
    write_samples,
)
from fastdc.errors import ConfigError, MethodError
from fastdc.methods import Compressed, Method, MethodConfig, MethodContext, get_method, variant_name
from fastdc.methods.base import check_budget
from fastdc.observe import Observation, ObserverConfig, choose_observer

STORED_QUALITY = 75
"""JPEG quality of stored images, 4:2:0, the same for every method so that accuracy per byte compares like with like."""

STORAGE_VERSION = 1
"""Raised whenever the same images are stored as other bytes; part of every cache key."""


@dataclass(frozen=True)
class CompressResult:
    """A stored subset.

    Attributes:
        manifest: what was written.
        seconds: wall time of "observer" (training up to the last epoch that the method reads, also when it was
            cached), "selection" (scores, choice) and "writing" (images made, encoded, written).
    """

    manifest: Manifest
    seconds: dict[str, float]


def compress_identity(
    method: str,
    settings: Mapping[str, Any],
    train_content_hash: str,
    ipc: int | None,
    seed: int,
    image_size: int,
    observer: ObserverConfig,
) -> dict[str, Any]:
    """Everything that a subset depends on, as plain data; its `content_key` names the subset.

    Raises:
        MethodError, ConfigError: unknown method or setting.
    """
    chosen = get_method(method)
    config = chosen.configure(settings)
    observed = "dynamics" in chosen.info.needs
    return {
        "storage": STORAGE_VERSION,
        "train": train_content_hash,
        "method": method,
        "version": chosen.version,
        "config": config.model_dump(mode="json"),
        "ipc": None if chosen.info.whole_set else ipc,
        "seed": seed if chosen.info.stochastic else 0,
        "image_size": None if chosen.info.whole_set else image_size,
        "observer": [observer.identity(train_content_hash, run) for run in range(observer.runs)] if observed else None,
    }


def compress_beton(
    method: str,
    train: Path,
    out: Path,
    *,
    ipc: int,
    seed: int = 0,
    image_size: int = 224,
    settings: Mapping[str, Any] | None = None,
    workdir: Path,
    observer: ObserverConfig | None = None,
    force: bool = False,
    show_progress: bool = False,
) -> CompressResult:
    """Compress `train` to `ipc` images per class and store them at `out`, S x S, JPEG q75 4:2:0.

    The whole set (method `full`) is stored as it is, byte for byte.

    Args:
        ipc: stored images per class, at least 1.
        seed: subset seed; only stochastic methods depend on it.
        image_size: side S in pixels.
        settings: the method's settings.
        workdir: where observers are kept.
        observer: how to train the observer, where the method needs one; None takes `choose_observer`'s.

    Raises:
        MethodError: unknown method, IPC out of range for the smallest class.
        ConfigError: unknown setting or value out of range.
        OutputError: `out` exists and `force` is false, or cannot be written.
    """
    chosen = get_method(method)
    config = chosen.configure(settings or {})
    if ipc < 1:
        raise MethodError(f"method {method}: ipc={ipc}; expected at least 1 image per class")
    if image_size < 8:
        raise ConfigError(f"image_size={image_size}: expected at least 8 px")
    check_beton_output(out, force, [train])
    manifest = describe_beton(train)
    check_budget(chosen, config, manifest.classes, manifest.counts, ipc)
    if observer is None:
        observer = choose_observer(train, manifest.content_hash, workdir, defaults={"image_size": image_size})
    check_observer(chosen, config, observer)
    with BetonFile(train) as beton:
        observations = _observe(chosen, config, train, workdir, observer, show_progress)
        context = MethodContext(
            labels=beton.labels,
            classes=manifest.classes,
            image_size=image_size,
            image=beton.decode,
            observations=observations,
        )
        start = time.monotonic()
        compressed = chosen.compress(context, config, ipc, seed)
        selected = time.monotonic()
        made = {
            "tool": "fastdc",
            "version": fastdc.__version__,
            "command": "compress",
            **compress_identity(method, settings or {}, manifest.content_hash, ipc, seed, image_size, observer),
            "variant": variant_name(method, settings or {}),
            "details": compressed.details,
        }
        stored = write_samples(
            out,
            _samples(chosen, config, compressed, beton, manifest, image_size),
            classes=manifest.classes,
            dataset=manifest.dataset,
            split=manifest.split,
            source=f"{manifest.dataset} {manifest.content_hash}",
            made=made,
            hints=compressed.hints,
            force=force,
        )
    seconds = {
        "observer": sum(observation.seconds(chosen.observer_epochs(config)) for observation in observations),
        "selection": selected - start,
        "writing": time.monotonic() - selected,
    }
    return CompressResult(stored, seconds)


def check_observer(method: Method, config: MethodConfig, observer: ObserverConfig) -> None:
    """Refuse, before any training, a method that reads later epochs than the observer has.

    Raises:
        MethodError: names both.
    """
    needed = method.observer_epochs(config)
    if needed > observer.epochs:
        raise MethodError(
            f"method {method.info.name}: reads the observer's epochs up to {needed}, its schedule has "
            f"{observer.epochs}; lower last_epoch or raise the observer's epochs"
        )


def _observe(
    method: Method,
    config: MethodConfig,
    train: Path,
    workdir: Path,
    observer: ObserverConfig,
    show_progress: bool,
) -> tuple[Observation, ...]:
    epochs = method.observer_epochs(config)
    if "dynamics" not in method.info.needs or epochs == 0:
        return ()
    from fastdc.observe.run import observe  # torch, only where a training is needed

    return observe(train, workdir, observer, stop_after=epochs, show_progress=show_progress)


def _samples(
    method: Method,
    config: MethodConfig,
    compressed: Compressed,
    beton: BetonFile,
    manifest: Manifest,
    image_size: int,
) -> Iterator[Sample]:
    ids = ["+".join(manifest.ids[index] for index in row) for row in compressed.sources]
    if method.info.whole_set:
        for name, label, row in zip(ids, compressed.labels, compressed.sources, strict=True):
            index = int(row[0])
            raw = beton.modes[index] == 1
            yield Sample(beton.decode(index) if raw else bytes(beton.payload(index)), int(label), name)
        return
    if compressed.images is not None:
        images = compressed.images()
    else:
        images = (fit_image(beton.decode(int(row[0])), image_size, config.fit) for row in compressed.sources)
    for image, label, name in zip(images, compressed.labels, ids, strict=True):
        yield Sample(encode_jpeg(image, STORED_QUALITY), int(label), name)
