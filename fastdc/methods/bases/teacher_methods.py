"""Base of the methods that run teachers: frozen networks, trained beforehand or read from a file. Imports no torch."""

import re
from typing import Any

from pydantic import Field, field_validator
from typing_extensions import TypeVar

from fastdc.methods.bases.method import Method
from fastdc.methods.bases.method_config import MethodConfig


class TeacherConfig(MethodConfig):
    """Settings of a method that runs teachers.

    Attributes:
        teachers: the networks, as `fastdc.teachers.names` names them ("observer", "observer:resnet50",
            "resnet18@weights.pth", "efficientnet_lite0", ...). A list, or one string with "," or "+" as separator.
    """

    teachers: tuple[str, ...] = Field(("observer",), min_length=1)

    @field_validator("teachers", mode="before")
    @classmethod
    def _split_teachers(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        # In the name of a variant, only "+" can be used, because a comma ends the setting there.
        return tuple(part.strip() for part in re.split(r"[,+]", value) if part.strip())


TeacherT = TypeVar("TeacherT", bound=TeacherConfig, default=TeacherConfig)


class TeacherMethod(Method[TeacherT]):
    """Base of the methods that run the teachers of their settings, which `MethodContext.teaching` holds."""

    def teachers(self, config: TeacherT) -> tuple[str, ...]:
        """Return the teachers of the settings."""
        return config.teachers
