"""Seeds by name, and content keys."""

import hashlib
from pathlib import Path

import pytest

from fastdc.common.keys import bytes_key, content_key, derive_seed, file_key

GOLDEN_SEED = 8_648_960_712_471_351_112
GOLDEN_KEY = "cf0c4895ed707baaf7f40eaf8263541a"


def test_a_seed_depends_on_its_parts_and_not_on_their_order() -> None:
    seed = derive_seed(0, "shuffle", epoch=1, method="pca")
    assert seed == derive_seed(0, "shuffle", method="pca", epoch=1)
    others = [derive_seed(1, "shuffle", epoch=1, method="pca"), derive_seed(0, "init", epoch=1, method="pca")]
    others += [derive_seed(0, "shuffle", epoch=2, method="pca"), derive_seed(0, "shuffle", epoch=1)]
    assert len({seed, *others}) == 5
    assert all(0 <= one < 2**63 for one in [seed, *others])


def test_golden_values_hold_on_every_machine() -> None:
    assert derive_seed(0, "shuffle", epoch=0) == GOLDEN_SEED
    assert content_key({"b": 1, "a": [1.5, None]}) == content_key({"a": [1.5, None], "b": 1}) == GOLDEN_KEY


def test_content_key_refuses_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        content_key({"a": float("nan")})


def test_bytes_key_differs_for_other_bytes() -> None:
    assert bytes_key(b"a") != bytes_key(b"b")
    assert len(bytes_key(b"a")) == 32


def test_file_key_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    for content in (b"first", b"second one"):
        path.write_bytes(content)
        assert file_key(path, 64) == hashlib.sha256(content).hexdigest()
        assert file_key(path, 16) == bytes_key(content, 16)
