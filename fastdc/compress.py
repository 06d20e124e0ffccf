"""From a method's name to a stored subset: observe what is missing, run the method, write the beton."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
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
from fastdc.files import check_output
from fastdc.hashing import content_key
from fastdc.lists import list_path, read_list, write_list
from fastdc.methods import Compressed, Method, MethodConfig, MethodContext, get_method, variant_name
from fastdc.methods.base import Fit, check_budget
from fastdc.observe import Observation, ObserverConfig, choose_observer
from fastdc.observe.needs import ObserverNeeds

STORED_QUALITY = 75
"""JPEG quality of stored images, 4:2:0, the same for every method so that accuracy per byte compares like with like."""

STORAGE_VERSION = 1
"""Raised whenever the same images are stored as other bytes; part of every cache key."""


@dataclass(frozen=True)
class CompressResult:
    """A stored subset.

    Attributes:
        manifest: what was written.
        seconds: wall time of "observer" (what the parts of the record that the method reads took, also when they were
            there already), "scoring", "selection" and "writing" (images made, encoded, written).
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
    observed = chosen.info.observed
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
    also: ObserverNeeds | None = None,
    force: bool = False,
    show_progress: bool = False,
) -> CompressResult:
    """Compress `train` to `ipc` images per class and store them at `out`, S x S, JPEG q75 4:2:0.

    Beside it goes X.list.tsv: the kept training images with class and, where the method has one, score. The whole set
    (method `full`) is stored as it is, byte for byte.

    Args:
        ipc: stored images per class, at least 1.
        seed: subset seed; only stochastic methods depend on it.
        image_size: side S in pixels.
        settings: the method's settings.
        workdir: where observers are kept.
        observer: how to train the observer, where the method needs one; None takes `choose_observer`'s.
        also: what other methods will read of the same observer, so that one training keeps it all.

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
    check_output(list_path(out), force)
    manifest = describe_beton(train)
    check_budget(chosen, config, manifest.classes, manifest.counts, ipc)
    if observer is None:
        observer = choose_observer(train, manifest.content_hash, workdir, defaults={"image_size": image_size})
    check_observer(chosen, config, observer)
    with BetonFile(train) as beton:
        needs = chosen.observer_needs(config)
        observations = _observe(chosen, train, workdir, observer, needs, also, show_progress)
        context = MethodContext(
            labels=beton.labels,
            classes=manifest.classes,
            image_size=image_size,
            image=beton.decode,
            observations=observations,
        )
        start = time.monotonic()
        context = replace(context, scores=chosen.scores(context, config))
        scored = time.monotonic()
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
        fit = None if chosen.info.whole_set else config.fit
        stored = store_compressed(out, compressed, beton, manifest, fit, image_size, made, force)
        write_list(list_path(out), manifest, beton.labels, compressed.sources.ravel().tolist(), context.scores)
    seconds = {
        "observer": sum(observation.cost(needs, observer.epochs) for observation in observations),
        "scoring": scored - start,
        "selection": selected - scored,
        "writing": time.monotonic() - selected,
    }
    return CompressResult(stored, seconds)


def compress_list(
    source: Path,
    train: Path,
    out: Path,
    *,
    image_size: int = 224,
    fit: Fit = "crop",
    force: bool = False,
) -> Manifest:
    """Store the training images that a list names, as `compress_beton` would have stored them, in the list's order.

    X.list.tsv beside it names them again, so that none of an earlier subset stays; where that is `source`, it is left
    as it is.

    Args:
        source: the list; see `fastdc.lists.read_list`.
        fit: how an image becomes S x S.

    Raises:
        MethodError: an entry of the list is not usable; names its line.
        OutputError: `out` exists and `force` is false, or cannot be written.
    """
    check_beton_output(out, force, [train, source])
    listed = list_path(out)
    own = listed.exists() and source.exists() and listed.samefile(source)
    if not own:
        check_output(listed, force)
    manifest = describe_beton(train)
    with BetonFile(train) as beton:
        chosen = read_list(source, manifest, beton.labels)
        compressed = Compressed(beton.labels[chosen], chosen[:, None])
        made = {
            "tool": "fastdc",
            "version": fastdc.__version__,
            "command": "compress from-list",
            "storage": STORAGE_VERSION,
            "train": manifest.content_hash,
            "list": content_key(chosen.tolist()),
            "fit": fit,
            "image_size": image_size,
            "variant": "from-list",
        }
        stored = store_compressed(out, compressed, beton, manifest, fit, image_size, made, force)
        if not own:
            write_list(listed, manifest, beton.labels, chosen.tolist(), None)
    return stored


def store_compressed(
    out: Path,
    compressed: Compressed,
    beton: BetonFile,
    manifest: Manifest,
    fit: Fit | None,
    image_size: int,
    made: dict[str, Any],
    force: bool,
) -> Manifest:
    """Write a compressed set as a beton.

    Args:
        beton, manifest: the training set.
        fit: how a kept image becomes S x S; None stores it as it is.
        made: how, for the manifest.
    """
    return write_samples(
        out,
        _samples(compressed, beton, manifest, fit, image_size),
        classes=manifest.classes,
        dataset=manifest.dataset,
        split=manifest.split,
        source=f"{manifest.dataset} {manifest.content_hash}",
        made=made,
        hints=compressed.hints,
        force=force,
    )


def check_observer(method: Method, config: MethodConfig, observer: ObserverConfig) -> None:
    """Refuse, before any training, a method that reads later epochs than the observer has.

    Raises:
        MethodError: names both.
    """
    needs = method.observer_needs(config)
    needed = max(needs.epochs, needs.tdds)
    if needed > observer.epochs:
        raise MethodError(
            f"method {method.info.name}: reads the observer's epochs up to {needed}, its schedule has "
            f"{observer.epochs}; lower last_epoch or raise the observer's epochs"
        )
    read, shortest = needed if needed > 0 else observer.epochs, method.shortest_log(config)
    if read < shortest:
        raise MethodError(
            f"method {method.info.name}: its windows need {shortest} epochs of the observer, it reads {read}; "
            "raise the observer's epochs or last_epoch, or lower the window"
        )


def _observe(
    method: Method,
    train: Path,
    workdir: Path,
    observer: ObserverConfig,
    needs: ObserverNeeds,
    also: ObserverNeeds | None,
    show_progress: bool,
) -> tuple[Observation, ...]:
    """The records that the method reads, with what others need too, where this observer can serve them."""
    if not method.info.observed:
        return ()
    from fastdc.observe.run import observe  # torch, only where a training is needed

    try:
        return observe(train, workdir, observer, needs=needs | (also or needs), show_progress=show_progress)
    except MethodError:  # what the others need is none of this method's business
        if also is None or needs | also == needs:
            raise
        return observe(train, workdir, observer, needs=needs, show_progress=show_progress)


def _samples(
    compressed: Compressed, beton: BetonFile, manifest: Manifest, fit: Fit | None, image_size: int
) -> Iterator[Sample]:
    ids = ["+".join(manifest.ids[index] for index in row) for row in compressed.sources]
    if fit is None:
        for name, label, row in zip(ids, compressed.labels, compressed.sources, strict=True):
            index = int(row[0])
            raw = beton.modes[index] == 1
            yield Sample(beton.decode(index) if raw else bytes(beton.payload(index)), int(label), name)
        return
    if compressed.images is not None:
        images = compressed.images()
    else:
        images = (fit_image(beton.decode(int(row[0])), image_size, fit) for row in compressed.sources)
    for image, label, name in zip(images, compressed.labels, ids, strict=True):
        yield Sample(encode_jpeg(image, STORED_QUALITY), int(label), name)
