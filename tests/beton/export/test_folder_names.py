"""Folder names of classes: unchanged where every file system accepts them, and always unique."""

import pytest

from fastdc.beton.export.folder_names import folder_names
from fastdc.beton.sources.trees import is_hidden
from fastdc.beton.texts import one_spelling


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("n01440764", "n01440764"),
        ("tench, Tinca tinca", "tench, Tinca tinca"),
        ("Schlüssel", "Schlüssel"),
        ("a/b", "a%2Fb"),
        ("a\\b", "a%5Cb"),
        ("a\0b", "a%00b"),
        ("100%", "100%25"),
        ("..", "%2E%2E"),
        (".git", "%2Egit"),
        ("con", "%63on"),
        ("NUL.txt", "%4EUL.txt"),
        ("console", "console"),
        ("end.", "end%2E"),
        ("end ", "end%20"),
        ("lost+found", "%6Cost+found"),
        ("", "%_0"),
        ("x" * 300, "x" * 188 + "%_0"),
        ("é" * 150, "é" * 94 + "%_0"),
    ],
)
def test_names(name: str, folder: str) -> None:
    assert folder_names([name]) == (folder,)


def test_names_that_case_or_spelling_would_merge_are_numbered() -> None:
    classes = ("Cat", "cat", "dog", "é", "e\u0301", "Cat%_0", "same", "same", "ß", "SS")
    found = folder_names(classes)
    assert found[:3] == ("Cat%_0", "cat%_1", "dog")
    assert len({one_spelling(name).casefold() for name in found}) == len(classes)
    assert not any(map(is_hidden, found))
