"""Kinds of parts that other packages can add, by entry points of the group `fastdc.KIND`: registries and suites."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

from fastdc.common.registry import Registry
from fastdc.conformance.suite import ConformanceError, Outcome, run_suite


class Kind(NamedTuple):
    """Kind of parts. Modules are named, because some import torch.

    Attributes:
        registry: function that returns the registry, as `module:function`.
        suite: the suite, as `module:class`.
        title: function that returns the line for lists of a part.
    """

    registry: str
    suite: str
    title: Callable[[Any], str]


KINDS = {
    "methods": Kind(
        "fastdc.methods:_registry",
        "fastdc.conformance.method_suite:MethodSuite",
        lambda method: method.info.paper or method.info.title,
    ),
    "architectures": Kind(
        "fastdc.nn.arch_names:architectures",
        "fastdc.conformance.architecture_suite:ArchitectureSuite",
        lambda architecture: architecture.title + ("" if architecture.batch_norm else "; no BatchNorm"),
    ),
    "protocols": Kind(
        "fastdc.train.protocols:protocols",
        "fastdc.conformance.protocol_suite:ProtocolSuite",
        lambda preset: preset.recipe.title,
    ),
    "sources": Kind(
        "fastdc.beton.sources.open_source:sources",
        "fastdc.conformance.source_suite:SourceSuite",
        lambda source: source.title,
    ),
    "trackers": Kind(
        "fastdc.track.trackers:all_trackers",
        "fastdc.conformance.tracker_suite:TrackerSuite",
        lambda tracker: tracker.title,
    ),
}


def _named(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def registry_of(kind: str) -> Registry[Any]:
    """Return the registry of a kind."""
    registry: Registry[Any] = _named(KINDS[kind].registry)()
    return registry


def outcomes(kind: str, name: str) -> Iterator[Outcome]:
    """Run the suite of a kind on the part called `name`, and yield the outcome of each check.

    Raises:
        FastDCError: no part has this name, or it is a plug-in that failed to load.
    """
    return run_suite(_named(KINDS[kind].suite), name)


def _check(kind: str, name: str) -> None:
    failed = [str(outcome) for outcome in outcomes(kind, name) if outcome.problem is not None]
    if failed:
        raise ConformanceError("\n".join([f"{kind}: {name}", *failed]))


def check_method(name: str) -> None:
    """Run the conformance suite of methods.

    Args:
        name: a method, or a variant of it with settings: `mine[iterations=2]`.

    Raises:
        ConformanceError: a check fails.
    """
    _check("methods", name)


def check_architecture(name: str) -> None:
    """Run the conformance suite of architectures; see `check_method`."""
    _check("architectures", name)


def check_protocol(name: str) -> None:
    """Run the conformance suite of protocols; see `check_method`."""
    _check("protocols", name)


def check_source(name: str) -> None:
    """Run the conformance suite of kinds of sources; see `check_method`."""
    _check("sources", name)


def check_tracker(name: str) -> None:
    """Run the conformance suite of trackers; see `check_method`."""
    _check("trackers", name)
