"""Generate one page for each method from the registry: text, settings, cost, published and own accuracy, reference.

A method's text and formula are the docstring of its class. The meaning of a setting is its line under `Attributes:` in
the class of settings. A section `Differences:` of the method's docstring compares it with the official code.
"""

import csv
import inspect
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import mean, stdev
from textwrap import dedent
from typing import Any

from fastdc.methods import Method, all_methods
from fastdc_docs.settings_table import settings_table, table

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "benchmarks/results/imagenette64/rows.csv"
PUBLISHED = ROOT / "docs/published.toml"
FAMILIES = {
    "pruning": "Pruning: keep real images",
    "combination": "Combination: tile real images",
    "distillation": "Distillation: synthesise images, or choose patches with a teacher",
    "reference": "Reference rows",
}
WORDS = {
    "imagenet1k": "ImageNet-1K",
    "tinyimagenet": "Tiny-ImageNet",
    "cifar100": "CIFAR-100",
    "resnet18": "ResNet-18",
    "hard": "`hard`",
    "soft": "`soft`",
    "hard-authors-recipe": "hard labels, the authors' recipe",
    "soft-authors-recipe": "soft labels, the authors' recipe",
}
INPUTS = {
    "dynamics": "log of epochs",
    "tdds": "log of epochs",
    "features": "final features",
    "outputs": "final outputs",
    "teacher": "teacher",
    "bn_statistics": "teacher's BatchNorm statistics",
}
GROUPED = ("method", "settings", "ipc", "protocol", "arch", "image_size", "precision", "augment")
SCALE = {"images": 10_000, "train_images": 1_281_167, "image_size": 224, "classes": 1000}  # ImageNet-1K at IPC 10


def method_pages() -> dict[str, str]:
    """Return the page of every built-in method and the tables of all, Markdown by path below `docs`."""
    methods = {name: method for name, method in all_methods().items() if type(method).__module__.startswith("fastdc.")}
    figures, own = read_published(PUBLISHED), own_rows(ROWS)
    pages = {f"methods/{name}.md": page(method, figures, own) for name, method in methods.items()}
    return {"generated/methods.txt": index(methods.values()), **pages}


def index(methods: Iterable[Method]) -> str:
    """Return the tables of all methods, one for each family."""
    by_family: dict[str, list[Method]] = defaultdict(list)
    for method in methods:
        by_family[method.info.family].append(method)
    lines = []
    for family, title in FAMILIES.items():
        rows = [
            [f"[`{m.info.name}`](methods/{m.info.name}.md)", m.info.title, summary(m), reads(m), str(m.info.year or "")]
            for m in by_family[family]
        ]
        lines += [f"## {title}", "", *table(["name", "method", "what it does", "reads", "year"], rows), ""]
    return "\n".join(lines)


def page(method: Method, figures: Mapping[str, Any], own: Mapping[str, list[list[str]]]) -> str:
    """Return a method's page."""
    info = method.info
    text, differences = described(method)
    return "\n".join(
        [
            f"# {info.title}",
            "",
            f"`{info.name}` · {info.family} · {source(method)} · `{file(method)}`",
            "",
            text,
            "",
            *section("Differences from the official code", [differences or "None is known."]),
            *section("Settings", settings_table(method)),
            *section("Cost", cost(method)),
            *section("Published accuracy", published(method, figures)),
            *section("Our accuracy", measured(own.get(info.name, []))),
            *section("Cite", ["```bibtex", info.bibtex, "```"] if info.bibtex else ["There is nothing to cite."]),
        ]
    )


def section(title: str, lines: Iterable[str]) -> list[str]:
    """Return a section of a page."""
    return [f"## {title}", "", *lines, ""]


def source(method: Method) -> str:
    """Return the paper and year of a method."""
    return f"{method.info.paper}, {method.info.year}" if method.info.paper else "no paper"


def file(method: Method) -> str:
    """Return the file of a method, relative to the repository."""
    return Path(inspect.getfile(type(method))).relative_to(ROOT).as_posix()


def described(method: Method) -> tuple[str, str]:
    """Return the text of a method's docstring, and its section on differences from the official code."""
    text, _, differences = (inspect.getdoc(type(method)) or "").partition("\nDifferences:\n")
    return text.strip(), dedent(differences).strip()


def summary(method: Method) -> str:
    """Return the first sentence of a method's docstring."""
    return described(method)[0].partition("\n\n")[0].replace("\n", " ").removesuffix(".")


def reads(method: Method) -> str:
    """Return what must exist before the method runs at its defaults."""
    return ", ".join(dict.fromkeys(INPUTS[need] for need in method.needs_of(method.configure({})))) or "nothing"


def cost(method: Method) -> list[str]:
    """Return what a method takes from the observer and from teachers at its defaults."""
    config = method.configure({})
    needs = method.observer_needs(config)
    epochs = max(needs.epochs, needs.tdds)
    parts = []
    if min(needs.epochs, needs.tdds) < 0:  # WHOLE_SCHEDULE
        parts.append("the log of every epoch")
    elif epochs > 0:
        parts.append(f"the log of the first {epochs} epochs")
    if needs.final:
        parts.append("the pass after the last epoch" + (", with every probability" if needs.outputs else ""))
    lines = [f"* Observer: {' and '.join(parts)}." if parts else "* Observer: none."]
    if teachers := method.teachers(config):
        visits = method.network_visits(config, **SCALE) / SCALE["images"]
        lines.append(
            f"* Teachers: {', '.join(f'`{name}`' for name in teachers)} by default. On ImageNet-1K at IPC 10 each "
            f"stored image takes {visits:,.0f} passes forward and backward; a forward pass alone counts as a third."
        )
    depends = "depends" if method.stochastic(config) else "does not depend"
    return [*lines, f"* The subset {depends} on the subset seed."]


def read_published(path: Path) -> dict[str, Any]:
    """Return the sources of published figures, and the figures that methods' metadata do not hold."""
    return tomllib.loads(path.read_text())


def published(method: Method, figures: Mapping[str, Any]) -> list[str]:
    """Return the table of a method's published accuracies, or a sentence if there is none."""
    name = method.info.name
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for key, accuracy in method.info.published.items():
        setting, _, ipc = key.rpartition("/ipc")
        found[setting][int(ipc)] = accuracy
    for setting, values in figures["figures"].get(name, {}).items():
        found[setting] |= {int(ipc): accuracy for ipc, accuracy in values.items()}
    if not found:
        return ["No figure is published at a budget of images per class, as far as we know."]
    budgets = sorted({ipc for values in found.values() for ipc in values})
    rows = [
        [
            ", ".join(WORDS[part] for part in setting.split("/")),
            *(str(values.get(ipc, "-")) for ipc in budgets),
            source_of(name, setting, figures["sources"]),
        ]
        for setting, values in sorted(found.items())
    ]
    return [
        "Top-1 in percent. Figures of different recipes do not compare.",
        "",
        *table(["setting", *(f"IPC {ipc}" for ipc in budgets), "read in"], rows),
    ]


def source_of(name: str, setting: str, sources: Mapping[str, Any]) -> str:
    """Return where a figure was read: of this method, or of all methods in this setting."""
    return str(sources.get(name, {}).get(setting) or sources["all"][setting])


def own_rows(path: Path) -> dict[str, list[list[str]]]:
    """Return the committed rows of the study by method: setting, columns, number of seeds, mean and spread."""
    groups: dict[tuple[str, ...], list[float]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            groups[tuple(row[column] for column in GROUPED)].append(float(row["top1"]))
    found: dict[str, list[list[str]]] = defaultdict(list)
    for (name, settings, *columns), top1 in sorted(groups.items()):
        variant = f"`{name}[{settings}]`" if settings else f"`{name}`"
        accuracy = f"{mean(top1):.2f} ± {stdev(top1):.2f}" if len(top1) > 1 else f"{top1[0]:.2f}"
        found[name].append([variant, *columns, str(len(top1)), accuracy])
    return found


def measured(rows: list[list[str]]) -> list[str]:
    """Return the table of our accuracies, or a sentence if there is none."""
    if not rows:
        return ["The study has no committed row of this method yet; other runs are on [Results](../results.md)."]
    header = ["variant", "IPC", "protocol", "network", "side", "precision", "crops", "seeds", "top-1, %"]
    return [
        "Imagenette (10 classes), from the committed rows `benchmarks/results/imagenette64/rows.csv`: last epoch, mean",
        "± standard deviation over seeds. [Results](../results.md) has the machine, the tests and all other rows.",
        "",
        *table(header, rows),
    ]
