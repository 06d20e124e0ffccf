"""Conformance suite of architectures: networks of its sides, on a few random images."""

from functools import cached_property
from pathlib import Path

import torch
from torch import nn
from torchvision import models

from fastdc.conformance.suite import Suite, expect
from fastdc.nn.arch_names import architectures, check_arch, find_arch
from fastdc.nn.architectures.torchvision_models import COMMON_ARCHS
from fastdc.nn.float32_head import widen_head
from fastdc.nn.models import build_model

CLASSES, OTHER_CLASSES = 3, 10
IMAGES = 2


class ArchitectureSuite(Suite):
    """Suite of architectures."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, folder)
        check_arch(name)
        self.architecture = find_arch(name)
        self.side = self.architecture.sides[0]

    def name_is_free(self) -> None:
        """Check that a plug-in hides no classifier of torchvision."""
        own = self.name in architectures().parts and self.name not in COMMON_ARCHS
        expect(not own or self.name not in models.list_models(module=models), "torchvision's name", "another one")

    def builds_for_its_sides(self) -> None:
        """Check that logits are [B, classes] at every side, for two numbers of classes."""
        self._check_logits(self._network, self.side, CLASSES)
        for side in self.architecture.sides[1:]:
            self._check_logits(self._build(side), side, CLASSES)
        self._check_logits(self._build(self.side, OTHER_CLASSES), self.side, OTHER_CLASSES)

    def accepts_the_sides_that_it_declares(self) -> None:
        """Check `takes_side` at larger images, which a trained network may meet as a teacher."""
        for side in (self.side + 1, 2 * self.side):
            declared = self.architecture.takes_side(self.side, side)
            accepted = _accepts(self._network, side)
            expect(accepted == declared, f"side {side} {'fits' if accepted else 'fails'}", f"takes_side: {declared}")

    def batch_norm_is_as_declared(self) -> None:
        """Check whether a layer is BatchNorm."""
        found = any(isinstance(layer, nn.BatchNorm2d) for layer in self._network.modules())
        expect(found == self.architecture.batch_norm, f"BatchNorm: {found}", f"{self.architecture.batch_norm}")

    def one_seed_gives_one_network(self) -> None:
        """Check that initial weights follow the seed, whatever was drawn before."""
        state = self._network.state_dict()
        torch.rand(1)
        again = self._build(self.side).state_dict()
        changed = [name for name in state if not torch.equal(state[name], again[name])]
        expect(not changed, f"other weights of one seed in {changed[:1]}", "draws from torch's generator")
        other = self._other.state_dict()
        expect(any(not torch.equal(state[name], other[name]) for name in state), "equal weights of two seeds", "others")

    def state_dict_restores_the_network(self) -> None:
        """Check that weights loaded into another network give its outputs, as checkpoints and teachers need."""
        self._other.load_state_dict(self._network.state_dict())
        with torch.no_grad():
            expected, found = self._network(_images(self.side)), self._other(_images(self.side))
        expect(torch.equal(found, expected), "other logits of the loaded weights", "equal ones")

    def gradients_are_finite(self) -> None:
        """Check a step of training on a few images: loss and gradients."""
        network = self._other.train()
        loss = nn.functional.cross_entropy(network(_images(self.side)), torch.arange(IMAGES) % CLASSES)
        loss.backward()  # type: ignore[no-untyped-call]
        expect(bool(loss.isfinite()), f"a loss of {loss.item()}", "a finite one")
        gradients = {name: tensor.grad for name, tensor in network.named_parameters() if tensor.grad is not None}
        expect(bool(gradients), "no gradients", "some")
        bad = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
        expect(not bad, f"a gradient that is not finite in {bad[:1]}", "finite ones")

    def logits_are_float32_under_bf16(self) -> None:
        """Check that the output layer is found and computes in float32 under autocast."""
        widen_head(self._network)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            logits = self._network(_images(self.side))
        expect(logits.dtype == torch.float32, logits.dtype, "float32: end in a linear layer or a convolution")

    @cached_property
    def _network(self) -> nn.Module:
        return self._build(self.side).eval()

    @cached_property
    def _other(self) -> nn.Module:
        return self._build(self.side, seed=1).eval()

    def _build(self, side: int, classes: int = CLASSES, seed: int = 0) -> nn.Module:
        return build_model(self.name, classes, side, seed)

    def _check_logits(self, network: nn.Module, side: int, classes: int) -> None:
        with torch.no_grad():
            logits = network.eval()(_images(side))
        found = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        expect(found == [IMAGES, classes], f"{found} at {side} px", f"{[IMAGES, classes]}")


def _images(side: int) -> torch.Tensor:
    return torch.randn(IMAGES, 3, side, side, generator=torch.Generator().manual_seed(0))


def _accepts(network: nn.Module, side: int) -> bool:
    try:
        with torch.no_grad():
            network.eval()(_images(side))
    except Exception:  # each network has errors of its own
        return False
    return True
