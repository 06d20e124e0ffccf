"""Define the commands that list and check what other packages can add: methods, architectures and the like."""

import json
from enum import StrEnum
from typing import Annotated

import typer


class Kind(StrEnum):
    """Kind of parts that a plug-in can add."""

    methods = "methods"
    architectures = "architectures"
    protocols = "protocols"
    sources = "sources"
    trackers = "trackers"


def list_command(
    kind: Annotated[
        Kind | None, typer.Argument(metavar="[KIND]", help=f"{', '.join(Kind)}.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list and nothing else.")] = False,
) -> None:
    """List the parts of a kind, with the plug-ins that failed to load; or list the kinds.

    A package adds a part by an entry point in the group of its kind. Any other classifier of torchvision, and
    timm:NAME, is an architecture too.

    Example:

    \b
    fastdc list architectures
    """
    from fastdc.common.text import plain

    listed = _kinds() if kind is None else _parts(kind)
    if as_json:
        print(json.dumps(listed, indent=1))
        return
    width = max((len(row["name"]) for row in listed), default=0)
    for row in listed:
        more = f"broken: {row['reason']}" if "reason" in row else row["title"]
        print(plain(f"{row['name']:<{width}}  {more}"))


def check_command(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help=f"{', '.join(Kind)}.", show_default=False)],
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Its name, also with settings: el2n[keep=hard].", show_default=False),
    ],
) -> None:
    """Check on small generated data, in less than a minute, that a part works as fastdc requires.

    Prints one line for each check: ok, or failed with what was found and expected. The exit code is 1 if one fails.
    In Python, fastdc.conformance runs the same checks.

    Example:

    \b
    fastdc check methods el2n
    """
    from fastdc.conformance.kinds import outcomes

    failed = 0
    for outcome in outcomes(kind.value, name):
        print(outcome, flush=True)
        failed += outcome.problem is not None
    if failed:
        raise typer.Exit(1)


def _kinds() -> list[dict[str, str]]:
    from fastdc.conformance.kinds import KINDS

    return [{"name": name, "title": f"entry points fastdc.{name}"} for name in KINDS]


def _parts(kind: Kind) -> list[dict[str, str]]:
    """Return the parts of a kind by name, then the broken ones with their reasons."""
    from fastdc.conformance.kinds import KINDS, registry_of

    registry, title = registry_of(kind), KINDS[kind].title
    sound = [
        {"name": name, "title": title(part), "place": registry.places[name]}
        for name, part in sorted(registry.parts.items())
    ]
    return [*sound, *({"name": name, "reason": reason} for name, reason in registry.broken.items())]
