"""Names of parts."""

from pathlib import Path

import pytest

from fastdc.common.errors import ConfigError
from fastdc.common.registry import Registry


class Part:
    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def registry() -> Registry[Part]:
    return Registry("part", Part, lambda part: part.name, ConfigError)


@pytest.mark.parametrize("name", ["", "Upper", "a b", "-a", "a*b", "a[b]", "a/b"])
def test_a_malformed_name_is_refused(registry: Registry[Part], name: str) -> None:
    with pytest.raises(ConfigError, match=r"test_registry\.py:\d+\): a name has only a-z, 0-9, - and _"):
        registry.register(Part(name))


def test_a_taken_name_names_both_places(registry: Registry[Part]) -> None:
    registry.register(Part("a"), "here")
    with pytest.raises(ConfigError, match="part 'a' is registered twice: here and there; rename one"):
        registry.register(Part("a"), "there")
    assert registry.places == {"a": "here"}


def test_an_unknown_name_suggests_the_closest(registry: Registry[Part]) -> None:
    registry.register(Part("random"))
    with pytest.raises(ConfigError, match="unknown part 'randm'; did you mean 'random'"):
        registry.get("randm")


def test_a_file_may_define_several_parts(
    registry: Registry[Part], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_parts").mkdir()
    (tmp_path / "some_parts" / "__init__.py").write_text("")
    made = "from tests.common.test_registry import Part\n"
    (tmp_path / "some_parts" / "one.py").write_text(f"{made}PART = Part('one')")
    (tmp_path / "some_parts" / "two.py").write_text(f"{made}PARTS = (Part('two'), Part('three'))")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.load_folder("some_parts")
    assert list(registry.parts) == ["one", "two", "three"]
    assert registry.places["three"] == str(tmp_path / "some_parts" / "two.py")
    (tmp_path / "some_parts" / "zero.py").write_text("")
    with pytest.raises(ConfigError, match=r"zero\.py: defines no PART; end the file with PART = "):
        Registry("part", Part, lambda part: part.name, ConfigError).load_folder("some_parts")
