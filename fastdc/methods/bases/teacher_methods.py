"""Base of the methods that run teachers: frozen networks, trained beforehand or read from a file. Imports no torch."""

import re
from typing import Any, ClassVar

from pydantic import Field, field_validator

from fastdc.methods.bases.method import Method, MethodConfig


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
        return split_teachers(value) if isinstance(value, str) else value


def split_teachers(text: str) -> tuple[str, ...]:
    """Split a string at "+" or ",": `"observer+observer:vgg11_bn"` gives two names.

    In the name of a variant, only "+" can be used, because a comma ends the setting there.
    """
    return tuple(part.strip() for part in re.split(r"[,+]", text) if part.strip())


class TeacherMethod(Method):
    """Base of the methods that run the teachers of their settings, which `MethodContext.teaching` holds."""

    config_class: ClassVar[type[MethodConfig]] = TeacherConfig

    def teachers(self, config: MethodConfig) -> tuple[str, ...]:
        """Return the teachers of the settings."""
        assert isinstance(config, TeacherConfig)
        return config.teachers
