"""Version of fastdc, which results record."""

__version__ = "0.3.0"
