"""External sets as a sweep plans them, with the interface of a method's variant, answered from their file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from fastdc.common.errors import ConfigError
from fastdc.common.settings import merge_settings
from fastdc.subsets.external_names import ExternalName, parse_external

if TYPE_CHECKING:
    from fastdc.beton import Manifest
    from fastdc.subsets.external import ExternalSet, TrainingSet
    from fastdc.subsets.external_request import ExternalRequest
    from fastdc.sweep.sweep_config import SweepConfig
    from fastdc.teachers.plan import TeacherPlan


@dataclass(frozen=True)
class ExternalVariant:
    """Describe an external set as the sweep trains on it; see `Variant` for what the properties mean.

    Attributes:
        named: the set as the command names it.
        settings: all its settings, from the brackets and from `set`.
        protocol_settings: overrides of the protocol for this set.
        opened: the set, once its file was read; see `with_file`.
    """

    named: ExternalName
    settings: dict[str, Any]
    protocol_settings: dict[str, Any]
    opened: "ExternalSet | None" = None

    sort: ClassVar[str] = "external set"
    explicit: ClassVar[bool] = True
    skip: ClassVar[None] = None
    whole_set: ClassVar[bool] = False
    observed: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False
    needs_order: ClassVar[bool] = False
    teachers: "ClassVar[tuple[TeacherPlan, ...]]" = ()

    @property
    def name(self) -> str:
        """Return the name of the set."""
        return self.named.name

    @property
    def stem(self) -> str:
        """Return the name of the set, which its stored file and messages start with."""
        return self.named.name

    @property
    def source(self) -> "ExternalSet":
        """Return the set, whose file was read."""
        assert self.opened is not None
        return self.opened

    @property
    def hints(self) -> dict[str, Any]:
        """Return the training hints of its images."""
        return self.source.hints

    def with_file(self, train: "TrainingSet", image_size: int) -> "ExternalVariant":
        """Return the variant with its file read and checked; see `open_external`."""
        from fastdc.subsets.external import open_external

        return replace(self, opened=open_external(self.named, self.settings, train, image_size))

    @property
    def follows_ipc(self) -> bool:
        """Return whether the set is chosen by scores; a beton or a list has its own number of images."""
        return self.named.kind == "scores"

    def budgets(self, ipcs: Sequence[int]) -> Sequence[int]:
        """Return the images per class of its rows: those of the sweep, or one number that the set itself has."""
        return ipcs if self.source.ipc is None else (self.source.ipc,)

    def budget_problem(self, train: "Manifest", ipc: int) -> str | None:
        """Return why a training set cannot serve `ipc` images per class, or None if it can."""
        return self.source.budget_problem(train, ipc)

    def facts(self, image_size: int) -> dict[str, Any]:
        """Return what rows state about the set."""
        source = self.source
        # Absolute, because reports and bundles are made in any folder.
        shown = {"external": source.stated, "per_class": source.per_class, "file": str(source.path.absolute())}
        shown |= {"kind": source.kind, "content": source.content}
        return {"inferred": [], "reduced": [], **shown}

    def network_visits(self, images: int, train_images: int, image_size: int, classes: int) -> float:
        """Return 0: storing the images runs no network."""
        return 0.0

    def request(self, config: "SweepConfig", train: "Manifest", ipc: int) -> "ExternalRequest":
        """Return the request for its images."""
        from fastdc.subsets.external_request import ExternalRequest

        size = config.image_size
        return ExternalRequest(source=self.source, train=config.train, manifest=train, ipc=ipc, image_size=size)


def resolve_external(text: str, config: "SweepConfig") -> ExternalVariant:
    """Return an external set of `methods` without reading its file.

    Raises:
        ConfigError: its name is that of a method, or a setting has two values.
    """
    from fastdc.methods import all_methods, broken_methods

    named = parse_external(text)
    if named.name.lower() in {"all", *all_methods(), *broken_methods()}:
        rest = text.partition("=")[2].strip()
        raise ConfigError(
            f"'{text}': '{named.name}' is the name of a method; give your set another one, such as "
            f"my-{named.name}={rest}"
        )
    own, protocol = split_protocol_settings(config.set.get(named.name, {}))
    return ExternalVariant(named, merge_settings(f"external set {named.name}", named.settings, own), protocol)


def split_protocol_settings(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the settings of a method or set into its own and, without their prefix, those of its protocol."""
    prefix = "protocol."
    own = {key: value for key, value in settings.items() if not key.startswith(prefix)}
    protocol = {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)}
    return own, protocol
