"""Make the files of artifacts/ again and compare them with the committed ones, or replace these.

    python scripts/artifacts.py check fashion_mnist               # seconds: the lists, from the committed scores
    python scripts/artifacts.py check fashion_mnist --observer    # minutes: scores and lists, from a trained observer
    python scripts/artifacts.py make fashion_mnist                # trains the observer and replaces the files

`check` exits with 1 if a file differs that must be equal. Lists from given scores are equal on every machine. Files
from a trained observer are equal on the same CPU with the same libraries; elsewhere `check` reports the differences.
"""

import argparse
import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from fastdc._version import __version__
from fastdc.beton import describe_beton
from fastdc.cli.main import run
from fastdc.common.errors import ConfigError, FastDCError
from fastdc.common.files import write_atomic
from fastdc.common.machine import cpu_name
from fastdc.common.settings import parse_settings
from fastdc.observe import ObserverConfig
from fastdc.observe.choose_observer import observer_folder
from fastdc.subsets.score_record import record_of_text

ARTIFACTS = Path(__file__).parents[1] / "artifacts"
SCORES = "scores.csv.gz"
METHODS = ("random", "el2n", "pca")
EQUAL = "equal"


class Recipe(NamedTuple):
    """What is made of one data set.

    Attributes:
        image_size: side of stored images in pixels. ipc: stored images per class.
        observer: settings of the observer of seed 0.
        tables: names of scores by file, and the seed of the observer that they come from.
    """

    image_size: int
    ipc: tuple[int, ...]
    observer: tuple[str, ...]
    tables: dict[str, tuple[str, int]]


RECIPES = {
    "fashion_mnist": Recipe(
        28,
        (10, 50),
        ("arch=resnet10_w16", "epochs=10", "image_size=28", "precision=fp32", "threads=1"),
        {SCORES: ("aum,dyn_unc,el2n,entropy,forgetting", 0)},
    ),
    "imagenette": Recipe(  # the observers of the study in benchmarks/results/imagenette64
        64,
        (10, 50),
        ("arch=resnet10", "epochs=30", "image_size=64", "precision=bf16", "threads=1"),
        {
            SCORES: (
                "aum,cad_prune,dual,dyn_unc,el2n,entropy,forgetting,grand,least_confidence,margin,moderate,prototypes,"
                "r_cad,ssp",
                0,
            ),
            "el2n-seed1.csv.gz": ("el2n", 1),
        },
    ),
}
"""TDDS is left out: its distances need a training that keeps them from its first epoch on."""


class Place(NamedTuple):
    """Data set at work.

    Attributes:
        name: of the data set. train: its training beton. workdir: folder of observers. recipe: what is made.
    """

    name: str
    train: Path
    workdir: Path
    recipe: Recipe

    def observer(self, seed: int = 0) -> list[str]:
        """Return the options that name the observer."""
        return [word for setting in (*self.recipe.observer, f"seed={seed}") for word in ("--observer", setting)]

    def trained_with(self) -> dict[str, Any]:
        """Return what trained the observer of seed 0: device, precision, threads, CPU and libraries."""
        config = ObserverConfig.make(parse_settings(list(self.recipe.observer)), "the observer").resolved()
        folder = observer_folder(self.workdir, describe_beton(self.train).content_hash, config, 0)
        found: dict[str, Any] = json.loads((folder / "observer.json").read_text())["trained_with"]
        return {**found, "cpu": cpu_model()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=("check", "make"))
    parser.add_argument("sets", nargs="+", choices=sorted(RECIPES), metavar="SET", help=", ".join(sorted(RECIPES)))
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of SET/train.beton")
    parser.add_argument("--workdir", type=Path, default=Path("runs/artifacts"), help="folder of SET/observers")
    parser.add_argument("--observer", action="store_true", help="check: train the observer too")
    given = parser.parse_args(arguments)
    places = [
        Place(name, given.data / name / "train.beton", given.workdir / name, RECIPES[name]) for name in given.sets
    ]
    try:
        return max(process(place, given.action == "make", given.observer) for place in places)
    except (FastDCError, OSError, EOFError, zlib.error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def process(place: Place, replaces: bool, observer: bool) -> int:
    """Check one data set, after its files are replaced if `replaces`; return the exit code."""
    if not place.train.exists():
        raise ConfigError(f"{place.train}: no such file; python writers/{place.name}.py writes it")
    if replaces:
        make(place)
    return check(place, observer)


def make(place: Place) -> None:
    """Replace the files of one data set by new ones."""
    committed = ARTIFACTS / place.name
    with TemporaryDirectory() as folder:
        commands = make_by_observer(place, Path(folder))
        committed.mkdir(parents=True, exist_ok=True)
        for made in results(Path(folder)):
            write_atomic(committed / made.name, made.read_bytes())
    origin = {
        "fastdc": __version__,
        "date": date.today().isoformat(),
        "train": describe_beton(place.train).content_hash,
        "trained_with": place.trained_with(),
        "commands": commands,
    }
    write_atomic(committed / "made.json", (json.dumps(origin, indent=1) + "\n").encode())


def check(place: Place, observer: bool) -> int:
    """Compare the files of one data set with new ones; return 1 if one differs that has to be equal, else 0."""
    with TemporaryDirectory() as folder:
        make_from_scores(place, ARTIFACTS / place.name / SCORES, Path(folder))
        same = compare(place, Path(folder), "from its scores")
    if observer:
        same &= check_observer(place)
    return int(not same)


def check_observer(place: Place) -> bool:
    """Compare the files with those of a trained observer; return whether they are equal or need not be."""
    with TemporaryDirectory() as folder:
        make_by_observer(place, Path(folder))
        if compare(place, Path(folder), "from a trained observer"):
            return True
    then = json.loads((ARTIFACTS / place.name / "made.json").read_text())["trained_with"]
    differences = machine_differences(then, place.trained_with())
    if differences:
        print(f"{place.name}: a trained observer's digits need not be equal here: {'; '.join(differences)}")
    else:
        print(f"{place.name}: CPU and libraries are those of made.json, so these files have to be equal")
    return bool(differences)


def make_by_observer(place: Place, out: Path) -> list[str]:
    """Write scores and lists as the methods make them; train what is missing. Return the commands."""
    commands = []
    for name, (scores, seed) in place.recipe.tables.items():
        options = ["--score", scores, *place.observer(seed), "--workdir", str(place.workdir)]
        commands.append(fastdc("scores", str(place.train), *options, "--out", str(out / name), "--log", "plain"))
    for method, ipc, subset in subsets(place):
        observer = [] if method == "random" else place.observer()
        stored = ["--ipc", str(ipc), "--image-size", str(place.recipe.image_size), "--workdir", str(place.workdir)]
        words = ["compress", method, str(place.train), *stored, *observer, "--out", str(out / subset), "-q"]
        commands.append(fastdc(*words))
    return [command.replace(f"{out}/", "") for command in commands]


def make_from_scores(place: Place, scores: Path, out: Path) -> None:
    """Write the lists from given scores, without an observer."""
    train, alone = str(place.train), out / "el2n.csv"
    write_column(scores, "el2n", alone)
    sources = {
        "random": ["random", train, "--workdir", str(out)],
        "el2n": ["from-scores", str(scores), train, "--score", "el2n", "--keep", "easy"],
        "pca": ["pca", train, "--workdir", str(out), "--set", f"score=scores:{alone}"],
    }
    for method, ipc, subset in subsets(place):
        size = ["--ipc", str(ipc), "--image-size", str(place.recipe.image_size)]
        fastdc("compress", *sources[method], *size, "--out", str(out / subset), "-q")


def subsets(place: Place) -> Iterator[tuple[str, int, str]]:
    """Yield method, IPC and file name of every subset whose list is kept."""
    for method in METHODS:
        for ipc in place.recipe.ipc:
            yield method, ipc, f"{method}{ipc}.beton"


def fastdc(*words: str) -> str:
    """Run one command of fastdc and return it as text; on an error, end with its exit code."""
    with redirect_stdout(io.StringIO()):
        code = run(words)
    if code:
        raise SystemExit(code)
    return " ".join(("fastdc", *words))


def results(folder: Path) -> list[Path]:
    """Return the scores and lists in a folder."""
    return sorted([*folder.glob("*.csv.gz"), *folder.glob("*.list.tsv")])


def compare(place: Place, fresh: Path, origin: str) -> bool:
    """Print for every new file whether that of artifacts/ is equal; return whether all are."""
    found = {made.name: verdict(ARTIFACTS / place.name / made.name, made) for made in results(fresh)}
    for name, text in found.items():
        print(f"{place.name}/{name} {origin}: {text}", flush=True)
    return set(found.values()) == {EQUAL}


def verdict(committed: Path, made: Path) -> str:
    """Return `EQUAL`, or what differs between two files.

    Packed files are compared by their text, because another zlib packs it otherwise.
    """
    if not committed.exists():
        return "missing"
    if made.suffix == ".gz":
        return EQUAL if score_rows(committed) == score_rows(made) else score_difference(committed, made)
    return EQUAL if committed.read_bytes() == made.read_bytes() else list_difference(committed, made)


def read_text(path: Path) -> str:
    """Return the text of a packed table of scores."""
    text = gzip.decompress(path.read_bytes()).decode()
    if record_of_text(path, text) is None:
        raise ConfigError(f"{path}: no table of scores; git checkout gives it again")
    return text


def score_rows(path: Path) -> str:
    """Return a table of scores without its first line, which has fastdc's version and the observer."""
    return read_text(path).partition("\n")[2]


def columns(path: Path) -> dict[str, list[str]]:
    """Return the columns of a table by title."""
    titles, *rows = csv.reader(score_rows(path).splitlines())
    return dict(zip(titles, map(list, zip(*rows, strict=True)), strict=True))


def write_column(table: Path, name: str, out: Path) -> None:
    """Write one score of a table with its origin, because `score=scores:FILE` takes a file with a single score."""
    found, origin = columns(table), read_text(table).partition("\n")[0]
    rows = map(",".join, zip(found["index"], found[name], strict=True))
    out.write_text("\n".join([origin, f"index,{name}", *rows]) + "\n")


def score_difference(committed: Path, made: Path) -> str:
    """Describe by rank correlation how far the scores of two tables differ."""
    from scipy.stats import spearmanr

    before, now = columns(committed), columns(made)
    names = [name for name in before if name in now and name not in ("index", "imagefolder_index", "id", "class")]
    ranks = (spearmanr(*([float(value) for value in table[name]] for table in (before, now))) for name in names)
    shown = (f"{name} {rank.statistic:.4f}" for name, rank in zip(names, ranks, strict=True))
    return f"differs; rank correlation: {', '.join(shown)}"


def list_difference(committed: Path, made: Path) -> str:
    """Describe how many images two lists share."""
    before, now = (
        {line.split("\t")[0] for line in path.read_text().splitlines() if not line.startswith("#")}
        for path in (committed, made)
    )
    return f"differs; {len(before & now)} of {len(before)} images in both"


def cpu_model() -> str:
    """Return the type of this CPU by family, model and stepping, because virtual machines share one name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return cpu_name()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return ", ".join(
        [cpu_name(), *(f"{key} {facts[key]}" for key in ("cpu family", "model", "stepping") if key in facts)]
    )


def machine_differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return in words what differs between two machines that trained an observer, of what can change its digits."""
    facts = [
        {key: found.get(key) for key in ("cpu", "device", "precision", "threads")}
        | {package: found["environment"].get(package) for package in ("torch", "numpy", "numba")}
        for found in (then, now)
    ]
    return [f"{key} was {old}, is {facts[1][key]}" for key, old in facts[0].items() if old != facts[1][key]]


if __name__ == "__main__":
    sys.exit(main())
