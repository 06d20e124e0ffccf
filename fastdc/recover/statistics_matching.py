"""Statistics matching: the distance of a batch's layer inputs from a teacher's training statistics."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from fastdc.common.errors import ConfigError, MethodError
from fastdc.kernels.core.rng import draw_unit, stream_key
from fastdc.recover.layer_statistics import Moments, Statistics, batch_moments, convolution_layers, norm_layers
from fastdc.recover.recovery_recipe import MatchingSpec
from fastdc.teachers.network import device_of


class _Seen(NamedTuple):
    """Input of one layer in the last forward pass; `kind` is channel or patch."""

    layer: str
    kind: str
    moments: Moments


class Matching:
    """Observer of one teacher's layer inputs; `loss` is the distance of the last forward pass.

    Use it as a context manager: hooks are attached on entry and removed on exit. The model is never changed.

    Args:
        model: the teacher, in eval mode.
        spec: the statistics to match.
        statistics: of the training set; needed if the spec names classes or convolutions.
        seed: seed for the random choice of convolutions to leave out; None leaves out none.

    Raises:
        MethodError: the network has no layer to match.
        ConfigError: the spec needs statistics that are not given.
    """

    def __init__(
        self, model: nn.Module, spec: MatchingSpec, statistics: Statistics | None = None, seed: int | None = None
    ) -> None:
        self.model, self.spec, self.seed, self._calls = model, spec, seed, 0
        self._norms = norm_layers(model)
        self._convolutions = convolution_layers(model) if spec.convolutions else {}
        if not self._norms and not self._convolutions:
            raise MethodError("statistics matching: the network has no BatchNorm2d layer with running statistics")
        if statistics is None and (spec.statistics != "running" or spec.convolutions):
            raise ConfigError("statistics matching: expected the statistics of the training set, found none")
        self.statistics = statistics.to(device_of(model)) if statistics is not None else None
        self._seen: list[_Seen] = []
        self._averages: dict[int, Moments] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Self:
        # Runs before the layers' hooks, so that `_seen` holds one forward pass only.
        self._handles.append(self.model.register_forward_pre_hook(lambda _module, _inputs: self._seen.clear()))
        for name, norm in self._norms.items():
            self._handles.append(norm.register_forward_pre_hook(self._watch(name, {"channel": 0})))
        for name, convolution in self._convolutions.items():
            watch = self._watch(name, {"channel": 0, "patch": self.spec.patch})
            self._handles.append(convolution.register_forward_pre_hook(watch))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.reset()

    def reset(self) -> None:
        """Start a new batch of images: its moving averages start from its own first value."""
        self._seen.clear()
        self._averages.clear()

    def loss(self, labels: Tensor) -> Tensor:
        """Return the weighted sum over the layers of the L2 distances of mean and variance, a scalar (SRe2L eq. 5).

        Call it once per forward pass, because it advances the moving averages and the draw of left-out layers.

        Args:
            labels: int64 [B], classes of the last forward pass's images.

        Raises:
            MethodError: no forward pass was observed.
        """
        if not self._seen:
            raise MethodError("statistics matching: no forward pass of the teacher was seen; run it inside the context")
        self._calls += 1
        terms = list(self._terms(labels))
        return torch.stack(terms).sum() if terms else labels.new_zeros((), dtype=torch.float32)

    def _dropped(self) -> set[str]:
        """Draw the convolutions that this call leaves out, from the seed, the call and the layer's number only."""
        if self.seed is None or not self.spec.drop:
            return set()
        key = np.uint64(stream_key(self.seed, self._calls, 0))
        return {name for number, name in enumerate(self._convolutions) if draw_unit(key, number) < self.spec.drop}

    def _terms(self, labels: Tensor) -> Iterator[Tensor]:
        spec, first, dropped = self.spec, self._seen[0].layer, self._dropped()
        for number, seen in enumerate(self._seen):
            if seen.layer in dropped:  # its moving average is not updated either
                continue
            mean, variance = self._smoothed(number, seen.moments)
            factor = spec.first_layer_factor if seen.layer == first else 1.0
            for share, target in self._targets(seen, labels):
                gap = spec.mean_weight * torch.linalg.vector_norm(mean - target.mean)
                gap = gap + spec.variance_weight * torch.linalg.vector_norm(variance - target.variance)
                yield factor * share * gap

    def _smoothed(self, number: int, moments: Moments) -> Moments:
        """Return the moving average's value with the batch's gradient."""
        keep = self.spec.ema
        if keep is None:
            return moments
        now = Moments(*(value.detach() for value in moments))
        past = self._averages.get(number, now)  # starts at the first value; in the released code, at 0
        average = Moments(*(keep * old + (1 - keep) * new for old, new in zip(past, now, strict=True)))
        self._averages[number] = average
        # new - new.detach() is 0, but carries the gradient.
        return Moments(*(old + (new - new.detach()) for old, new in zip(average, moments, strict=True)))

    def _targets(self, seen: _Seen, labels: Tensor) -> Iterator[tuple[float, Moments]]:
        """Yield the layer's target statistics, each with its share of the loss."""
        share = {"running": 0.0, "class": 1.0, "mixed": 0.5}[self.spec.statistics]
        if share > 0:
            assert self.statistics is not None
            yield share, self.statistics.of_classes(seen.layer, seen.kind, labels)
        if share < 1:
            yield 1 - share, self._whole(seen)

    def _whole(self, seen: _Seen) -> Moments:
        norm = self._norms.get(seen.layer)
        if norm is not None:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            return Moments(norm.running_mean, norm.running_var)
        assert self.statistics is not None
        return self.statistics.of_set(seen.layer, seen.kind)

    def _watch(self, name: str, kinds: dict[str, int]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            for kind, patch in kinds.items():
                self._seen.append(_Seen(name, kind, batch_moments(inputs[0], patch)))

        return hook
