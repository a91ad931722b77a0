"""Networks for series and tables."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.zoo.parts import Plus


def tcn(channels: int = 64, depth: int = 6) -> nn.Module:
    """Build a temporal convolutional network for series of 128 steps."""
    parts: list[nn.Module] = [nn.Conv1d(8, channels, 1)]
    for level in range(depth):
        step = 2**level
        inner = [layer for _ in range(2) for layer in (nn.ConstantPad1d((2 * step, 0), 0.0),
                 nn.Conv1d(channels, channels, 3, dilation=step), nn.ReLU(), nn.Dropout(0.1))]  # fmt: skip
        parts.append(Plus(nn.Sequential(*inner), after=nn.ReLU()))
    return nn.Sequential(*parts, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, 10)).eval()


def perceptron() -> nn.Module:
    """Build a perceptron for a table of 20 features."""
    return nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 3)).eval()


class Wave(nn.Module):
    """Dilated convolutions with gates; what each finds is summed."""

    def __init__(self, channels: int = 48, depth: int = 8, inputs: int = 8, outputs: int = 10) -> None:
        super().__init__()
        self.first = nn.Conv1d(inputs, channels, 1)
        steps = [2 ** (level % 6) for level in range(depth)]
        self.deep = nn.ModuleList(nn.Conv1d(channels, 2 * channels, 3, padding=s, dilation=s) for s in steps)
        self.back = nn.ModuleList(nn.Conv1d(channels, 2 * channels, 1) for _ in steps)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(channels, channels, 1), nn.ReLU(), nn.AdaptiveAvgPool1d(1),
                                  nn.Flatten(), nn.Linear(channels, outputs))  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Run all levels."""
        x = self.first(x)
        found = torch.zeros_like(x)
        for deep, back in zip(self.deep, self.back, strict=True):
            value, gate = deep(x).chunk(2, 1)
            more, kept = back(value.tanh() * gate.sigmoid()).chunk(2, 1)
            x, found = x + more, found + kept
        return self.head(found)


class Several(nn.Module):
    """Convolutions of several lengths on the same series, side by side."""

    def __init__(self, inputs: int, width: int = 32) -> None:
        super().__init__()
        self.less = nn.Conv1d(inputs, width, 1, bias=False)
        self.ways = nn.ModuleList(nn.Conv1d(width, width, k, padding=k // 2, bias=False) for k in (9, 19, 39))
        self.pool = nn.Sequential(nn.MaxPool1d(3, 1, 1), nn.Conv1d(inputs, width, 1, bias=False))
        self.norm = nn.BatchNorm1d(4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Run all ways."""
        y = self.less(x)
        return self.norm(torch.cat([*(way(y) for way in self.ways), self.pool(x)], 1)).relu()


def inception_time(inputs: int = 8) -> nn.Module:
    """Build a network like InceptionTime."""
    first = nn.Sequential(Several(inputs), Several(128), Several(128))
    second = nn.Sequential(Several(128), Several(128), Several(128))
    parts = [Plus(first, nn.Conv1d(inputs, 128, 1), nn.ReLU()), Plus(second, after=nn.ReLU())]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, 10)).eval()
