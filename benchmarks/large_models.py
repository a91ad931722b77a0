"""Large networks with random weights, written by hand: a ResNet-50, a vision transformer and a BERT, in every size."""

from __future__ import annotations

import torch
from models import frozen
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Bottleneck(nn.Module):
    """Three convolutions with batch normalisation, and a residual sum."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.down: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        y = self.relu2(self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))))
        return self.relu3(self.bn3(self.conv3(y)) + self.down(x))


def resnet50(outputs: int = 10, blocks: tuple[int, ...] = (3, 4, 6, 3), width: int = 64) -> nn.Module:
    """Build a network with the layers and sizes of ResNet-50."""
    parts: list[nn.Module] = [nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    parts.append(nn.MaxPool2d(3, 2, 1))
    channels = width
    for stage, number in enumerate(blocks):
        for block in range(number):
            parts.append(Bottleneck(channels, width << stage, 2 if stage and not block else 1))
            channels = 4 * (width << stage)
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs)).eval()


class Attention(nn.Module):
    """Attention with several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Let each token look at all tokens."""
        rows, tokens, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(rows, tokens, self.heads, width // self.heads).transpose(1, 2)

        y = F.scaled_dot_product_attention(split(self.query(x)), split(self.key(x)), split(self.value(x)))
        return self.out(y.transpose(1, 2).reshape(rows, tokens, width))


class Encoder(nn.Module):
    """One layer of a transformer, with its norms before (as in ViT) or behind (as in BERT) its parts."""

    def __init__(self, width: int, heads: int, before: bool) -> None:
        super().__init__()
        self.before = before
        self.attention, self.norm1, self.norm2 = Attention(width, heads), nn.LayerNorm(width), nn.LayerNorm(width)
        self.wide, self.gelu, self.narrow = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer."""
        if self.before:
            x = x + self.attention(self.norm1(x))
            return x + self.narrow(self.gelu(self.wide(self.norm2(x))))
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.narrow(self.gelu(self.wide(x))))


class ViT(nn.Module):
    """A vision transformer; with the defaults the sizes of ViT-B/16."""

    def __init__(
        self, outputs: int = 10, pixels: int = 224, patch: int = 16, width: int = 768, heads: int = 12, depth: int = 12
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.places = nn.Parameter(0.02 * torch.randn(1, (pixels // patch) ** 2, width))
        self.layers = nn.Sequential(*(Encoder(width, heads, before=True) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        y = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.norm(self.layers(y)).mean(1))


class Bert(nn.Module):
    """A classifier of texts, from the vectors of its tokens on; with the defaults the sizes of BERT-base."""

    def __init__(
        self, outputs: int = 10, tokens: int = 128, width: int = 768, heads: int = 12, depth: int = 12
    ) -> None:
        super().__init__()
        self.places = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(*(Encoder(width, heads, before=False) for _ in range(depth)))
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Classify texts ``(B, tokens, width)``."""
        return self.head(self.layers(self.norm(x + self.places))[:, 0])


def build(name: str, outputs: int, small: bool = False) -> tuple[nn.Module, tuple[int, ...]]:
    """Build a network with frozen random weights, and return the shape of a row as well; `small` for a dry run."""
    torch.manual_seed(0)
    if name == "resnet50":
        model, dim = (resnet50(outputs, (1, 1), 8), (3, 32, 32)) if small else (resnet50(outputs), (3, 224, 224))
    elif name == "vit":
        model = ViT(outputs, 32, 8, 32, 4, 2) if small else ViT(outputs)
        dim = (3, 32, 32) if small else (3, 224, 224)
    elif name == "bert":
        model = Bert(outputs, 16, 32, 4, 2) if small else Bert(outputs)
        dim = (16, 32) if small else (128, 768)
    elif name == "tokens1024":
        model = Bert(outputs, 64, 32, 4, 2) if small else Bert(outputs, 1024, 768, 12, 2)
        dim = (64, 32) if small else (1024, 768)
    else:
        raise KeyError(name)
    for part in model.modules():  # as after training: statistics that are not 0 and 1
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            part.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return frozen(model.eval()), dim
