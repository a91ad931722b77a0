"""Networks that give an answer for each place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.zoo.parts import Plus, conv_bn


class UNet(nn.Module):
    """Down and up again, with what was there on the way down beside; the mean of each class is the output."""

    def __init__(self, widths: Sequence[int] = (32, 64, 128, 256), classes: int = 21) -> None:
        super().__init__()
        ins = [3, *widths[:-1]]
        self.down = nn.ModuleList(nn.Sequential(conv_bn(i, o), conv_bn(o, o)) for i, o in zip(ins, widths, strict=True))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, 2) for i, o in pairs)
        self.mix = nn.ModuleList(nn.Sequential(conv_bn(2 * o, o), conv_bn(o, o)) for _, o in pairs)
        self.head, self.pool = nn.Conv2d(widths[0], classes, 1), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Segment, and take means."""
        kept = []
        for i, down in enumerate(self.down):
            x = down(x if i == 0 else self.pool(x))
            kept.append(x)
        for up, mix, beside in zip(self.up, self.mix, kept[-2::-1], strict=True):
            x = mix(torch.cat([beside, up(x)], 1))
        return self.head(x).mean((2, 3))


def level(inputs: int, outputs: int) -> nn.Module:
    """Build one level of the way down."""
    stride = 1 if inputs == outputs else 2
    inner = nn.Sequential(conv_bn(inputs, outputs, 3, stride), conv_bn(outputs, outputs, act=None))
    return Plus(inner, None if stride == 1 else conv_bn(inputs, outputs, 1, 2, act=None), nn.ReLU())


class Pyramid(nn.Module):
    """A pyramid of features: coarse ones are made larger and added to finer ones, and each level has a say."""

    def __init__(self, widths: Sequence[int] = (64, 128, 256, 512), dim: int = 128, classes: int = 21) -> None:
        super().__init__()
        ins = [64, *widths[:-1]]
        self.stem = nn.Sequential(conv_bn(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1))
        self.down = nn.ModuleList(level(i, o) for i, o in zip(ins, widths, strict=True))
        self.across = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in widths)
        self.head = nn.Sequential(conv_bn(dim, dim), nn.Conv2d(dim, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Go down and up, and take means."""
        x = self.stem(x)
        levels = []
        for down, across in zip(self.down, self.across, strict=True):
            x = down(x)
            levels.append(across(x))
        y = levels[-1]
        said = [self.head(y).mean((2, 3))]
        for level in levels[-2::-1]:
            y = level + nn.functional.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
            said.append(self.head(y).mean((2, 3)))
        return torch.stack(said).mean(0)
