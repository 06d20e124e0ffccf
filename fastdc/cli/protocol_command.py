"""Define the command that lists training protocols."""

import json
from typing import Annotated

import typer


def protocols_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list and nothing else.")] = False,
) -> None:
    """List every training protocol with its source, its inferred settings, and how it differs from the source.

    Settings change a protocol: `hard*epochs=60,mix=mixup`. A changed protocol gets its own table.

    Example:

    \b
    fastdc protocols --json
    """
    from dataclasses import asdict

    from fastdc.train.protocols import all_protocols

    if as_json:
        listed = [
            {"name": name, **asdict(recipe), "version": protocol.version, "settings": dict(protocol)}
            for name, (protocol, recipe) in all_protocols().items()
        ]
        print(json.dumps(listed, indent=1))
        return
    for name, (_, recipe) in all_protocols().items():
        print(f"{name:<11} {recipe.title}\n{'':<11} {recipe.source}")
        if recipe.inferred:
            print(f"{'':<11} inferred: {', '.join(recipe.inferred)}")
        for note in recipe.notes:
            print(f"{'':<11} {note}")
