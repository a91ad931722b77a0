"""Convolutional networks for large machines."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.zoo.parts import Beside, Gate, Last, Plus, classifier, conv_bn, feed_forward


def resnet(blocks: Sequence[int], bottleneck: bool, groups: int = 1, base: int = 64) -> nn.Module:
    """Build ResNet, or ResNeXt with groups."""
    parts: list[nn.Module] = [conv_bn(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        outputs, inner_width = (4 * width, width * groups * base // 64) if bottleneck else (width, width)
        for block in range(count):
            stride = 2 if stage and not block else 1
            inner = [conv_bn(channels, width, 3, stride), conv_bn(width, width, act=None)]
            if bottleneck:
                inner = [conv_bn(channels, inner_width, 1), conv_bn(inner_width, inner_width, 3, stride, groups),
                         conv_bn(inner_width, outputs, 1, act=None)]  # fmt: skip
            down = conv_bn(channels, outputs, 1, stride, act=None) if stride > 1 or channels != outputs else None
            parts.append(Plus(nn.Sequential(*inner), down, nn.ReLU()))
            channels = outputs
    return classifier(parts, channels)


def densenet(blocks: Sequence[int] = (6, 12, 24, 16), growth: int = 32) -> nn.Module:
    """Build DenseNet-121."""

    def layer(channels: int) -> nn.Module:
        inner = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 4 * growth, 1, bias=False),
                              nn.BatchNorm2d(4 * growth), nn.ReLU(),
                              nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False))  # fmt: skip
        return Beside(nn.Identity(), inner)

    channels = 64
    parts: list[nn.Module] = [conv_bn(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    for stage, count in enumerate(blocks):
        for _ in range(count):
            parts.append(layer(channels))
            channels += growth
        if stage < len(blocks) - 1:
            half = nn.Conv2d(channels, channels // 2, 1, bias=False)
            parts += [nn.BatchNorm2d(channels), nn.ReLU(), half, nn.AvgPool2d(2)]
            channels //= 2
    return classifier([*parts, nn.BatchNorm2d(channels), nn.ReLU()], channels)


def vgg() -> nn.Module:
    """Build VGG-11 for 64 pixels, with narrow dense layers."""
    parts: list[nn.Module] = []
    channels = 3
    for width in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
        parts += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(True)] if width else [nn.MaxPool2d(2)]
        channels = width or channels
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(2048, 1024), nn.ReLU(True), nn.Dropout(),
                         nn.Linear(1024, 1000)).eval()  # fmt: skip


def googlenet() -> nn.Module:
    """Build GoogLeNet."""

    def inception(inputs: int, a: int, b: tuple[int, int], c: tuple[int, int], d: int) -> nn.Module:
        return Beside(conv_bn(inputs, a, 1), nn.Sequential(conv_bn(inputs, b[0], 1), conv_bn(*b)),
                      nn.Sequential(conv_bn(inputs, c[0], 1), conv_bn(*c)),
                      nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_bn(inputs, d, 1)))  # fmt: skip

    pool = nn.MaxPool2d(3, 2, 1)
    return classifier(
        [conv_bn(3, 64, 7, 2), pool, conv_bn(64, 64, 1), conv_bn(64, 192), pool,
         inception(192, 64, (96, 128), (16, 32), 32), inception(256, 128, (128, 192), (32, 96), 64), pool,
         inception(480, 192, (96, 208), (16, 48), 64), inception(512, 160, (112, 224), (24, 64), 64),
         inception(512, 128, (128, 256), (24, 64), 64), inception(512, 112, (144, 288), (32, 64), 64),
         inception(528, 256, (160, 320), (32, 128), 128), pool,
         inception(832, 256, (160, 320), (32, 128), 128), inception(832, 384, (192, 384), (48, 128), 128)], 1024,
    )  # fmt: skip


def convnext(depths: Sequence[int] = (3, 3, 9, 3), dims: Sequence[int] = (96, 192, 384, 768)) -> nn.Module:
    """Build ConvNeXt-T."""
    parts: list[nn.Module] = [nn.Conv2d(3, dims[0], 4, 4), Last(nn.LayerNorm(dims[0]))]
    for stage, (depth, dim) in enumerate(zip(depths, dims, strict=True)):
        if stage:
            parts += [Last(nn.LayerNorm(dims[stage - 1])), nn.Conv2d(dims[stage - 1], dim, 2, 2)]
        for _ in range(depth):
            deep = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
            parts.append(Plus(nn.Sequential(deep, Last(nn.Sequential(nn.LayerNorm(dim), feed_forward(dim))))))
    return classifier(parts, dims[-1])


def regnet(
    widths: Sequence[int] = (48, 104, 208, 440), depths: Sequence[int] = (1, 3, 6, 2), group: int = 8
) -> nn.Module:
    """Build a network like RegNetY-400MF: bottlenecks with groups of eight channels, and gates."""
    parts: list[nn.Module] = [conv_bn(3, 32, 3, 2)]
    channels = 32
    for width, depth in zip(widths, depths, strict=True):
        for block in range(depth):
            stride = 1 if block else 2
            inner = [conv_bn(channels, width, 1), conv_bn(width, width, 3, stride, width // group),
                     Gate(width, max(1, channels // 4)), conv_bn(width, width, 1, act=None)]  # fmt: skip
            down = conv_bn(channels, width, 1, stride, act=None) if stride > 1 else None
            parts.append(Plus(nn.Sequential(*inner), down, nn.ReLU()))
            channels = width
    return classifier(parts, channels)


def preresnet(depth: int = 4, wide: int = 4) -> nn.Module:
    """Build a wide ResNet that normalises before each convolution, WRN-28-4."""

    def before(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
        conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        return [nn.BatchNorm2d(inputs), nn.ReLU(), conv]

    parts: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    channels = 16
    for stage in range(3):
        width = 16 * wide * 2**stage
        for block in range(depth):
            stride = 2 if stage and not block else 1
            inner = nn.Sequential(*before(channels, width, stride), *before(width, width))
            down = nn.Conv2d(channels, width, 1, stride, bias=False) if channels != width else None
            parts.append(Plus(inner, down))
            channels = width
    return classifier([*parts, nn.BatchNorm2d(channels), nn.ReLU()], channels)


def long_and_high(channels: int, length: int) -> nn.Sequential:
    """Build a convolution along the width and one along the height."""
    parts: list[nn.Module] = []
    for kernel in ((1, length), (length, 1)):
        conv = nn.Conv2d(channels, channels, kernel, padding=(kernel[0] // 2, kernel[1] // 2), bias=False)
        parts += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*parts)


def inception(widths: Sequence[int] = (128, 160, 160, 192)) -> nn.Module:
    """Build a network like Inception-v3, whose larger kernels are taken apart into one for each direction."""
    parts: list[nn.Module] = [conv_bn(3, 32, 3, 2), conv_bn(32, 64), nn.MaxPool2d(3, 2, 1), conv_bn(64, 192)]
    channels = 192
    for number, width in enumerate(widths):
        ways = [conv_bn(channels, 96, 1), nn.Sequential(conv_bn(channels, width, 1), long_and_high(width, 7)),
                nn.Sequential(conv_bn(channels, width, 1), long_and_high(width, 7), long_and_high(width, 7)),
                nn.Sequential(nn.AvgPool2d(3, 1, 1), conv_bn(channels, 96, 1))]  # fmt: skip
        parts.append(Beside(*ways))
        channels = 2 * 96 + 2 * width
        if number % 2:
            parts.append(Beside(conv_bn(channels, 64, 3, 2), nn.MaxPool2d(3, 2, 1)))
            channels += 64
    return classifier(parts, channels)


def xception(widths: Sequence[int] = (128, 256, 728), middle: int = 4) -> nn.Module:
    """Build a network like Xception: a convolution of each channel, and one of all channels at a place."""

    def apart(inputs: int, outputs: int) -> list[nn.Module]:
        deep = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        return [nn.ReLU(), deep, conv_bn(inputs, outputs, 1, act=None)]

    parts: list[nn.Module] = [conv_bn(3, 32, 3, 2), conv_bn(32, 64)]
    channels = 64
    for width in widths:
        inner = nn.Sequential(*apart(channels, width), *apart(width, width), nn.MaxPool2d(3, 2, 1))
        parts.append(Plus(inner, conv_bn(channels, width, 1, 2, act=None)))
        channels = width
    parts += [Plus(nn.Sequential(*(layer for _ in range(3) for layer in apart(channels, channels))))
              for _ in range(middle)]  # fmt: skip
    return classifier([*parts, nn.ReLU()], channels)


class Stage(nn.Module):
    """Half of the channels go through residual blocks, and meet the others again."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        half = channels // 2
        self.one, self.other = conv_bn(channels, half, 1, act=nn.SiLU), conv_bn(channels, half, 1, act=nn.SiLU)
        blocks = [nn.Sequential(conv_bn(half, half, 1, act=nn.SiLU), conv_bn(half, half, act=nn.SiLU))
                  for _ in range(depth)]  # fmt: skip
        self.blocks = nn.Sequential(*(Plus(block) for block in blocks))
        self.mix = conv_bn(channels, channels, 1, act=nn.SiLU)

    def forward(self, x: Tensor) -> Tensor:
        """Run both ways."""
        return self.mix(torch.cat([self.blocks(self.one(x)), self.other(x)], 1))


def darknet(width: int = 32, depths: Sequence[int] = (1, 3, 3, 1)) -> nn.Module:
    """Build a network like the one below YOLO: stages that are split in two."""
    parts: list[nn.Module] = [conv_bn(3, width, 3, 2, act=nn.SiLU)]
    for depth in depths:
        parts += [conv_bn(width, 2 * width, 3, 2, act=nn.SiLU), Stage(2 * width, depth)]
        width *= 2
    return classifier(parts, width)


def convmixer(dim: int = 256, depth: int = 8, kernel: int = 9) -> nn.Module:
    """Build ConvMixer for patches of 4."""
    parts: list[nn.Module] = [nn.Conv2d(3, dim, 4, 4), nn.GELU(), nn.BatchNorm2d(dim)]
    for _ in range(depth):
        deep = nn.Conv2d(dim, dim, kernel, groups=dim, padding=kernel // 2)
        parts.append(Plus(nn.Sequential(deep, nn.GELU(), nn.BatchNorm2d(dim))))
        parts += [nn.Conv2d(dim, dim, 1), nn.GELU(), nn.BatchNorm2d(dim)]
    return classifier(parts, dim)
