"""Define the commands that list methods and examine this machine."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fastdc.cli.common import AsJson
from fastdc.common.text import plain


def methods(as_json: AsJson = False) -> None:
    """List every compression method with what it reads at its defaults, and the plug-ins that failed to load.

    In --json, `reads` is that, and `needs` is what it may read under other settings.

    Example:

    \b
    fastdc methods --json
    """
    from fastdc.methods import all_methods, broken_methods

    if as_json:
        listed: list[dict[str, Any]] = []
        for method in all_methods().values():
            config = method.configure({})
            facts = {**method.info.model_dump(mode="json"), "reads": method.needs_of(config), "version": method.version}
            listed.append({**facts, "settings": config.model_dump(mode="json")})
        for name, reason in broken_methods().items():
            listed.append({"name": name, "family": "broken", "needs": [], "paper": "", "year": 0, "reason": reason})
        print(json.dumps(listed, indent=1))
        return
    for name, method in all_methods().items():
        info, reads = method.info, ", ".join(method.needs_of(method.configure({}))) or "-"
        year = str(info.year) if info.year else ""
        print(f"{name:<18} {info.family:<12} {year:<5} {reads:<22} {info.paper or info.title}")
    for name, reason in broken_methods().items():
        print(plain(f"{name:<18} broken: {reason}"))


def doctor(
    workdir: Annotated[Path, typer.Option(metavar="DIR", help="Folder whose disk is examined.")] = Path(),
) -> None:
    """Report what this machine offers for fastdc, and how to add what is missing.

    The exit code is 0 if fastdc works here, else 1. Warnings do not count: without FFCV, for example, the in-memory
    loader makes the batches.
    """
    from fastdc.cli.doctor import examine, is_usable, report

    checks = examine(workdir)
    report(checks)
    raise typer.Exit(0 if is_usable(checks) else 1)
