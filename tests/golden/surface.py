"""What others' scripts rely on: commands, exit codes, YAML keys, methods, protocols, entry points, Python names."""

import enum
import inspect
import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from unittest.mock import patch

import typer.core
from pydantic import BaseModel

import fastdc
from tests.golden import command, data

EXIT_CODES = (
    "",
    "--version",
    "sweep --help",
    "nothing",
    "sweep --nothing",
    "compress",
    "sweep",
    "sweep none.yaml",
    "sweep typo.yaml",
    "report none",
    "report .",
    "verify-beton val.beton",
    "verify-beton val.beton --deep",
    "verify-beton cut.beton",
    "verify-beton none.beton",
    "write-beton photos two.beton",
    "write-beton photos val.beton --split val",
    "write-beton photos val.beton --split val --encoding raw --force",
    "write-beton photos small.beton --split val --encoding keep --resolution 20",
    "compress random train.beton --ipc 1 --image-size 28 --out one.beton --workdir work",
    "compress random train.beton --ipc 1 --image-size 28 --out one.beton --workdir work --set nothing=1",
    "compress random train.beton --ipc 41 --image-size 28 --out many.beton --workdir work",
    "compress randm train.beton --ipc 1 --out none.beton --workdir work",
    "compress glister train.beton --ipc 1 --out none.beton --workdir work",
    "compress random cut.beton --ipc 1 --out none.beton --workdir work",
    "compress random train.beton --ipc 0 --out none.beton --workdir work",
    "evaluate one.beton --val val.beton --protocol easy",
    "evaluate one.beton --val val.beton --set epochs=0",
    "evaluate one.beton --val val.beton --arch nothing",
    "evaluate one.beton --val val.beton --precision tf32",
    "evaluate one.beton --val val.beton --protocol hard --teacher observer",
    "sweep --train train.beton --val val.beton --methods random --ipc 99 --workdir work",
    "sweep --train train.beton --val val.beton --methods random --ipc 1 --workdir work --launcher here",
    "sweep --train train.beton --val val.beton --methods random --ipc 1 --workdir work --address auto",
    "sweep diverges.yaml",
    "sweep diverges.yaml --methods random --protocol hard-small*epochs=1",
    "report work",
    "compare work random",
    "compare work random nothing",
    "rank work",
    "methods",
    "protocols --json",
    "list",
    "list sources --json",
    "list nothing",
    "check sources folder",
    "check sources nothing",
)
"""Commands whose exit code is kept, in the order in which they are run."""
DIVERGES = {
    "train": "train.beton",
    "val": "val.beton",
    "workdir": "work",
    "methods": "random",
    "ipc": 1,
    "protocols": "hard-small*epochs=3,lr=1e30,optimizer=sgd",
    "archs": "convnet1_w4",
    "image_size": 28,
    "threads": 1,
}
YAML: dict[str, Any] = {
    "train": "none.beton",
    "val": "val.beton",
    "holdout": 0,
    "allow_missing_classes": True,
    "workdir": "work",
    "methods": ["random", "el2n[keep=hard]"],
    "ipc": ["1-3", 10],
    "seeds": "0-2",
    "protocols": ["hard*epochs=60,lr=0.01", "soft"],
    "epochs": [],
    "archs": ["resnet18"],
    "observer": {"epochs": 30, "runs": 2},
    "pool_observers": True,
    "teacher": "observer:resnet50",
    "teacher_order": "natural",
    "image_size": 64,
    "set": {"el2n.last_epoch": 5, "full": {"protocol.epochs": 30}},
    "augment": ["method", "tile:2+whole=0.25"],
    "precision": "bf16",
    "threads": 2,
    "loader": "resident",
    "together": "never",
    "track": [],
    "compile": True,
}
"""Every key of a sweep's file, with a sound value; `train` is a file that is not there, which is found out last."""


def record(work: Path) -> dict[str, Any]:
    """Return all values of this file; `work` is the current folder."""
    data.write_betons(data.write_photos(work / "photos"), work)
    return {
        "commands": _commands(),
        "exit codes": _exit_codes(work),
        "yaml keys": _yaml_keys(work),
        "methods": _listed("methods", ("version", "family", "needs", "stochastic", "whole_set")),
        "protocols": _listed("protocols", ("version",)),
        "entry points": _entry_points(),
        "python": _python(),
    }


def _commands() -> dict[str, Any]:
    """Return every command with its arguments and options: type, default, what it takes."""
    groups: list[Any] = []
    with patch.object(typer.core.TyperGroup, "main", lambda group, *_, **__: groups.append(group)):
        command.run("--help")
    return {name: dict(map(_parameter, found.params)) for name, found in sorted(groups[0].commands.items())}


def _parameter(found: Any) -> tuple[str, str]:
    """Return an option by its names, an argument by its metavar; and what it takes."""
    names = " ".join([*found.opts, *found.secondary_opts])
    option = names.startswith("-")
    bounds = "".join(f" {name} {getattr(found, name)}" for name in ("min", "max") if getattr(found, name) is not None)
    many = " repeatable" if found.multiple or found.nargs != 1 else ""
    required = " required" if found.required else ""
    metavar = f" as {found.metavar}" if option and found.metavar else ""
    takes = f"{_kind(found.type_descriptor.annotation)}{metavar}{bounds}{many}{required}"
    return names if option else found.metavar, f"{takes}, default {_plain(found.default)}"


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
        return "|".join(map(_plain, annotation))
    # Python 3.13 prints classes of pathlib with another module.
    return (
        annotation.__name__ if inspect.isclass(annotation) else str(annotation).replace("pathlib._local.", "pathlib.")
    )


def _plain(value: Any) -> str:
    return str(value.value) if isinstance(value, enum.Enum) else str(value)


def _exit_codes(work: Path) -> dict[str, int]:
    content = (work / "val.beton").read_bytes()
    (work / "cut.beton").write_bytes(content[: len(content) // 2])
    (work / "cut.json").write_bytes((work / "val.json").read_bytes())
    (work / "typo.yaml").write_text("trian: train.beton\n")
    (work / "diverges.yaml").write_text(json.dumps(DIVERGES))
    return {f"fastdc {line}": command.run(*line.split()).code for line in EXIT_CODES}


def _yaml_keys(work: Path) -> dict[str, str]:
    """Return for each key of a sweep's file what becomes of a sound value, and of one of another type."""
    grid = work / "all.yaml"
    grid.write_text(json.dumps(YAML))
    sound = command.run("sweep", grid)
    taken = f"exit {sound.code}{', for want of its training set' if 'none.beton' in sound.err else sound.err}"
    return {"all of them": taken, **{key: _refused(grid, key) for key in YAML}}


def _refused(grid: Path, key: str) -> str:
    """Return whether a value that no key takes is refused at its line, with the sound value beside it."""
    lines = [f"{name}: {json.dumps({'no': ['such']} if name == key else value)}" for name, value in YAML.items()]
    grid.write_text("\n".join(lines))
    ran = command.run("sweep", grid)
    line = 1 + list(YAML).index(key)
    named = f"all.yaml:{line}: {key}" in ran.err
    return f"{json.dumps(YAML[key])}; another type: exit {ran.code}{', named with its line' if named else ''}"


def _listed(kind: str, fields: tuple[str, ...]) -> dict[str, Any]:
    """Return methods or protocols with their versions and default settings."""
    listed = {item["name"]: item for item in json.loads(command.done(kind, "--json"))}
    own = [name for name in listed if name not in PLUGINS]
    return {
        name: {field: json.dumps(listed[name][field]) for field in fields} | _settings(listed[name]) for name in own
    }


def _settings(item: dict[str, Any]) -> dict[str, str]:
    return {f"settings.{name}": json.dumps(value) for name, value in item["settings"].items()}


def _entry_points() -> dict[str, str]:
    """Return the program's name, and that plug-ins are found: `plugin` writes two before this process starts."""
    programs = [point.name for point in entry_points(group="console_scripts") if point.value.startswith("fastdc")]
    listed = {item["name"]: item["family"] for item in json.loads(command.done("methods", "--json"))}
    return {"programs": " ".join(sorted(set(programs))), **{name: listed[name] for name in PLUGINS}}


def _python() -> dict[str, Any]:
    """Return every public name with its parameters or fields, and the names that plug-ins import."""
    from fastdc import methods as plugins

    public = {f"fastdc.{name}": _shape(getattr(fastdc, name)) for name in sorted(fastdc.__all__) if name[0] != "_"}
    return {**public, "fastdc.methods": " ".join(sorted(plugins.__all__))}


def _shape(found: Any) -> Any:
    """Return what a caller relies on: names and defaults, not the words of annotations."""
    if inspect.isclass(found) and issubclass(found, BaseModel):
        return {name: _default(field) for name, field in found.model_fields.items()}
    if not inspect.isclass(found):
        return _signature(found)
    members = {name: value for name, value in vars(found).items() if name[0] != "_" or name == "__init__"}
    return {name: _signature(value) if callable(value) else type(value).__name__ for name, value in members.items()}


def _default(field: Any) -> str:
    return "required" if field.is_required() else repr(field.get_default(call_default_factory=True))


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


PLUGINS = ("sound", "unsound")
PLUGIN = """
from fastdc.methods import Compressed, Method, MethodConfig, MethodContext, MethodInfo


class Sound(Method):
    info = MethodInfo(name="sound", title="Sound", family="pruning", paper="", year=2026, bibtex="", needs=())

    def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
        raise NotImplementedError


METHOD = Sound()
"""


def write_plugin(folder: Path) -> None:
    """Write a distribution with a sound method and one whose module is not there into a folder of Python's path."""
    info = folder / "golden_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: golden-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fastdc.methods]\nsound = golden_plugin\nunsound = no_such_module\n")
    (folder / "golden_plugin.py").write_text(PLUGIN)
