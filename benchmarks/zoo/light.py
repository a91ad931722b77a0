"""Convolutional networks for small machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from benchmarks.zoo.parts import Beside, Gate, Plus, classifier, conv_bn


def inverted(rows: Sequence[tuple[int, int, int, int, int]], first: int, last: int, act: Callable[[], nn.Module],
             gated: bool) -> nn.Module:  # fmt: skip
    """Build MobileNetV2, or EfficientNet with gates; a row is expansion, channels, count, stride and kernel."""
    parts: list[nn.Module] = [conv_bn(3, first, 3, 2, act=act)]
    channels = first
    for expansion, outputs, count, stride, kernel in rows:
        for block in range(count):
            wide, step = channels * expansion, 1 if block else stride
            inner: list[nn.Module] = [conv_bn(channels, wide, 1, act=act)] if expansion > 1 else []
            inner.append(conv_bn(wide, wide, kernel, step, wide, act=act))
            inner += [Gate(wide, max(1, channels // 4))] if gated else []
            whole = nn.Sequential(*inner, conv_bn(wide, outputs, 1, act=None))
            parts.append(Plus(whole) if step == 1 and channels == outputs else whole)
            channels = outputs
    return classifier([*parts, conv_bn(channels, last, 1, act=act)], last)


def mobilenet() -> nn.Module:
    """Build MobileNetV2."""
    rows = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3), (6, 96, 3, 1, 3),
            (6, 160, 3, 2, 3), (6, 320, 1, 1, 3))  # fmt: skip
    return inverted(rows, 32, 1280, nn.ReLU6, gated=False)


def efficientnet() -> nn.Module:
    """Build EfficientNet-B0."""
    rows = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5),
            (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))  # fmt: skip
    return inverted(rows, 32, 1280, nn.SiLU, gated=True)


def squeezenet() -> nn.Module:
    """Build SqueezeNet 1.1."""

    def fire(inputs: int, squeezed: int, wide: int) -> nn.Module:
        ways = Beside(nn.Sequential(nn.Conv2d(squeezed, wide, 1), nn.ReLU(True)),
                      nn.Sequential(nn.Conv2d(squeezed, wide, 3, padding=1), nn.ReLU(True)))  # fmt: skip
        return nn.Sequential(nn.Conv2d(inputs, squeezed, 1), nn.ReLU(True), ways)

    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 2), nn.ReLU(True), pool, fire(64, 16, 64), fire(128, 16, 64), pool, fire(128, 32, 128),
        fire(256, 32, 128), pool, fire(256, 48, 192), fire(384, 48, 192), fire(384, 64, 256), fire(512, 64, 256),
        nn.Dropout(), nn.Conv2d(512, 1000, 1), nn.ReLU(True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ).eval()  # fmt: skip


class Shuffle(nn.Module):
    """Half of the channels go through, and are mixed with the others."""

    def __init__(self, half: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(conv_bn(half, half, 1), conv_bn(half, half, groups=half, act=None),
                                   conv_bn(half, half, 1))  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        a, b = x.chunk(2, 1)
        y = torch.cat([a, self.inner(b)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shufflenet() -> nn.Module:
    """Build a network like ShuffleNetV2."""
    parts: list[nn.Module] = [conv_bn(3, 24, 3, 2), nn.MaxPool2d(3, 2, 1)]
    channels = 24
    for width, count in ((116, 3), (232, 7), (464, 3)):
        parts += [conv_bn(channels, width, 3, 2), *(Shuffle(width // 2) for _ in range(count))]
        channels = width
    return classifier([*parts, conv_bn(channels, 1024, 1)], 1024)


class HardGate(nn.Module):
    """Channels times a factor each, whose sigmoid is made of straight lines."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.less, self.more = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh the channels."""
        mean = nn.functional.adaptive_avg_pool2d(x, 1)
        return nn.functional.hardsigmoid(self.more(self.less(mean).relu())) * x


def mobilenet3() -> nn.Module:
    """Build MobileNetV3-Small."""
    rows = ((3, 16, 16, True, False, 2), (3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1),
            (5, 96, 40, True, True, 2), (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1),
            (5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1), (5, 288, 96, True, True, 2),
            (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1))  # fmt: skip
    parts: list[nn.Module] = [conv_bn(3, 16, 3, 2, act=nn.Hardswish)]
    channels = 16
    for kernel, wide, outputs, gated, swish, stride in rows:
        act = nn.Hardswish if swish else nn.ReLU
        inner: list[nn.Module] = [conv_bn(channels, wide, 1, act=act), conv_bn(wide, wide, kernel, stride, wide, act)]
        inner += [HardGate(wide)] if gated else []
        whole = nn.Sequential(*inner, conv_bn(wide, outputs, 1, act=None))
        parts.append(Plus(whole) if stride == 1 and channels == outputs else whole)
        channels = outputs
    return classifier([*parts, conv_bn(channels, 576, 1, act=nn.Hardswish)], 576)


def ghost(inputs: int, outputs: int, act: Callable[[], nn.Module] | None = nn.ReLU) -> nn.Module:
    """Build a layer whose second half is made of the first, cheaply."""
    half = outputs // 2
    cheap = Beside(nn.Identity(), conv_bn(half, half, 3, groups=half, act=act))
    return nn.Sequential(conv_bn(inputs, half, 1, act=act), cheap)


def ghostnet(rows: Sequence[tuple[int, int, int]] = ((48, 24, 2), (72, 24, 1), (72, 40, 2), (120, 40, 1),
                                                     (240, 80, 2), (200, 80, 1), (480, 112, 1), (672, 160, 2),
                                                     (960, 160, 1))) -> nn.Module:  # fmt: skip
    """Build a network like GhostNet; a row is the width inside, the channels and the stride."""
    parts: list[nn.Module] = [conv_bn(3, 16, 3, 2)]
    channels = 16
    for wide, outputs, stride in rows:
        inner: list[nn.Module] = [ghost(channels, wide)]
        inner += [conv_bn(wide, wide, 3, stride, wide, act=None)] if stride > 1 else []
        inner += [Gate(wide, wide // 4)] if wide > 100 else []
        down = conv_bn(channels, outputs, 1, stride, act=None) if stride > 1 or channels != outputs else None
        parts.append(Plus(nn.Sequential(*inner, ghost(wide, outputs, None)), down))
        channels = outputs
    return classifier([*parts, conv_bn(channels, 960, 1)], 960)
