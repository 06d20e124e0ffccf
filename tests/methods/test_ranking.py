"""Rankings of mosaic sources: methods with settings, a teacher, lists and files of scores."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastdc.beton import BetonFile, describe_beton, load_manifest
from fastdc.common.errors import ConfigError, FastDCError, MethodError
from fastdc.common.keys import content_key
from fastdc.common.settings import split_names
from fastdc.methods import get_method, parse_variant, variant_name
from fastdc.nn.device import choose_compute
from fastdc.observe.observer_config import ObserverConfig
from fastdc.subsets.compress import compress_beton
from fastdc.subsets.list_scores import TrainingLists
from fastdc.sweep.sweep_config import load_config
from fastdc.teachers.load import load_teacher
from fastdc.teachers.names import plan_teacher
from tests.methods.observed import Case, make_case
from tests.subsets.requests import subset_identity

OBSERVER = ObserverConfig(arch="convnet_w8", epochs=3, batch_size=32, lr=0.05, image_size=28, threads=1)
PAPER_OBSERVER = ObserverConfig(arch="convnet_w32", epochs=10, image_size=64, threads=1, device="cpu", precision="fp32")
KEYS = {
    "pca[score=aum]": "08ff1355515536b3f0aa5c00fad60be5",
    "pca[score=random]": "4df8ce1bbc2ea177626304049ba0d07d",
    "pca[offset=50,grid=3]": "a1ed3622063fe91d033a0c7d82723b74",
    "pca[whole=0.25]": "7c32e01ae531b77eded9e009cbf0d5c4",
    "pca[scale_min=0.3,align=0.5]": "e2f9a4a81caa9030dd623881f095b7e7",
    "rded": "d8c2eb38240ca9f6ba3fccc3e8f445c8",
    "random": "50208900d8ea6681d940cc2bf1ab931f",
    "el2n[keep=hard]": "069055280586b4ddac9ff1fbd15fb40e",
    "sre2l": "b04e4319dfad569ad0db6dfb4509074b",
    "ccs": "432bccafb0839b5449f11b0193ee587e",
    "dual": "392bd006e2a5b33de73ece6fc9c712e9",
    "noise": "b21b026df82a5e80e67008f94863a51a",
}
"""Keys of subsets before methods had the setting `augment`, and pca those of views and files (5fde4a4)."""


def key_of(variant: str, **more: Any) -> str:
    name, own = parse_variant(variant)
    return content_key(subset_identity(name, {**own, **more}, "a" * 32, 10, 0, 64, PAPER_OBSERVER))


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("observed"))


@pytest.mark.parametrize("variant", list(KEYS))
def test_new_settings_keep_old_keys(variant: str) -> None:
    assert key_of(variant) == KEYS[variant]


def made(betons: Any, out: Path, score: str, **changes: Any) -> NDArray[np.int64]:
    """Return the sources of `pca` under a score, int64 [M, K], read from the stored set."""
    options = {"ipc": 2, "image_size": 28, "workdir": out / "work", "observer": OBSERVER, "threads": 1, "force": True}
    own = {"score": score, **changes.pop("settings", {})}
    stored = compress_beton("pca", betons.train, out / "out.beton", settings=own, **{**options, **changes}).manifest
    numbers = {name: index for index, name in enumerate(describe_beton(betons.train).ids)}
    return np.array([[numbers[part] for part in name.split("+")] for name in stored.ids])


# --- methods with settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "scorer", "own"),
    [
        ("aum+last_epoch=5", "aum", {"last_epoch": 5}),
        ("aum+softmax=true+last_epoch=4", "aum", {"softmax": True, "last_epoch": 4}),
        ("dyn_unc+window=4", "dyn_unc", {"window": 4}),
        ("dual+window=4+last_epoch=6", "dual", {"window": 4, "last_epoch": 6}),
    ],
)
def test_a_score_takes_settings(case: Case, text: str, scorer: str, own: dict[str, Any]) -> None:
    pca, ranked = get_method("pca"), get_method(scorer)
    config, theirs = pca.configure({"score": text, "grid": 1}), ranked.configure(own)
    scores = ranked.scores(case.context, theirs)
    assert scores is not None
    np.testing.assert_array_equal(pca.scores(case.context, config), scores)
    assert not np.array_equal(scores, ranked.scores(case.context, ranked.configure({})))
    found = pca.compress(case.context, config, 3, 0).sources[:, 0]
    for label in range(4):
        members = np.flatnonzero(case.labels == label)
        easiest = members[np.argsort(scores[members], kind="stable")][:3]
        np.testing.assert_array_equal(found[case.labels[found] == label], easiest)
    assert pca.observer_needs(config) == ranked.observer_needs(theirs)
    assert pca.observer_epochs(config) == ranked.observer_epochs(theirs)
    assert pca.shortest_log(config) == ranked.shortest_log(theirs)


def test_two_spellings_of_a_score_are_one_key() -> None:
    first, second = (
        key_of("pca[score=aum+softmax=true+last_epoch=5]"),
        key_of("pca[score=aum+last_epoch=5+softmax=true]"),
    )
    assert first == second != key_of("pca[score=aum+softmax=true]")
    assert key_of("pca[score=aum+softmax=false]") == key_of("pca[score=aum]")
    pca = get_method("pca")
    shown = pca.configure({"score": "aum+softmax=true+last_epoch=5"}).model_dump()["score"]
    assert shown == "aum+last_epoch=5+softmax=true"


def test_the_command_line_and_yaml_take_the_spelling(tmp_path: Path) -> None:
    text = "pca[score=aum+last_epoch=5,grid=3]"
    assert split_names(f"random,{text},el2n") == ["random", text, "el2n"]
    name, own = parse_variant(text)
    assert own == {"score": "aum+last_epoch=5", "grid": 3}
    assert variant_name(name, own) == "pca[grid=3,score=aum+last_epoch=5]"
    paths = {"train": tmp_path / "t.beton", "val": tmp_path / "v.beton", "workdir": tmp_path}
    file = tmp_path / "grid.yaml"
    file.write_text("methods: [pca, 'pca[score=dual+window=4]']\nset: {pca: {score: aum+last_epoch=5}}\n")
    config = load_config(file, paths)
    assert config.methods == ("pca", "pca[score=dual+window=4]")
    assert config.set == {"pca": {"score": "aum+last_epoch=5"}}
    assert load_config(None, {**paths, "methods": "pca"}, ["pca.score=list:a b.tsv"]).set == {
        "pca": {"score": "list:a b.tsv"}
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("aum+last_epok=5", "method pca: score=aum.last_epok=5: method aum: unknown setting 'last_epok'; did you mean"),
        ("aum+last_epoch", r"setting 'last_epoch': expected key=value"),
        ("aum+last_epoch=0", "last_epoch=0: input should be greater"),
        (
            "aum+keep=hard",
            "keep changes nothing: it is read by the choice of aum, not by its score",
        ),
        ("ccs+beta=0.2", "beta changes nothing: it is read by the choice of ccs"),
        ("dual+exponent=3", "exponent changes nothing"),
        ("el2n+last_epoch=5", "el2n takes no settings here; set first_epoch and last_epoch of pca itself, and leave"),
        ("el2n+keep=hard", "el2n takes no settings here; set first_epoch and last_epoch of pca itself, and leave"),
        ("foo", "method pca: score=foo: unknown method 'foo'"),
        ("herding", "ranks no images by a score; take random, teacher, list:FILE, scores:FILE"),
        ("list:", "score=list: names no file, expected list:FILE"),
        ("scores:nowhere.tsv", r"nowhere\.tsv: cannot be read \(No such file or directory\)"),
    ],
)
def test_unknown_scores_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        get_method("pca").configure({"score": text})


# --- a teacher -----------------------------------------------------------------------------------------------------


def test_images_are_ranked_by_the_teachers_loss(betons: Any, tmp_path: Path) -> None:
    """Compare with float64 arithmetic on the logits of the stored pixels, one image at a time."""
    found = made(betons, tmp_path, "teacher", settings={"grid": 1})
    manifest, compute = describe_beton(betons.train), choose_compute("fp32", 1)
    plan = plan_teacher("observer", manifest, OBSERVER)
    model = load_teacher(plan, betons.train, tmp_path / "work", compute, image_size=28).model
    with BetonFile(betons.train) as file:
        losses = np.array([_loss(model, file.decode(i), int(file.labels[i])) for i in range(len(file))])
        labels = file.labels.copy()
    for label in range(3):
        members = np.flatnonzero(labels == label)
        easiest = members[np.argsort(losses[members], kind="stable")][:2]
        assert sorted(found[labels[found[:, 0]] == label, 0]) == sorted(easiest)
    scores = [float(line.split("\t")[2]) for line in (tmp_path / "out.list.tsv").read_text().splitlines()[2:]]
    np.testing.assert_allclose(scores, losses[found[:, 0]], rtol=1e-4, atol=1e-6)


def _loss(model: Any, image: NDArray[np.uint8], label: int) -> float:
    import torch

    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = ((image / 255 - mean) / std).transpose(2, 0, 1)[None]
    with torch.no_grad():
        logits = model(torch.from_numpy(pixels.astype(np.float32)))[0].double().numpy()
    return float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label])


def test_a_teacher_score_needs_a_teacher() -> None:
    pca = get_method("pca")
    config = pca.configure({"score": "teacher", "teachers": "observer+observer:resnet18"})
    assert pca.teachers(config) == ("observer", "observer:resnet18")
    assert (pca.observed(config), pca.observer_epochs(config), pca.stochastic(config)) == (False, 0, False)
    assert pca.network_visits(config, 10, 900, 64, 3) == 600
    plain = pca.configure({})
    assert pca.teachers(plain) == ()
    assert pca.network_visits(plain, 10, 900, 64, 3) == 0


# --- files -----------------------------------------------------------------------------------------------------------


def listed(betons: Any, path: Path, images: Any, scores: Any = None) -> Path:
    """Write a list of the training images with these numbers."""
    manifest = describe_beton(betons.train)
    with BetonFile(betons.train) as file:
        classes = [manifest.classes[label] for label in file.labels]
    rows = [f"{manifest.ids[i]}\t{classes[i]}\t{'' if scores is None else scores[i]}" for i in images]
    path.write_text("\n".join(rows) + "\n")
    return path


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(120)), st.integers(24, 120), st.sampled_from(["easy", "hard"]))
def test_a_list_is_a_ranking_and_a_limit(
    betons: Any, tmp_path_factory: pytest.TempPathFactory, order: list[int], count: int, keep: str
) -> None:
    """The first of each class are taken, or with keep=hard the last; never an unnamed image."""
    folder, named = tmp_path_factory.mktemp("listed"), np.array(order[:count])
    with BetonFile(betons.train) as file:
        labels = file.labels.copy()
    path = listed(betons, folder / "l.tsv", named)
    if np.bincount(labels[named], minlength=3).min() < 8:
        with pytest.raises(MethodError, match=r"names [0-7] images of class .*, 8 are needed"):
            made(betons, folder, f"list:{path}", settings={"keep": keep})
        return
    found = made(betons, folder, f"list:{path}", settings={"keep": keep})
    for label in range(3):
        own = named[labels[named] == label]
        expected = own[:8] if keep == "easy" else own[::-1][:8]
        np.testing.assert_array_equal(found[labels[found[:, 0]] == label].ravel(), expected)


def test_indices_of_a_set_in_its_own_order_are_refused(betons: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "l.npy", np.arange(120))
    with pytest.raises(
        MethodError, match=r"holds indices, but .* do not come from class folders.; name images by id or path$"
    ):
        made(betons, tmp_path, f"list:{tmp_path / 'l.npy'}")


def test_scores_of_a_file_rank_as_a_methods_do(betons: Any, tmp_path: Path) -> None:
    values = np.random.default_rng(0).permutation(120) / 7 - 3
    path = listed(betons, tmp_path / "s.tsv", np.random.default_rng(1).permutation(120), values)
    with BetonFile(betons.train) as file:
        labels = file.labels.copy()
    for keep, sign in (("easy", 1), ("hard", -1)):
        found = made(betons, tmp_path, f"scores:{path}", settings={"keep": keep, "offset": 10})
        for label in range(3):
            members = np.flatnonzero(labels == label)
            window = members[np.argsort(sign * values[members], kind="stable")][4 : 4 + 8]
            np.testing.assert_array_equal(found[labels[found[:, 0]] == label].ravel(), window)
    stored = [float(line.split("\t")[2]) for line in (tmp_path / "out.list.tsv").read_text().splitlines()[2:]]
    np.testing.assert_allclose(stored, values[found.ravel()], rtol=1e-8)


def test_a_score_is_chosen_among_those_of_a_file(betons: Any, tmp_path: Path) -> None:
    path, ids = tmp_path / "several.csv", describe_beton(betons.train).ids
    path.write_text("id,a,b\n" + "".join(f"{name},{row},{-row}\n" for row, name in enumerate(ids)))
    alone = listed(betons, tmp_path / "b.tsv", range(120), -np.arange(120.0))
    found = made(betons, tmp_path, f"scores:{path}+score=b")
    np.testing.assert_array_equal(found, made(betons, tmp_path, f"scores:{alone}"))
    assert key_of("pca", score=f"scores:{path}+score=a") != key_of("pca", score=f"scores:{path}+score=b")
    for text, reason in {
        f"scores:{path}": r"holds 2 scores: a, b; name one: .*, or score=scores:FILE\+score=a in pca",
        f"scores:{path}+score=c": "has no score 'c'",
        f"list:{path}+score=a": r"a list has no columns; leave \+score=a out",
    }.items():
        with pytest.raises(ConfigError, match=reason):
            made(betons, tmp_path, text)


def test_the_list_of_mosaics_has_their_sources(betons: Any, tmp_path: Path) -> None:
    first = made(betons, tmp_path, "random")
    kept = shutil.copy(tmp_path / "out.list.tsv", tmp_path / "kept.tsv")
    np.testing.assert_array_equal(made(betons, tmp_path, f"list:{kept}"), first)


def test_a_file_is_identified_by_its_content(betons: Any, tmp_path: Path) -> None:
    first, other = (listed(betons, tmp_path / name, range(120)) for name in ("a.tsv", "b.tsv"))
    third = listed(betons, tmp_path / "c.tsv", range(119, -1, -1))
    keys = [key_of("pca", score=f"list:{path}") for path in (first, other, third)]
    assert keys[0] == keys[1] != keys[2]
    assert key_of("pca", score=f"scores:{first}") != keys[0]
    pca = get_method("pca")
    pinned = pca.configure({"score": f"list:{first}"}).model_dump()["score"]
    assert pinned.startswith(f"list:{first}#")
    assert pca.configure({"score": pinned}).model_dump()["score"] == pinned
    assert key_of("pca", score=pinned) == keys[0]
    shutil.copy(third, first)
    with pytest.raises(ConfigError, match=r"the file holds other content now, #[0-9a-f]{16}; give it without its key"):
        pca.configure({"score": pinned})


def test_a_file_that_changes_after_planning_is_refused(betons: Any, tmp_path: Path) -> None:
    path = listed(betons, tmp_path / "a.tsv", range(120))
    pca = get_method("pca")
    config = pca.configure({"score": f"list:{path}"})
    path.write_text(path.read_text() + "\n")
    with pytest.raises(FastDCError, match="other content now"):
        pca.observed(config)


@pytest.mark.parametrize(
    ("kind", "content", "reason"),
    [
        ("list", "train/0\nnot/there\n", r":2: image 'not/there' is not in the training set"),
        ("list", "train/1\ttrouser\n", ":1: image 'train/1' is listed as class 'trouser'"),
        ("list", "train/1\ntrain/1\n", ":2: 'train/1' was named in line 1 already"),
        ("list", "# nothing\n", "holds no images"),
        ("scores", "train/1\t\t0.5\n", "has a score for 1 of 120 training images, '.*' is missing; score every image"),
        ("scores", "train/1\t\tlow\n", ":1: score 'low', expected a finite number in the third column"),
        ("scores", "train/1\t\tnan\n", ":1: score 'nan', expected a finite number"),
        ("scores", "train/1\n", ":1: score '', expected a finite number"),
    ],
)
def test_files_that_do_not_fit_are_refused(betons: Any, tmp_path: Path, kind: str, content: str, reason: str) -> None:
    manifest = describe_beton(betons.train)
    path = tmp_path / "r.tsv"
    path.write_text(content.replace("train/0", manifest.ids[0]).replace("train/1", manifest.ids[1]))
    with pytest.raises(MethodError, match=reason.replace("train/1", manifest.ids[1])):
        made(betons, tmp_path, f"{kind}:{path}")
    assert not (tmp_path / "out.beton").exists()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.arange(119.0), r"holds float64 \[119\], expected numbers \[120\]"),
        (np.zeros((120, 1)), r"holds float64 \[120, 1\]"),
        (np.array(["a"] * 120), r"holds <U1 \[120\]"),
        (np.where(np.arange(120) == 7, np.inf, 1.0), r"\[7\]: score inf, expected a finite number"),
        (np.arange(120.0), "holds scores by index, but images of fashion3 are not numbered as torchvision's"),
    ],
    ids=["short", "matrix", "text", "infinite", "order"],
)
def test_arrays_that_do_not_fit_are_refused(betons: Any, tmp_path: Path, values: Any, reason: str) -> None:
    np.save(tmp_path / "s.npy", values)
    with pytest.raises(MethodError, match=reason):
        made(betons, tmp_path, f"scores:{tmp_path / 's.npy'}")


def test_arrays_follow_the_order_of_class_folders(betons: Any, tmp_path: Path) -> None:
    manifest = describe_beton(betons.train).model_copy(update={"order": "imagefolder"})
    with BetonFile(betons.train) as file:
        lists = TrainingLists(manifest, file.labels)
        for kind in (np.float32, np.int64):
            values = np.random.default_rng(2).permutation(120).astype(kind)
            np.save(tmp_path / "s.npy", values)
            np.testing.assert_array_equal(lists.scores(tmp_path / "s.npy"), values.astype(np.float64))
        np.save(tmp_path / "l.npy", np.array([5, 3, 9]))
        assert lists.images(tmp_path / "l.npy").tolist() == [5, 3, 9]
    (tmp_path / "no.npy").write_bytes(b"no array")
    with pytest.raises(ConfigError, match="cannot be read"):
        lists.scores(tmp_path / "no.npy")


def test_the_stored_set_records_the_file(betons: Any, tmp_path: Path) -> None:
    path = listed(betons, tmp_path / "a.tsv", range(120))
    made(betons, tmp_path, f"list:{path}")
    config = load_manifest(tmp_path / "out.beton").made["config"]
    assert isinstance(config, dict)
    assert config["score"] == get_method("pca").configure({"score": f"list:{path}"}).ranking.identity["score"]  # type: ignore[attr-defined]
