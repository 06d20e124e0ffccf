"""Record of where scores come from, as kept in a file of scores; `fastdc scores` writes it, `from-scores` reads it."""

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from fastdc.common.choices import End
from fastdc.common.errors import ConfigError
from fastdc.common.settings import first_problem

RECORD_VERSION = 1
PARQUET_KEY = b"fastdc-scores"
"""Key of the record in the schema's metadata of a parquet file."""
_MARK = re.compile(r"#\s*fastdc-scores\s*(\{.*)")


class ScoreColumn(BaseModel):
    """Origin of one column.

    Attributes:
        method, method_version, settings: the method whose score it is, with its settings.
        high: end that high values mark.
        published: end that high values of the published score mark.
        formula: the published score; None for a plug-in's.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    method_version: int
    settings: dict[str, JsonValue]
    high: End
    published: End | None = None
    formula: str | None = None


class ScoreRecord(BaseModel):
    """Origin of a file of scores.

    Attributes:
        version: version of this layout.
        tool, fastdc, command: the program, its version, and its command.
        dataset, train: name and content hash of the training set.
        observer: identity of every observer run.
        columns: the scores by name.
    """

    model_config = ConfigDict(frozen=True)

    version: int = RECORD_VERSION
    tool: str = "fastdc"
    fastdc: str
    command: str
    dataset: str
    train: str
    observer: list[dict[str, JsonValue]]
    columns: dict[str, ScoreColumn]

    def line(self) -> str:
        """Return the comment line of a text file."""
        return f"# fastdc-scores {self.model_dump_json()}"


def record_of_text(path: Path, text: str) -> ScoreRecord | None:
    """Return the record in the first line of a text file; None if there is none.

    Raises:
        ConfigError: the record is damaged, or of a newer version.
    """
    found = _MARK.fullmatch(text.partition("\n")[0].strip())
    return None if found is None else parse_record(path, found[1])


def parse_record(path: Path, text: str | bytes) -> ScoreRecord:
    """Return the record in a JSON text.

    Raises:
        ConfigError: it is damaged, or of a newer version.
    """
    try:
        values: Any = json.loads(text)
        if isinstance(values, dict) and values.get("version") != RECORD_VERSION:
            raise ConfigError(
                f"{path}: holds scores of version {values.get('version', 'unknown')}, this fastdc reads version "
                f"{RECORD_VERSION}; update fastdc"
            )
        return ScoreRecord.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: record of the scores: {first_problem(error)}; write the file again") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: record of the scores: no JSON ({error}); write the file again") from error
