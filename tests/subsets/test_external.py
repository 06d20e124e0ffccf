"""External sets: names, requirements on files, keys, and stored bytes."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastdc.beton import BetonFile, Sample, load_manifest, write_samples
from fastdc.common.errors import BetonError, ConfigError, FastDCError, MethodError
from fastdc.methods.bases.score_methods import ScoreConfig
from fastdc.subsets.external import ExternalSet, TrainingSet, open_external
from fastdc.subsets.external_names import external_names, is_external, parse_external
from fastdc.subsets.external_request import ExternalRequest, beton_key, make_external
from fastdc.subsets.from_list import compress_list
from fastdc.subsets.from_scores import compress_scores

CLASSES = ("bark", "moss")
SIZE = 16


def write(out: Path, per_class: int = 6, classes: tuple[str, ...] = CLASSES, seed: int = 0, **more: Any) -> Path:
    """Write a beton of noise with images of this side."""
    side, pixels = more.pop("side", SIZE), np.random.default_rng(seed)
    samples = [
        Sample(pixels.integers(0, 256, (side, side, 3), dtype=np.uint8), label, f"{name}/{number}")
        for label, name in enumerate(classes)
        for number in range(per_class)
    ]
    write_samples(out, samples, classes=classes, dataset="tiny", split=None, source="made by a test", made={}, **more)
    return out


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingSet:
    """Write a training set of two classes with six images each into a new current folder."""
    monkeypatch.chdir(tmp_path)
    path = write(Path("train.beton"))
    Path("kept.txt").write_text("bark/1\nbark/2\nmoss/0\n")
    np.save("el2n.npy", np.arange(12.0)[::-1])
    with BetonFile(path) as file:
        return TrainingSet(path, load_manifest(path), file.labels)


def opened(text: str, train: TrainingSet, **more: Any) -> ExternalSet:
    name = parse_external(text)
    return open_external(name, {**name.settings, **more}, train, SIZE)


def request(text: str, train: TrainingSet, ipc: int = 2, image_size: int = SIZE) -> ExternalRequest:
    made = opened(text, train)
    return ExternalRequest(source=made, train=train.path, manifest=train.manifest, ipc=ipc, image_size=image_size)


@pytest.mark.parametrize(
    ("text", "kind", "file", "settings"),
    [
        ("rded10=sets/rded10.beton", "beton", "sets/rded10.beton", {}),
        ("a=beton:stock.ffcv", "beton", "stock.ffcv", {}),
        ("my.set-2=list:kept[1].npy", "list", "kept[1].npy", {}),
        (" a = list:k.txt[fit=pad, index_order=own] ", "list", "k.txt", {"fit": "pad", "index_order": "own"}),
        ("a=scores:x=y.npy[keep=easy]", "scores", "x=y.npy", {"keep": "easy"}),
    ],
)
def test_a_name_has_kind_file_and_settings(text: str, kind: str, file: str, settings: dict[str, Any]) -> None:
    found = parse_external(text)
    assert (found.kind, found.path, found.settings) == (kind, Path(file), settings)


def test_settings_in_brackets_are_no_external_set() -> None:
    assert [is_external(text) for text in ("all", "el2n[keep=hard]", "a=x.beton")] == [False, False, True]
    assert external_names(["pca", "el2n[keep=hard]", "a.b=list:x[fit=pad]"]) == ["a.b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b=x.beton", "name 'a b' of an external set: expected letters, digits, - _ and . in NAME=FILE.beton"),
        ("=x.beton", "name '' of an external set"),
        ("../a=x.beton", r"name '../a' of an external set"),
        ("a=", "found '' after a=, expected NAME=FILE.beton, NAME=list:FILE or NAME=scores:FILE"),
        ("a=list:", "found 'list:' after a="),
        ("a=photos", "found 'photos' after a=.*fastdc write-beton makes a beton of images"),
        ("keep=hard", r"settings of a method stand in brackets, such as el2n\[keep=hard\]"),
    ],
)
def test_an_invalid_name_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_external(text)


def test_an_imported_beton_has_its_counts_and_hints(train: TrainingSet) -> None:
    write(Path("made.beton"), 3, seed=1, hints={"tile_grid": 2})
    found = opened("made=made.beton", train)
    assert (found.counts, found.ipc, found.per_class) == ((3, 3), 3, None)
    assert (found.hints, found.stated) == ({"tile_grid": 2}, "beton made.beton, raw pixels, cropped by tile_grid=2")
    write(Path("plain.beton"), 3, seed=1)
    assert opened("plain=plain.beton", train).stated == "beton plain.beton, raw pixels"
    write(Path("large.beton"), 3, seed=1, side=20)
    assert opened("large=large.beton", train).note == "beton large.beton, images of 20 px, raw pixels"


def test_a_set_of_unequal_classes_has_the_mean_count(train: TrainingSet) -> None:
    found = opened("mine=list:kept.txt", train)
    assert (found.counts, found.ipc, found.per_class) == ((2, 1), 2, "1-2")


def test_scores_have_no_counts_of_their_own(train: TrainingSet) -> None:
    made = request("theirs=scores:el2n.npy[keep=easy,index_order=own,augment=tile:2]", train, ipc=3)
    assert (made.source.counts, made.source.ipc, made.images) == (None, None, 6)
    assert made.source.hints == {"tile_grid": 2}
    assert made.source.stated == "scores el2n.npy, keep=easy, cropped by tile_grid=2"


BAD = [
    ("a=none.beton", ConfigError, "none.beton: does not exist, expected the file of external set a"),
    ("a=list:none.npy", ConfigError, "none.npy: does not exist, expected the file of external set a"),
    ("a=list:.", ConfigError, ".: is a folder, expected the file of external set a"),
    ("a=cut.beton", BetonError, "cut.beton: .*truncated or not a beton"),
    (
        "a=other.beton",
        ConfigError,
        "classes differ .*'moss' only in the training set.*fastdc write-beton SOURCE OUT.beton --classes train",
    ),
    ("a=more.beton", ConfigError, r"a does not fit train.beton: classes differ \(2 and 3\).*'sand' only in the set"),
    ("a=turned.beton", ConfigError, "in another order, first at class 0.*write it again with --classes train.beton"),
    ("a=bare.beton", ConfigError, "bare.beton: its manifest bare.json is missing, so its classes are only known as"),
    ("a=h64.beton", ConfigError, "a is made for crops of 64 px, this sweep trains at 16; give --image-size 64"),
    (
        "a=hint.beton",
        ConfigError,
        "hint.beton: external set a: hint tile_grid='x' of the training set: expected a",
    ),
    ("a=val.beton", ConfigError, "4 of the 4 images of external set a are validated on; leave them out"),
    ("a=made.beton[fit=pad]", ConfigError, "a: fit does not apply, an imported beton is used unchanged"),
    (
        "a=made.beton[augment=tile:2]",
        ConfigError,
        "augment does not apply, .*; crop inside tiles by write-beton --hint tile_grid=2, or by sweep --augment tile:2",
    ),
    ("a=list:unknown.txt", MethodError, "unknown.txt:2: image 'wood/7' is not in the training set"),
    ("a=list:empty.txt", MethodError, "empty.txt: holds no images"),
    ("a=list:far.npy[index_order=own]", MethodError, r"image 500 does not exist, expected 0\.\.11"),
    ("a=list:far.npy[fit=stretch]", ConfigError, "external set a: fit='stretch': input should be 'crop'"),
    ("a=list:kept.txt[keep=easy]", ConfigError, "external set a: unknown setting 'keep'"),
    ("a=list:el2n.npy", FastDCError, r"el2n.npy: .* from-scores, or NAME=scores:FILE\[keep=easy\] in a sweep"),
    ("a=list:el2n.txt", FastDCError, r"el2n.txt:1: .* from-scores, or NAME=scores:FILE\[keep=easy\] in a sweep"),
    (
        "a=scores:chosen.pth[keep=easy]",
        ConfigError,
        "has the columns indices, expected a column of scores; if these are the kept images, .* or NAME=list:FILE in a",
    ),
    ("a=scores:el2n.npy", ConfigError, r"a: keep is missing; add \[keep=easy\] or \[keep=hard\] to its file"),
    (
        "a=scores:several.csv[keep=easy]",
        ConfigError,
        r"external set a: several.csv: holds 2 scores: u, v; name one: .*, \[keep=easy,score=u\] in a sweep",
    ),
    ("a=scores:el2n.npy[keep=easy]", MethodError, r"add \[index_order=own\]"),
    ("a=scores:far.npy[keep=easy,index_order=own]", MethodError, "far.npy"),
]


@pytest.mark.parametrize(("text", "error", "message"), BAD, ids=[text for text, _, _ in BAD])
def test_a_file_that_does_not_fit_is_refused(
    train: TrainingSet, text: str, error: type[FastDCError], message: str
) -> None:
    for name in ("made", "bare", "cut"):
        write(Path(f"{name}.beton"), 2, seed=1)
    write(Path("other.beton"), 2, ("bark", "sand"))
    write(Path("more.beton"), 2, (*CLASSES, "sand"))
    write(Path("turned.beton"), 2, CLASSES[::-1])
    write(Path("h64.beton"), 2, hints={"image_size": 64})
    write(Path("hint.beton"), 2, hints={"tile_grid": "x"})
    val = load_manifest(write(Path("val.beton"), 2, seed=2))
    Path("bare.json").unlink()
    Path("cut.beton").write_bytes(Path("cut.beton").read_bytes()[:300])
    Path("unknown.txt").write_text("bark/1\nwood/7\n")
    Path("empty.txt").write_text("")
    Path("several.csv").write_text("id,u,v\nbark/0,1,2\n")
    np.save("far.npy", np.array([1, 500]))
    np.savetxt("el2n.txt", np.linspace(0.1, 0.9, 12))
    torch.save({"indices": [1, 2]}, "chosen.pth")
    with pytest.raises(error, match=message) as caught:
        opened(text, TrainingSet(train.path, train.manifest, train.labels, frozenset(val.hashes)))
    assert "\n" not in str(caught.value)


def test_validation_images_are_noted_or_refused(train: TrainingSet) -> None:
    made = load_manifest(write(Path("made.beton"), 3, seed=1))
    val = frozenset(made.hashes[:2])
    found = opened("a=made.beton", TrainingSet(train.path, train.manifest, train.labels, val))
    assert found.note == "beton made.beton, raw pixels, 2 of its images are validated on"
    with pytest.raises(ConfigError, match=r"2 of the 6 images .* validated on, held out of the training set; leave"):
        opened("a=made.beton", TrainingSet(train.path, train.manifest, train.labels, val, split=True))


def test_classes_without_an_image_are_reported(train: TrainingSet, capsys: pytest.CaptureFixture[str]) -> None:
    Path("one.txt").write_text("bark/1\nbark/2\n")
    opened("a=list:one.txt", train)
    opened("b=list:kept.txt", train)
    assert capsys.readouterr().err == "note: external set a: no image of 1 of 2 classes (moss)\n"


def test_with_a_holdout_indices_are_refused(train: TrainingSet) -> None:
    split = TrainingSet(train.path, train.manifest, train.labels, split=True)
    with pytest.raises(ConfigError, match=r"index_order=own does not apply with --holdout.*name images by id"):
        opened("a=list:kept.txt[index_order=own]", split)
    np.save("numbers.npy", np.arange(3))
    with pytest.raises(MethodError, match=r"external set a: .*: holds indices.*name images by id or path; with"):
        opened("a=list:numbers.npy", split)
    Path("gone.txt").write_text("moss/99\n")
    with pytest.raises(MethodError, match=r"not in the training set.*with --holdout the training set is the part"):
        opened("a=list:gone.txt", split)


def test_the_key_of_a_beton_is_that_of_its_content_and_name(train: TrainingSet) -> None:
    write(Path("made.beton"), 2, seed=1)
    key = request("a=made.beton", train).key
    for suffix in (".beton", ".json"):
        shutil.copy(f"made{suffix}", f"copy{suffix}")
    assert request("a=copy.beton", train).key == key == beton_key("a", load_manifest(Path("made.beton")).content_hash)
    assert request("b=made.beton", train).key != key
    write(Path("copy.beton"), 2, seed=1, hints={"tile_grid": 2}, force=True)
    assert request("a=copy.beton", train).key != key


def test_a_beton_without_manifest_is_keyed_by_its_samples(train: TrainingSet) -> None:
    numbered = write(Path("numbered.beton"), classes=("0", "1"))
    base = TrainingSet(numbered, load_manifest(numbered), train.labels)
    for number in range(2):
        write(Path(f"{number}.beton"), 2, ("0", "1"), seed=number)
        Path(f"{number}.json").unlink()
    keys = [request(f"a={number}.beton", base).key for number in (0, 1, 0)]
    assert keys[0] == keys[2] != keys[1]


def test_the_key_of_a_list_is_that_of_its_bytes_and_rules(train: TrainingSet) -> None:
    text = "a=list:kept.txt"
    key = request(text, train).key
    shutil.copy("kept.txt", "copy.txt")
    assert request("a=list:copy.txt", train).key == request(text, train, ipc=5).key == key
    Path("copy.txt").write_text("bark/1\nbark/2\nmoss/1\n")
    others = [request(other, train).key for other in ("a=list:copy.txt", "b=list:kept.txt", f"{text}[fit=pad]")]
    others.append(request(text, train, image_size=20).key)
    assert len({key, *others}) == 5


def test_the_key_of_scores_is_that_of_their_bytes_settings_and_ipc(train: TrainingSet) -> None:
    text = "a=scores:el2n.npy[index_order=own,keep={}]"
    keys = {request(text.format(keep), train, ipc).key for keep in ("easy", "hard") for ipc in (2, 3)}
    np.save("el2n.npy", np.arange(12.0))
    assert len({*keys, request(text.format("easy"), train).key}) == 5


def test_a_list_becomes_the_set_of_compress_from_list(train: TrainingSet) -> None:
    made = make_external(request("a=list:kept.txt[fit=pad]", train), Path("a.beton"))
    again = compress_list(Path("kept.txt"), train.path, Path("b.beton"), image_size=SIZE, fit="pad")
    assert Path("a.beton").read_bytes() == Path("b.beton").read_bytes()
    assert made.manifest.content_hash == again.content_hash
    assert list(made.seconds) == ["writing"]


def test_scores_become_the_set_of_compress_from_scores(train: TrainingSet) -> None:
    make_external(request("a=scores:el2n.npy[keep=hard,index_order=own]", train, ipc=3), Path("a.beton"))
    config = ScoreConfig(keep="hard")
    rules: dict[str, Any] = {"ipc": 3, "config": config, "image_size": SIZE, "index_order": "own"}
    compress_scores(Path("el2n.npy"), train.path, Path("b.beton"), **rules)
    assert Path("a.beton").read_bytes() == Path("b.beton").read_bytes()


def test_a_file_that_changes_after_it_was_read_is_refused(train: TrainingSet) -> None:
    listed = request("a=list:kept.txt", train)
    Path("kept.txt").write_text("bark/1\n")
    with pytest.raises(MethodError, match=r"kept.txt: changed after external set a was read; run the command again"):
        make_external(listed, Path("a.beton"))
    assert not Path("a.beton").exists()
    write(Path("made.beton"), 2, seed=1)
    imported = opened("a=made.beton", train)
    imported.check(deep=True)
    write(Path("made.beton"), 2, seed=2, force=True)
    with pytest.raises(MethodError, match=r"made.beton: changed after external set a was read"):
        imported.check()
    Path("made.beton").unlink()
    with pytest.raises(ConfigError, match=r"made.beton: does not exist"):
        imported.check()


def test_a_damaged_image_of_a_beton_is_found(train: TrainingSet) -> None:
    write(Path("made.beton"), 2, seed=1)
    imported = opened("a=made.beton", train)
    with BetonFile(Path("made.beton")) as file:
        payload = bytes(file.payload(0))
    damaged = Path("made.beton").read_bytes().replace(payload, payload[:-1] + bytes([payload[-1] ^ 1]))
    Path("made.beton").write_bytes(damaged)
    with pytest.raises(BetonError, match=r"made.beton: payload of sample 0: .*verify-beton made.beton --deep"):
        imported.check(deep=True)
