"""What a conversion costs beside ``torch.export.export`` alone, on a module of the size of ResNet-50.

``python benchmarks/convert.py`` runs both in turn, several times in one process, and prints the median of the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from innsight_py import Converter


class Bottleneck(nn.Module):
    """Three convolutions with batch normalisation, and a residual sum in place."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += self.down(x)
        return self.relu(y)


def resnet50() -> nn.Module:
    """Build a network with the layers and sizes of ResNet-50, untrained."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool2d(3, 2, 1))
    channels = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            layers.append(Bottleneck(channels, width, stride if block == 0 else 1))
            channels = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000)).eval()


def seconds(call: Callable[[], object]) -> float:
    """Measure one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Run both in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224, help="height and width of the image")
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    model, dim = resnet50(), (3, arguments.size, arguments.size)
    pairs = []
    for _ in range(arguments.runs + 1):
        exported = seconds(lambda: torch.export.export(model, (torch.zeros(1, *dim),), strict=False))
        pairs.append((seconds(lambda: Converter(model, input_dim=dim)), exported))
    cold, *warm = [converted / exported for converted, exported in pairs]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, image {dim}")
    print(f"Converter / torch.export.export, first pair of the process: {cold:.2f}")
    print(f"later pairs: median {statistics.median(warm):.2f}, from {min(warm):.2f} to {max(warm):.2f}")


if __name__ == "__main__":
    main()
