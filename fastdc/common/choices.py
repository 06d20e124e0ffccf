"""Choices that several settings and options share, each defined once."""

from typing import Literal

Device = Literal["cpu", "cuda"]
"""Device that a network runs on."""
DeviceChoice = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
"""Number format of a training; `auto` is bf16 on GPUs that have it, and fp32 elsewhere."""
EngineChoice = Literal["auto", "ffcv", "resident", "device"]
"""Engine of a loader; `auto` chooses by size, format and free memory."""
Encoding = Literal["keep", "jpg", "raw"]
"""Encoding of stored images; `keep` copies JPEG files unchanged."""
LayoutName = Literal["folder", "hf", "webdataset", "npz", "rethinkdc"]
"""Layout of an export; each is a file of `fastdc.beton.export.layouts`."""
OnError = Literal["fail", "skip"]
"""Reaction to an unreadable image."""
End = Literal["easy", "hard"]
"""End of a ranking of images by difficulty."""
OrderName = Literal["text", "numeric", "natural", "wordnet"]
"""Order of classes by name."""
Together = Literal["auto", "always", "never"]
"""Policy for sharing one stream of decoded images between runs."""
Rerun = Literal["missing", "failed", "all"]
"""Runs that a sweep repeats."""
DemoSet = Literal["fashion_mnist", "imagenette"]
"""Image set of the demo."""
TextFormat = Literal["table", "csv", "json", "latex"]
ReportFormat = Literal[TextFormat, "parquet"]
RankFormat = Literal["table", "markdown", "json"]
