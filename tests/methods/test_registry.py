"""Lookup, names and refusal of methods."""

import subprocess
import sys
from pathlib import Path
from typing import Generic, TypeVar

import pytest

from fastdc.common.errors import ConfigError, MethodError
from fastdc.methods import (
    Compressed,
    Method,
    MethodConfig,
    MethodContext,
    all_methods,
    get_method,
    parse_variant,
    variant_name,
)
from fastdc.methods.bases.method import budget_problem
from fastdc.methods.bases.score_methods import LogConfig
from fastdc.methods.registry import Registry

Other = TypeVar("Other")
SCORED = {
    "aum",
    "cad_prune",
    "ccs",
    "dual",
    "dyn_unc",
    "el2n",
    "entropy",
    "forgetting",
    "grand",
    "least_confidence",
    "margin",
    "tdds",
}
GEOMETRIC = {
    "craig",
    "d2",
    "facility_location",
    "gradmatch",
    "graph_cut",
    "herding",
    "k_center",
    "moderate",
    "prototypes",
    "r_cad",
    "ssp",
}
DISTILLED = {"ca2d", "cda", "cim", "delt", "dwa", "edc", "fadrm", "gvbsm", "lpld", "rded", "sre2l"}
NAMES = ["full", "random", *sorted({"noise", "pact", "pca", *SCORED, *GEOMETRIC, *DISTILLED})]


def test_the_registered_methods() -> None:
    assert list(all_methods()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_metadata_is_complete(name: str) -> None:
    method = get_method(name)
    assert method.info.name == name
    assert method.config_class.__doc__
    if method.info.family != "reference" and name != "random":
        assert method.info.bibtex.startswith("@")
        assert str(method.info.year) in method.info.bibtex


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"full"}))
def test_defaults_are_class_balanced_as_the_benchmarks_are(name: str) -> None:
    method = get_method(name)
    assert method.info.class_balanced
    assert method.class_balanced(method.configure({}))


def test_unknown_name_suggests_the_closest() -> None:
    with pytest.raises(MethodError, match="did you mean 'el2n'"):
        get_method("eln2")


def test_a_taken_name_names_both_origins() -> None:
    registry = Registry()
    registry.register(get_method("pca"))
    with pytest.raises(MethodError, match=r"pca\.py:\d+ and .*pca\.py:\d+"):
        registry.register(get_method("pca"))


def test_listing_methods_imports_no_torch_and_no_numba() -> None:
    code = "import sys, fastdc.methods as m; m.all_methods(); print([x in sys.modules for x in ('torch', 'numba')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == "[False, False]"


PLUGIN = """
from fastdc.methods import Compressed, Method, MethodInfo

class Mine(Method):
    info = MethodInfo(name="mine", title="Mine", family="pruning", paper="", year=2026, bibtex="")
    def compress(self, context, config, ipc, seed):
        return Compressed(context.labels[:1], context.labels[:1, None])

METHOD = Mine()
"""


def with_plugin(site: Path, module: str, points: str, code: str) -> str:
    """Install a module `mine` with entry points; return the output of code in a process that sees it."""
    (site / "mine.py").write_text(module)
    folder = site / "mine-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[fastdc.methods]\n{points}\n")
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=site).stdout


def test_plugins_of_other_packages_are_found_and_broken_ones_reported(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text("import no_such_module\n")
    code = "import fastdc.methods as m; print('mine' in m.all_methods(), m.broken_methods()['wrong'])"
    found = with_plugin(tmp_path, PLUGIN, "mine = mine\nwrong = wrong:METHOD", code)
    assert found.startswith("True wrong:METHOD: ModuleNotFoundError")


def test_a_plugin_may_count_its_images_without_their_side() -> None:
    """`Method.images_needed` had two arguments up to fastdc 0.3."""

    class Older(Method):
        info = get_method("random").info

        def images_needed(self, config: MethodConfig, ipc: int) -> int:  # type: ignore[override]
            return 3 * ipc

        def compress(self, context: MethodContext, config: MethodConfig, ipc: int, seed: int) -> Compressed:
            raise AssertionError

    problem = budget_problem(Older(), MethodConfig(), ["a", "b"], [30, 20], 10, 64)
    assert problem == "ipc=10 needs 30 images of every class, class 'b' has 20"


def test_a_broken_plugin_cannot_replace_a_built_in_method(tmp_path: Path) -> None:
    code = "import fastdc.methods as m; print(m.get_method('random').info.name, m.broken_methods()['class'])"
    plugin = PLUGIN.replace("METHOD = Mine()", "")
    found = with_plugin(tmp_path, plugin, "random = no_such_module\nclass = mine:Mine", code)
    assert found.startswith("random mine:Mine: MethodError")
    assert "expected an instance" in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pca", ("pca", {})),
        ("el2n[keep=hard]", ("el2n", {"keep": "hard"})),
        ("pca[grid=3,last_epoch=5]", ("pca", {"grid": 3, "last_epoch": 5})),
    ],
)
def test_variants_are_parsed_and_named(text: str, expected: tuple[str, dict[str, object]]) -> None:
    assert parse_variant(text) == expected
    assert variant_name(*expected) == text


@pytest.mark.parametrize("text", ["el2n[keep=hard", "el2n]", "el2n[keep]", ""])
def test_malformed_variants_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_variant(text)


def test_settings_are_typed_and_checked() -> None:
    assert get_method("pca").configure({"grid": "3"}).grid == 3
    with pytest.raises(ConfigError, match="did you mean 'grid'"):
        get_method("pca").configure({"gird": 3})
    with pytest.raises(ConfigError, match="grid=0"):
        get_method("pca").configure({"grid": 0})
    with pytest.raises(ConfigError, match="keep='soft'"):
        get_method("el2n").configure({"keep": "soft"})
    with pytest.raises(ConfigError, match="window ends before"):
        get_method("el2n").configure({"first_epoch": 4, "last_epoch": 2})


class Own(MethodConfig):
    shift: int = 1


@pytest.mark.parametrize("name", ["sre2l", "cda", "gvbsm", "lpld", "fadrm", "rded", "ca2d", "noise"])
def test_fit_is_refused_where_no_whole_image_is_fitted(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"method {name}: .*fit=squash changes nothing .*leave it out"):
        get_method(name).configure({"fit": "squash"})
    get_method(name).configure({"fit": "crop"})


@pytest.mark.parametrize("name", ["delt", "dwa", "edc"])
def test_fit_is_a_setting_of_starts_from_whole_images(name: str) -> None:
    assert get_method(name).configure({"fit": "pad"}).fit == "pad"


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("dual", {"sampling": False, "exponent": 5}, "exponent=5.0 changes nothing with sampling=false"),
        ("d2", {"mis_ratio": 0, "mis_score": "el2n"}, "mis_score=el2n changes nothing with mis_ratio=0"),
    ],
)
def test_settings_of_a_step_that_is_left_out_are_refused(name: str, settings: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        get_method(name).configure(settings)
    for setting in settings:
        get_method(name).configure({setting: settings[setting]})


def test_the_settings_class_follows_from_the_base() -> None:
    plain = type("Plain", (Method,), {})
    older = type("Older", (Method,), {"config_class": Own})

    class Named(Method[Own]):
        pass

    class Several(Named, Generic[Other]):
        pass

    assert [found.config_class for found in (plain, older, Named, Several)] == [MethodConfig, Own, Own, Own]
    assert get_method("forgetting").config_class is LogConfig


def test_an_omitted_method_has_a_reason() -> None:
    with pytest.raises(MethodError, match=r"'glister' is left out: .* held-out set.* use gradmatch"):
        get_method("glister")
