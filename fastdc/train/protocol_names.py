"""Read and change full names of protocols, such as `hard*epochs=60`."""

from fastdc.common.errors import ConfigError
from fastdc.common.settings import parse_settings
from fastdc.train.protocols import protocols


def with_epochs(protocol: str, epochs: int) -> str:
    """Return the full name of a protocol at a number of epochs: `hard` and 60 give `hard*epochs=60`.

    Raises:
        ConfigError: the name sets epochs already.
    """
    if (short := without_epochs(protocol)) != protocol:
        raise ConfigError(f"protocol {protocol} sets its own epochs; give {short}, or list whole names as protocols")
    return f"{protocol}{',' if '*' in protocol else '*'}epochs={epochs}"


def without_epochs(protocol: str) -> str:
    """Return the full name of a protocol without the number of epochs: `hard*epochs=60,lr=0.1` gives `hard*lr=0.1`."""
    base, _, changes = protocol.partition("*")
    kept = [change for change in changes.split(",") if change.partition("=")[0].strip() != "epochs"]
    return "*".join(part for part in (base, ",".join(kept)) if part)


def inferred_of(protocol: str) -> tuple[str, ...]:
    """Return the settings that a protocol's source does not state.

    Args:
        protocol: full name; settings that it changes are not inferred.
    """
    base, _, changes = protocol.partition("*")
    changed = parse_settings(changes.split(",")) if changes else {}
    inferred = protocols().parts[base].recipe.inferred if base in protocols().parts else ()
    # "schedule's factor" depends on the setting before its apostrophe.
    names = [name for name in inferred if name.partition("'")[0] not in changed]
    return (*names, *(["the side of cutout"] if changed.get("mix") == "cutout" else []))
