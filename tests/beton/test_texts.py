"""Many strings in one buffer."""

import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from fastdc.beton.texts import Texts, hex_texts


class Holder(BaseModel):
    """Model with a field of this type, like the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    texts: Texts


def test_any_strings_round_trip():
    """Strings drawn by hypothesis: empty, with lone surrogates (names that are not UTF-8), in any script."""

    @given(st.lists(st.text(st.characters())))
    def check(strings):
        texts = Texts.of(iter(strings))
        assert list(texts) == strings
        assert [texts[index] for index in range(-len(strings), len(strings))] == strings * 2
        assert texts[1:-1:2] == tuple(strings[1:-1:2])
        assert texts == strings
        assert texts == tuple(strings)
        assert tuple(strings) == texts
        assert texts == Texts.of(strings)

    check()


def test_other_strings_are_not_equal():
    texts = Texts.of(["ab", "c"])
    for other in (["a", "bc"], ["ab"], ["ab", "c", ""], ["ab", "d"], []):
        assert texts != other
        assert texts != Texts.of(other)
    assert texts != "abc"


def test_outside_is_an_index_error():
    texts = Texts.of("ab")
    for index in (2, -3):
        with pytest.raises(IndexError):
            texts[index]


def test_utf8_or_not():
    assert Texts.of([]).is_utf8()
    assert Texts.of(["a", "日本"]).is_utf8()
    assert not Texts.of(["a", "\udcff"]).is_utf8()


def test_hex_of_digests_over_several_blocks():
    digests = [number.to_bytes(16, "big") for number in range(40_000)]
    texts = hex_texts(memoryview(b"".join(digests)), 16)
    assert texts == [digest.hex() for digest in digests]
    assert texts == Texts.of(digest.hex() for digest in digests)


def test_pydantic_reads_and_writes_a_list():
    texts = Texts.of(["a", "ü"])
    made = Holder(texts=texts)
    assert made.texts is texts  # a million strings are not copied
    assert made == Holder.model_validate_json('{"texts": ["a", "ü"]}') == Holder(texts=["a", "ü"])
    assert Holder.model_validate_json(made.model_dump_json()) == made
    assert made.model_dump() == {"texts": ["a", "ü"]}
    for wrong in ('{"texts": ["a", 1]}', '{"texts": "a"}', "{}"):
        with pytest.raises(ValidationError, match="texts"):
            Holder.model_validate_json(wrong)


def test_a_string_takes_its_bytes_and_eight_more():
    count = 20_000
    tracemalloc.start()
    try:
        texts = Texts.of(f"n01440764/n01440764_{number:05d}.JPEG" for number in range(count))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held / count < 1.2 * (len(texts[0]) + 8)
    assert held / count < 0.6 * sys.getsizeof(texts[0])
