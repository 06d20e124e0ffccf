"""Base of the methods that run teachers: frozen networks that are trained, or read from a file, before. No torch."""

import re
from typing import Any, ClassVar

from pydantic import Field, field_validator

from fastdc.methods.base import Method, MethodConfig


class TeacherConfig(MethodConfig):
    """Settings of a method that runs teachers.

    Attributes:
        teachers: the networks, as `fastdc.observe.teacher` names them ("observer", "observer:resnet50",
            "resnet18@weights.pth", "efficientnet_lite0", ...); a list, or a text with "," or "+" between them.
    """

    teachers: tuple[str, ...] = Field(("observer",), min_length=1)

    @field_validator("teachers", mode="before")
    @classmethod
    def _split_teachers(cls, value: Any) -> Any:
        return split_teachers(value) if isinstance(value, str) else value


def split_teachers(text: str) -> tuple[str, ...]:
    """`"observer+observer:vgg11_bn"` -> two names. A comma does the same where it ends nothing else."""
    return tuple(part.strip() for part in re.split(r"[,+]", text) if part.strip())


class TeacherMethod(Method):
    """A method that runs the teachers of its settings; they come in `MethodContext.teaching`."""

    config_class: ClassVar[type[MethodConfig]] = TeacherConfig

    def teachers(self, config: MethodConfig) -> tuple[str, ...]:
        """As the settings say."""
        assert isinstance(config, TeacherConfig)
        return config.teachers
