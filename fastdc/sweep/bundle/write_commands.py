"""Name the commands that make a data set and a sweep again."""

import shlex
from collections.abc import Iterable
from typing import Any

from fastdc.beton import Manifest
from fastdc.common.text import plain

WRITER = "fastdc write-beton"
OPTIONS = ("resolution", "encoding", "quality")


def write_command(manifest: Manifest, out: str) -> str:
    """Return the command that writes a data set as its manifest records it, on one line.

    A data set that a recipe or another program wrote has a comment instead, which names what is recorded.
    """
    made = manifest.made
    if made.get("tool") != WRITER or made.get("recipe"):
        tool = made.get("recipe") or made.get("tool") or "a program that its manifest does not name"
        facts = ", ".join(f"{name} {value}" for name, value in made.items() if _is_setting(name, value))
        return plain(f"# {out}: written by {tool} from {manifest.source}{f' ({facts})' if facts else ''}")
    options = [] if manifest.split is None else ["--split", manifest.split]
    for name in OPTIONS:
        if made.get(name) is not None:
            options += [f"--{name}", str(made[name])]
    if 0 in manifest.counts:
        options.append("--allow-missing-classes")
    if any(skipped.kind == "unreadable" for skipped in manifest.skipped):
        options += ["--on-error", "skip"]
    return plain(shlex.join(["fastdc", "write-beton", manifest.source, out, *options]))


def _is_setting(name: str, value: Any) -> bool:
    own = ("tool", "recipe", "complete", "source_complete")
    return name not in own and value is not None and not isinstance(value, dict | list)


def commands_text(data: Iterable[tuple[str, str]], sweeps: Iterable[str], version: str) -> str:
    """Return the file of commands.

    Args:
        data: the command and the content hash of each data set.
        sweeps: YAML files of the sweeps.
        version: version of fastdc that packed the bundle.
    """
    lines = [f"# Makes the results of this bundle again, in its unpacked folder (fastdc {version}).", ""]
    for command, content_hash in data:
        lines += [command, f"# its manifest must have content_hash {content_hash}"]
    lines += ["", *(f"fastdc sweep {file}" for file in sweeps), "fastdc report run"]
    return "\n".join(lines) + "\n"
