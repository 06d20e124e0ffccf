"""YAML without traps, and the merge of file and command line."""

from pathlib import Path

import pytest

from fastdc.common.errors import ConfigError
from fastdc.sweep.grid_values import split_protocols
from fastdc.sweep.sweep_config import load_config
from fastdc.sweep.yaml_file import MAX_BYTES, read_yaml

BASE = "train: t.beton\nval: v.beton\nworkdir: runs/x\n"


def load(tmp_path: Path, text: str, **overrides: object) -> object:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    return load_config(path, overrides)


BAD = [
    ("train: a\ntrain: b\n", r"grid.yaml:2: key 'train' is given twice \(first in line 1\)"),
    ("a: &x [1, 2]\nb: [*x, *x]\n", r"grid.yaml:1: anchors and aliases"),
    ("train: !!python/object/apply:os.system ['touch /tmp/pwned']\n", r"grid.yaml:1: tag .*os.system' is not allowed"),
    ("train: a\n\tval: b\n", r"grid.yaml:2: .*tab; indent with spaces"),
    (BASE + "ipc: .nan\n", r"grid.yaml:4: .nan is not a usable number"),
    (BASE + "ipc: 5e400\n", r"grid.yaml:4: 5e400 is not a usable number"),
    (BASE + f"ipc: {'9' * 5000}\n", r"grid.yaml:4: number '99999999999999999999...' has 5000 digits"),
    (BASE + "methdos: all\n", r"grid.yaml:4: unknown key 'methdos'; did you mean 'methods'\?"),
    (BASE + "ipc: [10, -3]\n", r"grid.yaml:4: ipc=.*: expected at least 1 image per class"),
    (BASE + "ipc: 0\n", r"grid.yaml:4: ipc=.*at least 1"),
    (BASE + "seeds:\n  - 1\n  - one\n", r"grid.yaml:4: seeds=.*found 'one', expected whole numbers"),
    (BASE + "seeds: 5-2\n", r"grid.yaml:4: seeds=.*range '5-2'"),
    (BASE + "epochs: [50, 0]\n", r"grid.yaml:4: epochs=.*: expected at least 1 epoch"),
    (BASE + "epochs: ipc\n", r"grid.yaml:4: epochs=.*found 'ipc', expected whole numbers"),
    (
        BASE + "protocols: [hard, 'soft*epochs=9,lr=0.1']\nepochs: [50, 100]\n",
        r"grid.yaml:5: epochs=.*: protocol soft\*epochs=9,lr=0.1 sets its own epochs; give soft\*lr=0.1, or list",
    ),
    (BASE + "image_size: no\n", r"grid.yaml:4: image_size='no': input should be a valid integer"),
    (
        BASE + "precision: fp8\n",
        r"grid.yaml:4: precision='fp8': input should be 'auto', 'fp32', 'tf32', 'bf16' or 'fp16'",
    ),
    (BASE + "threads: true\n", r"grid.yaml:4: threads=true: found yes or no, expected a value"),
    (BASE + "holdout: true\n", r"grid.yaml:4: holdout=true: found yes or no, expected a value"),
    (BASE + "methods: []\n", r"grid.yaml:4: methods="),
    (BASE + "methods: true\n", r"grid.yaml:4: methods=true: expected a list of names"),
    (BASE + "set:\n  grid: 3\n", r"grid.yaml:4: set=.*found 'grid', expected METHOD.key \(pca.grid=3\)"),
    (BASE + "set:\n  pca.grid: 3\n  pca: {grid: 2}\n", r"grid.yaml:4: set=.*'pca.grid' is given twice"),
    ("train: t.beton\nval: v.beton\n", r"grid.yaml: no key 'workdir'"),
    ("- a\n- b\n", r"grid.yaml:1: expected a mapping"),
    ("", r"grid.yaml:1: expected a mapping"),
    ("a: " + "[" * 60, r"grid.yaml:1: nested deeper than"),
    ("? [a, b]\n: c\n", r"grid.yaml:1: a key must be plain text"),
    ("train: a\x00b\n", r"grid.yaml: unacceptable character #x0000"),
    ("a: 1\n---\nb: 2\n", r"grid.yaml:2: .*single document"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=range(len(BAD)))
def test_a_bad_file_is_one_line_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=f"is a folder, expected a sweep's YAML file; .* fastdc report {tmp_path}"):
        read_yaml(tmp_path)
    (tmp_path / "big.yaml").write_text("a: 1\n" + "#" * MAX_BYTES)
    with pytest.raises(ConfigError, match="larger than"):
        read_yaml(tmp_path / "big.yaml")
    (tmp_path / "latin.yaml").write_bytes("train: a\nval: caf\xe9\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin.yaml:2: not UTF-8"):
        read_yaml(tmp_path / "latin.yaml")


def test_plain_values_have_their_yaml_types(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("\ufefflr: 1e-3\noff: no\ntime: 12:30\noctal: 010\nday: 2024-01-02\nyes: true\nnone: ~\nhalf: .5\n")
    assert read_yaml(path).values == {
        "lr": 0.001,
        "off": "no",
        "time": "12:30",
        "octal": 10,
        "day": "2024-01-02",
        "yes": True,
        "none": None,
        "half": 0.5,
    }


def test_the_command_line_takes_precedence_and_settings_merge(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(BASE + "ipc: 10\nseeds: 0-2\nobserver: {arch: a, lr: 0.1}\nset: {pca: {grid: 3, keep: hard}}\n")
    config = load_config(path, {"ipc": "1,50", "observer": {"arch": "b"}}, ["pca.grid=4", "full.protocol.epochs=4"])
    assert config.ipc == (1, 50)
    assert config.seeds == (0, 1, 2)
    assert config.observer == {"arch": "b", "lr": 0.1}
    assert config.set == {"pca": {"grid": 4, "keep": "hard"}, "full": {"protocol.epochs": 4}}
    assert config.train == Path("t.beton")


def test_an_error_from_the_command_line_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--ipc: ipc='ten'"):
        load(tmp_path, BASE + "ipc: 10\n", ipc="ten")
    with pytest.raises(ConfigError, match=r"^--epochs: epochs='50': protocol hard\*epochs=9 sets its own epochs"):
        load(tmp_path, BASE + "protocols: hard*epochs=9\n", epochs="50")
    with pytest.raises(ConfigError, match=r"^--train is missing"):
        load_config(None, {})
    with pytest.raises(ConfigError, match=r"^--set: found 'epochs', expected METHOD.key"):
        load_config(None, {"train": "a", "val": "b", "workdir": "c"}, ["epochs=3"])


def test_a_fault_in_the_set_of_the_file_is_not_blamed_on_the_option(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(BASE + "set:\n  grid: 3\n")
    with pytest.raises(ConfigError, match=r"grid.yaml:4: set=\{'grid': 3\}: found 'grid', expected METHOD.key"):
        load_config(path, {}, ["pca.grid=4"])
    path.write_text(BASE + "set:\n")
    assert load_config(path, {}).set == {}
    assert load_config(path, {}, ["pca.grid=4"]).set == {"pca": {"grid": 4}}


def test_settings_of_a_method_that_is_left_out(tmp_path: Path) -> None:
    text = BASE + "methods: all\nset: {full.protocol.epochs: 4}\n"
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    assert load_config(path, {"methods": "random"}).methods == ("random",)  # the file may serve several sweeps
    assert load_config(path, {"methods": "all"}, ["pca.grid=3"]).set["pca"] == {"grid": 3}
    with pytest.raises(ConfigError, match=r"--set full...: is not among the methods random"):
        load_config(path, {"methods": "random[keep=x]"}, ["full.protocol.epochs=3"])


def test_nested_and_dotted_settings_are_the_same(tmp_path: Path) -> None:
    dotted = load(tmp_path, BASE + "set: {full.protocol.epochs: 4, pca.grid: 3}\n")
    nested = load(tmp_path, BASE + "set:\n  full:\n    protocol: {epochs: 4}\n  pca: {grid: 3}\n")
    assert dotted == nested


def test_lists_of_protocols() -> None:
    assert split_protocols("hard,hard*epochs=60,batch_size=32,soft") == ["hard", "hard*epochs=60,batch_size=32", "soft"]
