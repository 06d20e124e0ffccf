"""The request for a compressed set: everything that determines it, checked before any work. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from fastdc._version import __version__
from fastdc.beton import Manifest, describe_beton
from fastdc.common.choices import OrderName, Precision
from fastdc.common.errors import ConfigError, MethodError
from fastdc.common.keys import content_key
from fastdc.common.machine import guess_device
from fastdc.common.precision import precision_key, resolve_precision
from fastdc.common.threads import usable_cpus
from fastdc.methods import Method, MethodConfig, get_method, variant_name
from fastdc.methods.bases.method import check_budget
from fastdc.methods.bases.method_config import plain_value
from fastdc.observe import ObserverConfig, choose_observer
from fastdc.observe.record_needs import ObserverNeeds
from fastdc.subsets.store_subset import STORAGE_VERSION
from fastdc.teachers.names import plan_teacher
from fastdc.teachers.plan import TeacherPlan, check_batch_norm, check_order_used, check_side

DEFAULT_IMAGE_SIZE = 224
"""Default side of stored images in pixels."""


@dataclass(frozen=True, kw_only=True)
class SubsetRequest:
    """Request for one compressed set.

    `make` builds a checked request from names. A sweep checks its methods once and skips those that cannot run, so it
    calls the constructor with the parts of its plan, and `dataclasses.replace` for further IPCs and seeds.

    Attributes:
        method, config: the method and its checked settings.
        variant: name of the method under these settings, for the manifest.
        train, manifest: the training set.
        workdir: folder of observers and of unfinished images.
        ipc: stored images per class; ignored, like `image_size`, by methods that store the whole set.
        seed: subset seed; ignored by methods that are not stochastic.
        image_size: side S of the stored images in pixels.
        observer: the observer that the method reads, or runs as a teacher.
        teachers: the networks that the method runs; see `plan_teachers`.
        teacher_order: class order of the outputs of teachers whose files do not name their classes; None for the data
            set's.
        precision: number format of these networks.
        threads: their CPU threads; 0 takes all usable ones.
        device: where they run; None guesses it.
    """

    method: Method
    config: MethodConfig
    variant: str
    train: Path
    manifest: Manifest
    workdir: Path
    ipc: int | None
    seed: int = 0
    image_size: int = DEFAULT_IMAGE_SIZE
    observer: ObserverConfig
    teachers: tuple[TeacherPlan, ...] = ()
    teacher_order: OrderName | None = None
    precision: Precision = "auto"
    threads: int = 0
    device: str | None = None

    @classmethod
    def make(
        cls,
        method: str,
        train: Path,
        *,
        workdir: Path,
        ipc: int,
        seed: int = 0,
        image_size: int = DEFAULT_IMAGE_SIZE,
        settings: Mapping[str, Any] | None = None,
        observer: ObserverConfig | Mapping[str, Any] | None = None,
        teacher_order: OrderName | None = None,
        precision: Precision = "auto",
        threads: int = 0,
    ) -> Self:
        """Build a request from names, and refuse whatever can be known to fail without training.

        Args:
            settings: the method's settings.
            observer: the observer, or settings from which `choose_observer` chooses it.

        Raises:
            MethodError: unknown method, IPC out of range for the smallest class, or an observer that does not fit.
            ConfigError: unknown setting, or value out of range.
            TeacherError: a teacher does not accept images of this size.
            BetonError, ManifestError: the training set is damaged.
        """
        chosen = get_method(method)
        config = chosen.configure(settings or {})
        if ipc < 1:
            raise MethodError(f"method {method}: ipc={ipc}; expected at least 1 image per class")
        if image_size < 8:
            raise ConfigError(f"image_size={image_size}: expected at least 8 px")
        manifest = describe_beton(train)
        check_budget(chosen, config, manifest.classes, manifest.counts, ipc, image_size)
        if not isinstance(observer, ObserverConfig):
            observer = choose_observer(train, manifest.content_hash, workdir, observer, {"image_size": image_size})
        check_observer(chosen, config, observer)
        teachers = plan_teachers(chosen, config, manifest, observer, image_size, teacher_order)
        check_order_used(teacher_order, teachers)
        return cls(
            method=chosen,
            config=config,
            variant=variant_name(method, settings or {}),
            train=train,
            manifest=manifest,
            workdir=workdir,
            ipc=ipc,
            seed=seed,
            image_size=image_size,
            observer=observer,
            teachers=teachers,
            teacher_order=teacher_order,
            precision=precision,
            threads=threads,
        )

    @property
    def observed(self) -> bool:
        """Return whether the method reads the observer's record."""
        return self.method.observed(self.config)

    @property
    def needs(self) -> ObserverNeeds:
        """Return the parts of the observer's record that the method reads."""
        return self.method.observer_needs(self.config)

    @property
    def trains_observer(self) -> bool:
        """Return whether the observer is trained if it is missing, for its record or as a teacher."""
        return self.observed or any(plan.is_observer for plan in self.teachers)

    def identity(self) -> dict[str, Any]:
        """Return all inputs that determine the set, as plain data."""
        method, train_hash = self.method, self.manifest.content_hash
        runs = [self.observer.identity(train_hash, run) for run in range(self.observer.runs)] if self.observed else None
        networks = {
            "teachers": [plan.identity for plan in self.teachers],
            "machine": machine_identity(self.precision, self.threads, self.device),
        }
        return {
            "storage": STORAGE_VERSION,
            "train": train_hash,
            "method": method.info.name,
            "version": method.version,
            "config": self.config.identity(),
            "ipc": None if method.info.whole_set else self.ipc,
            "seed": self.seed if method.stochastic(self.config) else 0,
            "image_size": None if method.info.whole_set else self.image_size,
            "observer": runs,
            **(networks if self.teachers else {}),
        }

    def provenance(self) -> dict[str, Any]:
        """Return what the manifest of the set records about its making."""
        order = {} if self.teacher_order is None else {"teacher_order": self.teacher_order}
        tool = {"tool": "fastdc", "version": __version__, "command": "compress"}
        return {**tool, **self.identity(), "variant": self.variant, **order}

    given: ClassVar[None] = None
    """No file is given, because a method's set has to be made; see `ExternalRequest.given`."""

    @property
    def images(self) -> int:
        """Return the number of images that the set will have."""
        return sum(self.manifest.counts) if self.ipc is None else self.ipc * len(self.manifest.classes)

    @property
    def key(self) -> str:
        """Return the content key of `identity`, which names the set."""
        return content_key(self.identity())


def plan_teachers(
    method: Method,
    config: MethodConfig,
    manifest: Manifest,
    observer: ObserverConfig,
    image_size: int,
    order: OrderName | None = None,
) -> tuple[TeacherPlan, ...]:
    """Return the networks that a method runs, checked without loading them.

    Raises:
        MethodError, ConfigError: a network is unknown, has other classes or no file, rejects this image size, or lacks
            a BatchNorm that the method needs.
    """
    plans = tuple(plan_teacher(spec, manifest, observer, order) for spec in method.teachers(config))
    for plan in plans:
        check_side(plan, image_size)
        if "bn_statistics" in method.info.needs:
            check_batch_norm(plan)
    return plans


def check_observer(method: Method, config: MethodConfig, observer: ObserverConfig) -> None:
    """Refuse, before any training, a method whose epochs or windows do not fit the observer's schedule.

    Raises:
        MethodError: the method reads later epochs than the observer has, or fewer epochs than its windows need.
    """
    needs = method.observer_needs(config)
    needed = max(needs.epochs, needs.tdds)
    if needed > observer.epochs:
        raise MethodError(
            f"method {method.info.name}: reads the observer's epochs up to {needed}, its schedule has "
            f"{observer.epochs}; give --observer epochs={needed}, or lower the method's last_epoch (in a sweep --set "
            f"{method.info.name}.last_epoch={observer.epochs}, for compress --set last_epoch={observer.epochs})"
        )
    read, shortest = needed if needed > 0 else observer.epochs, method.shortest_log(config)
    if read < shortest:
        given = ", ".join(f"{name}={plain_value(value)}" for name, value in config if not config.is_default(name))
        raise MethodError(
            f"method {method.info.name}: its windows need {shortest} epochs of the observer, it reads {read}; "
            f"give --observer epochs={shortest} or more, or change the settings that read fewer"
            + (f"; the settings are {given}" if given else "")
        )


def machine_identity(precision: Precision, threads: int, device: str | None = None) -> dict[str, Any]:
    """Return what computed values depend on besides their inputs: device, precision and, on a CPU, threads."""
    device = device or guess_device()
    return {
        "device": device,
        "precision": precision_key(resolve_precision(precision, device), device),
        # Sums over another number of threads round differently.
        "threads": threads or usable_cpus() if device == "cpu" else None,
    }
