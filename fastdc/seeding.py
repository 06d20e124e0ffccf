"""Derive seeds by name, so that every random decision states what it depends on."""

import hashlib
import json

SeedPart = str | int | float | bool | None


def derive_seed(root: int, purpose: str, **parts: SeedPart) -> int:
    """Return the seed for one purpose: 63 bits of SHA-256 over the canonical JSON of its named parts.

    The first eight bytes are read as a little-endian integer, whose lowest bit is dropped.

    Args:
        root: the run's root seed.
        purpose: use of the seed ("shuffle", "init", ...); different purposes never share a stream.
        parts: everything else the decision may depend on (epoch, method, ipc, ...). Order does not matter.

    Returns:
        An integer in [0, 2**63).
    """
    canonical = json.dumps({"root": root, "purpose": purpose, **parts}, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(canonical.encode()).digest()[:8], "little") >> 1
