"""Command that installs an extra of fastdc, for messages."""


def install_extra(name: str) -> str:
    """Return where and how to install an extra of pyproject.toml; fastdc is not on PyPI."""
    return f"in a clone of fastdc: pip install '.[{name}]' --constraint constraints.txt"
