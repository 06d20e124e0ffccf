"""Options by which a source is opened, beside its path."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Options of `open_source`, which a kind of source gets whole.

    Every kind reads `split`, `classes` and `allow_missing_classes`. A kind lists the others that it reads in
    `Source.reads`; `open_source` refuses those that it does not.

    Attributes:
        split: "train", "val", ...; required exactly if the source has splits.
        classes: names of classes 0, 1, ...; None takes those of the source.
        allow_missing_classes: allow a class without images.
        image_column: name of the column that holds images or their paths; None looks for common names.
        label_column: name of the column that holds labels; None looks for common names.
        mean, std: standardisation to undo in arrays of floats, (value - mean) / std for pixels on a scale of 0..1; one
            value, or one per channel.
    """

    split: str | None = None
    classes: tuple[str, ...] | None = None
    allow_missing_classes: bool = False
    image_column: str | None = None
    label_column: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
