"""Compute content hashes, which identify data and everything derived from it."""

import hashlib
import json
from typing import Any


def content_key(value: Any, length: int = 32) -> str:
    """Return the hex SHA-256 of the canonical JSON of `value`, cut to `length` characters.

    Dictionaries are sorted by key, so the order of settings does not matter.

    Raises:
        ValueError: `value` holds NaN or infinity.
        TypeError: `value` holds something that JSON cannot express.
    """
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]


def bytes_key(data: bytes | memoryview, length: int = 32) -> str:
    """Return the hex SHA-256 of `data`, cut to `length` characters (32 hex digits = 128 bits)."""
    return hashlib.sha256(data).hexdigest()[:length]
