"""What the networks of the zoo are put together from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1,
            act: Callable[[], nn.Module] | None = nn.ReLU) -> nn.Sequential:  # fmt: skip
    """Build a convolution with batch normalisation, and an activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([act()] if act is not None else []))


def classifier(features: Sequence[nn.Module], channels: int, outputs: int = 1000) -> nn.Module:
    """Put a mean over the image and a dense layer behind features."""
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs)).eval()


class Plus(nn.Module):
    """The sum of what a module makes of its input, and the input, or what another makes of it."""

    def __init__(self, inner: nn.Module, beside: nn.Module | None = None, after: nn.Module | None = None) -> None:
        super().__init__()
        self.inner, self.beside, self.after = inner, beside or nn.Identity(), after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        return self.after(self.inner(x) + self.beside(x))


class Beside(nn.Module):
    """Several modules on the same input, their channels side by side."""

    def __init__(self, *ways: nn.Module) -> None:
        super().__init__()
        self.ways = nn.ModuleList(ways)

    def forward(self, x: Tensor) -> Tensor:
        """Run all ways."""
        return torch.cat([way(x) for way in self.ways], 1)


class Gate(nn.Module):
    """Channels times a factor each, made of their means (squeeze and excitation)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.factor = nn.Sequential(nn.Conv2d(channels, squeezed, 1), nn.SiLU(), nn.Conv2d(squeezed, channels, 1),
                                    nn.Sigmoid())  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the channels."""
        return x * self.factor(self.mean(x))


class Last(nn.Module):
    """Run a module with the channels of an image last."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Turn, run, and turn back."""
        return self.inner(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Swapped(nn.Module):
    """Run a module with the last two axes swapped."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Swap, run, and swap back."""
        return self.inner(x.transpose(1, 2)).transpose(1, 2)


def feed_forward(dim: int, times: int = 4) -> nn.Sequential:
    """Build the two dense layers behind attention."""
    return nn.Sequential(nn.Linear(dim, times * dim), nn.GELU(), nn.Linear(times * dim, dim))
