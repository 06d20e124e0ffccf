"""Name the commands that make a data set and a sweep again."""

import shlex
from collections.abc import Iterable
from typing import Any

from fastdc.beton import Manifest
from fastdc.beton.hints import HINTS
from fastdc.beton.sources.class_folders import BY_POSITION
from fastdc.common.text import plain
from fastdc.sweep.bundle.bundle_index import ExternalFacts

WRITER = "fastdc write-beton"
OPTIONS = ("resolution", "encoding", "quality")


def write_command(manifest: Manifest, out: str, file: str) -> str:
    """Return the command that writes a data set as its manifest records it, on one line.

    A data set that a recipe or another program wrote has a comment instead, which names what is recorded.

    Args:
        manifest: of the data set.
        out: beton to write.
        file: path of the manifest, which names the classes where the source alone does not.
    """
    made = manifest.made
    if made.get("tool") != WRITER or made.get("recipe"):
        tool = made.get("recipe") or made.get("tool") or "a program that its manifest does not name"
        facts = ", ".join(f"{name} {value}" for name, value in made.items() if _is_setting(name, value))
        return plain(f"# {out}: written by {tool} from {manifest.source}{f' ({facts})' if facts else ''}")
    options = [*_settings(manifest), *(["--classes", file] if _named_by_option(manifest) else [])]
    if 0 in manifest.counts:
        options.append("--allow-missing-classes")
    if any(skipped.kind == "unreadable" for skipped in manifest.skipped):
        options += ["--on-error", "skip"]
    address = f"hf://{made['repository']}@{made['revision']}" if "repository" in made else manifest.source
    return plain(shlex.join(["fastdc", "write-beton", address, out, *options]))


def _settings(manifest: Manifest) -> list[str]:
    """Return the options whose values a manifest records."""
    made: dict[str, Any] = manifest.made
    values = {"split": manifest.split, **{name: made.get(name) for name in OPTIONS}}
    values |= dict(zip(("image-column", "label-column"), made.get("columns", ()), strict=False))
    values |= {name: ",".join(map(str, made[name])) for name in ("mean", "std") if made.get(name) is not None}
    options = [part for name, value in values.items() if value is not None for part in (f"--{name}", str(value))]
    for name, value in manifest.hints.items():
        if name in HINTS:
            shown = "-".join(map(str, value)) if isinstance(value, list | tuple) else value
            options += ["--hint", f"{name}={shown}"]
    return options


def _named_by_option(manifest: Manifest) -> bool:
    """Return whether the classes or their order are not those that the source gives."""
    named = manifest.made.get("class_names")
    return named in ("given", BY_POSITION) or (named is None and list(manifest.classes) != sorted(manifest.classes))


def _is_setting(name: str, value: Any) -> bool:
    own = ("tool", "recipe", "complete", "source_complete")
    return name not in own and value is not None and not isinstance(value, dict | list)


def commands_text(
    data: Iterable[tuple[str, str]], external: Iterable[ExternalFacts], sweeps: Iterable[str], version: str
) -> str:
    """Return the file of commands.

    Args:
        data: the command and the content hash of each data set.
        external: files of external sets; a packed one lies where the sweeps expect it.
        sweeps: YAML files of the sweeps.
        version: version of fastdc that packed the bundle.
    """
    lines = [f"# Makes the results of this bundle again, in its unpacked folder (fastdc {version})."]
    lines += ["# Sources of data are named without the folder that they lie in, which a manifest does not record.", ""]
    for command, content_hash in data:
        lines += [command, f"# its manifest must have content_hash {content_hash}"]
    for facts in external:
        lost = f"is not in this bundle; it lay at {facts.path}, and sweeps/ names where it is expected"
        text = f"# external set {facts.name}: {facts.file or lost}"
        lines += [plain(text), f"# its content must be {facts.content}"]
    lines += ["", *(f"fastdc sweep {file}" for file in sweeps), "fastdc report run"]
    return "\n".join(lines) + "\n"
