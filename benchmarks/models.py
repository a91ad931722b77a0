"""Networks to measure on: the ones of the innsight paper (Koenen and Wright, 2024) and a residual network."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def mlp(outputs: int = 10, width: int = 128, layers: int = 2) -> nn.Module:
    """Build a perceptron for 10 features with hidden layers of one width."""
    parts: list[nn.Module] = []
    inputs = 10
    for _ in range(layers):
        parts += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*parts, nn.Linear(inputs, outputs)).eval()


def cnn(outputs: int = 10, pixels: int = 32) -> nn.Module:
    """Build two convolutions with overlap-free max pooling, and two dense layers."""
    size = pixels // 4
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * size * size, 64), nn.ReLU(), nn.Linear(64, outputs),
    ).eval()  # fmt: skip


class Block(nn.Module):
    """Two convolutions with batch normalisation, and a residual sum; every activation is a module of its own."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.down: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.down(x))


def resnet18(outputs: int = 10) -> nn.Module:
    """Build a network with the layers and sizes of ResNet-18, untrained."""
    parts: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    parts.append(nn.MaxPool2d(3, 2, 1))
    channels = 64
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        parts += [Block(channels, width, stride), Block(width, width, 1)]
        channels = width
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, outputs)).eval()


def frozen(model: nn.Module) -> nn.Module:
    """Freeze the weights: their gradients are of no use here, and would make everybody slower."""
    return model.requires_grad_(False)


def data(rows: int, dim: tuple[int, ...], seed: int = 0) -> Tensor:
    """Draw some rows."""
    return torch.randn(rows, *dim, generator=torch.Generator().manual_seed(seed))
