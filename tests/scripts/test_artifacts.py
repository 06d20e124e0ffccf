"""The files of artifacts/ can be made again, and their check can fail."""

import gzip
import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from fastdc.recipes.fashion_mnist import write_images
from tests.conftest import FASHION_MNIST, Betons

ROOT = Path(__file__).parents[2]
SETS = ("fashion_mnist", "imagenette")
LARGEST_TOTAL = 6_000_000
"""Bytes of all files, a bound on what a clone has to fetch."""
needs_images = pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="needs the Debian package dataset-fashion-mnist")


def load_script() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("artifacts_script", ROOT / "scripts" / "artifacts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


artifacts = load_script()


@pytest.mark.parametrize("name", SETS)
def test_every_file_of_the_recipe_is_there_as_text(name: str) -> None:
    recipe = artifacts.RECIPES[name]
    lists = {f"{method}{ipc}.list.tsv" for method in ("random", "el2n", "pca") for ipc in (10, 50)}
    folder = ROOT / "artifacts" / name
    assert {path.name for path in folder.iterdir()} == {*lists, *recipe.tables, "made.json"}
    for path in folder.iterdir():
        data = path.read_bytes()
        (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


@pytest.mark.parametrize("name", SETS)
def test_scores_and_origin_name_the_recipes_observer(name: str) -> None:
    made = json.loads((ROOT / "artifacts" / name / "made.json").read_text())
    for table, (names, seed) in artifacts.RECIPES[name].tables.items():
        with gzip.open(ROOT / "artifacts" / name / table, "rt") as handle:
            record = json.loads(handle.readline().removeprefix("# fastdc-scores "))
        assert list(record["columns"]) == names.split(",")
        assert record["train"] == made["train"]
        (observer,) = record["observer"]
        given = dict(setting.split("=") for setting in artifacts.RECIPES[name].observer)
        assert {key: str(observer[key]) for key in given} == given
        assert observer["seed"] == seed


def test_all_files_are_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "artifacts").rglob("*") if path.is_file()) < LARGEST_TOTAL


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of data sets with Fashion-MNIST."""
    folder = tmp_path_factory.mktemp("data")
    assert list(write_images(folder / "fashion_mnist", None, False))
    return folder


@needs_images
@pytest.mark.timeout(300)
def test_the_lists_of_fashion_mnist_follow_from_the_scores(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert artifacts.main(["check", "fashion_mnist", "--data", str(data)]) == 0
    out = capsys.readouterr().out
    assert out.count(": equal\n") == out.count("\n") == 6


@needs_images
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_scores_and_lists_of_fashion_mnist_follow_from_a_trained_observer(data: Path, tmp_path: Path) -> None:
    arguments = ["check", "fashion_mnist", "--observer", "--data", str(data), "--workdir", str(tmp_path)]
    assert artifacts.main(arguments) == 0


class Small:
    """Artefacts of a set of 120 images, which take a second."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = folder / "artifacts" / "small"

    def run(self, *words: str) -> int:
        places = ["--data", str(self.folder / "data"), "--workdir", str(self.folder / "runs")]
        code: int = artifacts.main([words[0], "small", *words[1:], *places])
        return code


@pytest.fixture(scope="module")
def made(betons: Betons, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "data" / "small").mkdir(parents=True)
    for name in ("train.beton", "train.json"):
        shutil.copy(betons.train.parent / name, folder / "data" / "small" / name)
    return folder


@pytest.fixture
def small(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Small:
    """Return the small set with its observer, and a copy of its artefacts to change."""
    observer = ("arch=convnet1_w4", "epochs=10", "batch_size=60", "image_size=28", "precision=fp32", "threads=1")
    recipe = artifacts.Recipe(28, (2, 3), observer, {"scores.csv.gz": ("el2n,forgetting", 0)})
    monkeypatch.setattr(artifacts, "RECIPES", {"small": recipe})
    monkeypatch.setattr(artifacts, "ARTIFACTS", made / "artifacts")
    if not (made / "artifacts").exists():
        assert Small(made).run("make") == 0
    shutil.copytree(made, tmp_path / "made")
    monkeypatch.setattr(artifacts, "ARTIFACTS", tmp_path / "made" / "artifacts")
    return Small(tmp_path / "made")


def change_scores(small: Small) -> None:
    """Replace EL2N by its negative, the worst case of an observer on another machine."""
    path = small.files / "scores.csv.gz"
    first, titles, *rows = gzip.decompress(path.read_bytes()).decode().splitlines()
    place = titles.split(",").index("el2n")
    for number, row in enumerate(rows):
        cells = row.split(",")
        cells[place] = str(-float(cells[place]))
        rows[number] = ",".join(cells)
    path.write_bytes(gzip.compress("\n".join([first, titles, *rows, ""]).encode()))


def test_artefacts_can_be_made_again(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(small.folder / "runs")
    assert small.run("check", "--observer") == 0
    out = capsys.readouterr().out
    assert out.count(": equal\n") == out.count("\n") == 6 + 7
    assert "small/scores.csv.gz from a trained observer: equal" in out


def test_origin_has_commands_machine_and_version(small: Small) -> None:
    origin = json.loads((small.files / "made.json").read_text())
    assert len(origin["commands"]) == 7
    assert not any("/tmp" in word for line in origin["commands"] for word in line.partition("--out")[2].split())
    assert origin["trained_with"]["threads"] == 1
    assert {"fastdc", "date", "train"} < set(origin)


def test_another_version_of_fastdc_or_zlib_changes_nothing(small: Small) -> None:
    path = small.files / "scores.csv.gz"
    text = gzip.decompress(path.read_bytes()).decode().replace('"fastdc":"', '"fastdc":"9.', 1)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=1))
    assert small.run("check", "--observer") == 0


@pytest.mark.parametrize("name", ["random2", "el2n2", "pca3"])
def test_a_changed_list_fails_the_check(small: Small, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = small.files / f"{name}.list.tsv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:-1], lines[-1].replace("train/", "train/9")]) + "\n")
    assert small.run("check") == 1
    count = sum(not line.startswith("#") for line in lines)
    assert f"small/{name}.list.tsv from its scores: differs; {count - 1} of {count} images in both" in (
        capsys.readouterr().out
    )


def test_a_missing_list_fails_the_check(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    (small.files / "pca2.list.tsv").unlink()
    assert small.run("check") == 1
    assert "small/pca2.list.tsv from its scores: missing" in capsys.readouterr().out


def test_other_scores_on_the_same_machine_fail(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    change_scores(small)
    assert small.run("check", "--observer") == 1
    out = capsys.readouterr().out
    assert "scores.csv.gz from a trained observer: differs; rank correlation: el2n -1.0000, forgetting 1.0000" in out
    assert "so these files have to be equal" in out


def test_another_machine_reports_the_difference_without_failing(
    small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    change_scores(small)
    scores = small.files / "scores.csv.gz"
    place = artifacts.Place("small", small.folder / "data/small/train.beton", small.folder, artifacts.RECIPES["small"])
    for path in small.files.glob("*.list.tsv"):
        path.unlink()
    artifacts.make_from_scores(place, scores, small.files)  # the lists of that machine's scores
    made = json.loads((small.files / "made.json").read_text())
    made["trained_with"] |= {"cpu": "Another CPU", "environment": {"torch": "1.0"}}
    (small.files / "made.json").write_text(json.dumps(made))
    assert small.run("check", "--observer") == 0
    out = capsys.readouterr().out
    assert "rank correlation: el2n -1.0000, forgetting 1.0000" in out
    assert "el2n2.list.tsv from a trained observer: differs; 0 of 6 images in both" in out
    assert "need not be equal here: cpu was Another CPU, is " in out
    assert "torch was 1.0, is " in out


@pytest.mark.parametrize("damage", [b"", b"no gzip", None])
def test_damaged_scores_are_one_line(small: Small, damage: bytes | None, capfd: pytest.CaptureFixture[str]) -> None:
    path = small.files / "scores.csv.gz"
    path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)
    assert small.run("check") == 2
    err = capfd.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_missing_training_set_names_its_recipe(small: Small, capsys: pytest.CaptureFixture[str]) -> None:
    (small.folder / "data" / "small" / "train.beton").unlink()
    assert small.run("check") == 2
    assert "train.beton: no such file; python writers/small.py writes it" in capsys.readouterr().err
