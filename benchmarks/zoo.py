"""Architectures as people use them, untrained, written here so that nothing needs to be downloaded.

Each is named after the network whose layers and sizes it has, and takes one row of the shape beside it in `ZOO`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

IMAGE = (3, 64, 64)


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


def vgg() -> nn.Module:
    """Build VGG-11 for 64 pixels, with narrow dense layers."""
    parts: list[nn.Module] = []
    channels = 3
    for width in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
        parts += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(True)] if width else [nn.MaxPool2d(2)]
        channels = width or channels
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(2048, 1024), nn.ReLU(True), nn.Dropout(),
                         nn.Linear(1024, 1000)).eval()  # fmt: skip


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


class Attention(nn.Module):
    """Attention of all tokens, as timm writes it, or of windows with a bias for each distance."""

    def __init__(self, dim: int, heads: int, tokens: int | None = None) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.bias = None if tokens is None else nn.Parameter(torch.randn(1, heads, tokens, tokens))

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        if self.bias is None:
            y = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            y = ((q @ k.transpose(-2, -1)) * (c // self.heads) ** -0.5 + self.bias).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(b, n, c))


def feed_forward(dim: int, times: int = 4) -> nn.Sequential:
    """Build the two dense layers behind attention."""
    return nn.Sequential(nn.Linear(dim, times * dim), nn.GELU(), nn.Linear(times * dim, dim))


class ViT(nn.Module):
    """ViT-B/16 with a class token."""

    def __init__(self, dim: int = 768, depth: int = 12, heads: int = 12, size: int = 64, patch: int = 16) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, patch, patch)
        self.first = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.place = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, dim) * 0.02)
        self.blocks = nn.Sequential(*(
            nn.Sequential(Plus(nn.Sequential(nn.LayerNorm(dim), Attention(dim, heads))),
                          Plus(nn.Sequential(nn.LayerNorm(dim), feed_forward(dim)))) for _ in range(depth)
        ))  # fmt: skip
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.place
        return self.head(self.norm(self.blocks(x))[:, 0])


class Windows(nn.Module):
    """Attention within windows, which are shifted in every second block; channels last."""

    def __init__(self, dim: int, heads: int, size: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.window, self.shift, self.norm = window, window // 2 if shifted else 0, nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, window * window)

    def forward(self, x: Tensor) -> Tensor:
        """Cut, attend, and put together."""
        b, h, w, c = x.shape
        n, y = self.window, self.norm(x)
        if self.shift:
            y = torch.roll(y, (-self.shift, -self.shift), (1, 2))
        y = y.view(b, h // n, n, w // n, n, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, n * n, c)
        y = self.attention(y).view(b, h // n, w // n, n, n, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        if self.shift:
            y = torch.roll(y, (self.shift, self.shift), (1, 2))
        return x + y


class Merge(nn.Module):
    """Four neighbours become one token."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm, self.less = nn.LayerNorm(4 * dim), nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Put four together."""
        four = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.less(self.norm(torch.cat(four, -1)))


class Swin(nn.Module):
    """Swin-T with windows of 4 for small images."""

    def __init__(self, depths: Sequence[int] = (2, 2, 6, 2), dim: int = 96, size: int = 128) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, 4, 4)
        parts: list[nn.Module] = [nn.LayerNorm(dim)]
        size //= 4
        for stage, depth in enumerate(depths):
            if stage:
                parts.append(Merge(dim))
                dim, size = 2 * dim, size // 2
            for block in range(depth):
                parts += [Windows(dim, dim // 32, size, 4, bool(block % 2) and size > 4),
                          Plus(nn.Sequential(nn.LayerNorm(dim), feed_forward(dim)))]  # fmt: skip
        self.blocks, self.norm, self.head = nn.Sequential(*parts), nn.LayerNorm(dim), nn.Linear(dim, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Classify."""
        x = self.blocks(self.patch(x).permute(0, 2, 3, 1))
        return self.head(self.norm(x).mean((1, 2)))


class Last(nn.Module):
    """Run a module with the channels of an image last."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Turn, run, and turn back."""
        return self.inner(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


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


class Swapped(nn.Module):
    """Run a module with the last two axes swapped."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """Swap, run, and swap back."""
        return self.inner(x.transpose(1, 2)).transpose(1, 2)


def mixer(dim: int = 256, tokens: int = 64, depth: int = 8) -> nn.Module:
    """Build MLP-Mixer for 64 patches, given as a series ``(tokens, 192)``."""
    parts: list[nn.Module] = [nn.Linear(192, dim)]
    for _ in range(depth):
        parts += [Plus(nn.Sequential(nn.LayerNorm(dim), Swapped(feed_forward(tokens, 2)))),
                  Plus(nn.Sequential(nn.LayerNorm(dim), feed_forward(dim)))]  # fmt: skip
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(dim * tokens, 100)).eval()


def tcn(channels: int = 64, depth: int = 6) -> nn.Module:
    """Build a temporal convolutional network for series of 128 steps."""
    parts: list[nn.Module] = [nn.Conv1d(8, channels, 1)]
    for level in range(depth):
        step = 2**level
        inner = [layer for _ in range(2) for layer in (nn.ConstantPad1d((2 * step, 0), 0.0),
                 nn.Conv1d(channels, channels, 3, dilation=step), nn.ReLU(), nn.Dropout(0.1))]  # fmt: skip
        parts.append(Plus(nn.Sequential(*inner), after=nn.ReLU()))
    return nn.Sequential(*parts, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, 10)).eval()


def encoder(norm_first: bool) -> nn.Module:
    """Build torch's own encoder of six layers for 50 vectors."""
    layer = nn.TransformerEncoderLayer(128, 4, 512, 0.0, nn.functional.gelu, batch_first=True, norm_first=norm_first)
    inner = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
    return nn.Sequential(inner, nn.Flatten(), nn.Linear(50 * 128, 5)).eval()


def perceptron() -> nn.Module:
    """Build a perceptron for a table of 20 features."""
    return nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 3)).eval()


#: What builds each network, and the shape of its input.
ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "perceptron": (perceptron, (20,)),
    "vgg11": (vgg, IMAGE),
    "resnet18": (lambda: resnet((2, 2, 2, 2), False), IMAGE),
    "resnet34": (lambda: resnet((3, 4, 6, 3), False), IMAGE),
    "resnet50": (lambda: resnet((3, 4, 6, 3), True), IMAGE),
    "resnext50": (lambda: resnet((3, 4, 6, 3), True, 32, 4), IMAGE),
    "densenet121": (densenet, IMAGE),
    "mobilenet": (mobilenet, IMAGE),
    "efficientnet": (efficientnet, IMAGE),
    "squeezenet": (squeezenet, IMAGE),
    "googlenet": (googlenet, IMAGE),
    "shufflenet": (shufflenet, IMAGE),
    "unet": (UNet, IMAGE),
    "vit": (ViT, IMAGE),
    "swin": (Swin, (3, 128, 128)),
    "convnext": (convnext, IMAGE),
    "mixer": (mixer, (64, 192)),
    "tcn": (tcn, (8, 128)),
    "encoder": (lambda: encoder(False), (50, 128)),
    "encoder_norm_first": (lambda: encoder(True), (50, 128)),
}


def build(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a network and the shape of its input."""
    make, dim = ZOO[name]
    torch.manual_seed(0)
    return make().eval(), dim
