"""Statistics matching: how far a batch's layer inputs are from what a teacher saw in training."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

import torch
from torch import Tensor, nn

from fastdc.errors import ConfigError, MethodError
from fastdc.recover.statistics import Statistics, batch_moments, norm_layers

StatisticsKind = Literal["running", "class", "mixed"]


@dataclass(frozen=True)
class MatchingSpec:
    """What is matched, and how much it counts.

    Attributes:
        mean_weight: weight of the distance between means.
        variance_weight: weight of the distance between variances (DWA: 2, or 11 for small images).
        first_layer_factor: weight of the first matched layer, in the order of the forward pass (SRe2L: 10).
        statistics: what the BatchNorm inputs are matched with: the teacher's `running` statistics, the mean of the
            statistics of the batch's classes (`class`, LPLD), or half of each (`mixed`, EDC).
    """

    mean_weight: float = 1.0
    variance_weight: float = 1.0
    first_layer_factor: float = 10.0
    statistics: StatisticsKind = "running"


class Matching:
    """Watches the BatchNorm inputs of one teacher; `loss` is the distance of the last forward pass.

    Used as a context manager: hooks are attached on entry and removed on exit. The model is never changed.

    Args:
        model: the teacher, in eval mode.
        spec: what is matched.
        statistics: of the training set, for specs that need more than the running statistics.

    Raises:
        MethodError: the network has no BatchNorm2d layer with running statistics.
        ConfigError: the spec needs statistics that are not given.
    """

    def __init__(self, model: nn.Module, spec: MatchingSpec, statistics: Statistics | None = None) -> None:
        self.model, self.spec, self.statistics = model, spec, statistics
        self._norms = norm_layers(model)
        if not self._norms:
            raise MethodError("statistics matching: the network has no BatchNorm2d layer with running statistics")
        if spec.statistics != "running" and statistics is None:
            raise ConfigError(f"statistics={spec.statistics}: expected the statistics of the training set's classes")
        self._seen: list[tuple[str, Tensor, Tensor]] = []
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Self:
        self._handles.append(self.model.register_forward_pre_hook(lambda _module, _inputs: self._seen.clear()))
        for name, layer in self._norms.items():
            self._handles.append(layer.register_forward_pre_hook(self._norm_hook(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._seen.clear()

    def reset(self) -> None:
        """Forget what earlier batches left behind."""
        self._seen.clear()

    def loss(self, labels: Tensor) -> Tensor:
        """Weighted sum over the layers of the L2 distances of mean and variance, a scalar (SRe2L eq. 5).

        Args:
            labels: int64 [B], classes of the last forward pass's images.

        Raises:
            MethodError: no forward pass was seen.
        """
        if not self._seen:
            raise MethodError("statistics matching: no forward pass of the teacher was seen; run it inside the context")
        return torch.stack(list(self._terms(labels))).sum()

    def _terms(self, labels: Tensor) -> Iterator[Tensor]:
        spec = self.spec
        for number, (name, mean, variance) in enumerate(self._seen):
            target_mean, target_variance = self._target(name, labels)
            distance = spec.mean_weight * torch.linalg.vector_norm(mean - target_mean)
            distance = distance + spec.variance_weight * torch.linalg.vector_norm(variance - target_variance)
            yield distance * (spec.first_layer_factor if number == 0 else 1.0)

    def _target(self, name: str, labels: Tensor) -> tuple[Tensor, Tensor]:
        layer = self._norms[name]
        assert layer.running_mean is not None and layer.running_var is not None  # norm_layers chose it
        return layer.running_mean, layer.running_var

    def _norm_hook(self, name: str):  # type: ignore[no-untyped-def]
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._seen.append((name, *batch_moments(inputs[0])))

        return hook
