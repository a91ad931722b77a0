"""Networks with attention, and those that mix tokens without it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.zoo.parts import Plus, Swapped, feed_forward


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


def mixer(dim: int = 256, tokens: int = 64, depth: int = 8) -> nn.Module:
    """Build MLP-Mixer for 64 patches, given as a series ``(tokens, 192)``."""
    parts: list[nn.Module] = [nn.Linear(192, dim)]
    for _ in range(depth):
        parts += [Plus(nn.Sequential(nn.LayerNorm(dim), Swapped(feed_forward(tokens, 2)))),
                  Plus(nn.Sequential(nn.LayerNorm(dim), feed_forward(dim)))]  # fmt: skip
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(dim * tokens, 100)).eval()


def encoder(norm_first: bool) -> nn.Module:
    """Build torch's own encoder of six layers for 50 vectors."""
    layer = nn.TransformerEncoderLayer(128, 4, 512, 0.0, nn.functional.gelu, batch_first=True, norm_first=norm_first)
    inner = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
    return nn.Sequential(inner, nn.Flatten(), nn.Linear(50 * 128, 5)).eval()


class Causal(nn.Module):
    """Attention to earlier tokens, through a mask that is written out."""

    def __init__(self, dim: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.register_buffer("later", torch.ones(tokens, tokens, dtype=torch.bool).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        """Attend."""
        b, n, c = x.shape
        q, k, v = (part.view(b, n, self.heads, -1).transpose(1, 2) for part in self.qkv(x).split(c, 2))
        scores = q @ k.transpose(2, 3) / (c // self.heads) ** 0.5
        y = scores.masked_fill(self.later, float("-inf")).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(b, n, c))


def gpt(dim: int = 256, depth: int = 6, heads: int = 8, tokens: int = 64) -> nn.Module:
    """Build a decoder like GPT-2 from the vectors of its tokens on; the first words that follow are its outputs."""
    parts: list[nn.Module] = []
    for _ in range(depth):
        parts += [Plus(nn.Sequential(nn.LayerNorm(dim), Causal(dim, heads, tokens))),
                  Plus(nn.Sequential(nn.LayerNorm(dim), feed_forward(dim)))]  # fmt: skip
    return nn.Sequential(*parts, nn.LayerNorm(dim), Ends(), nn.Linear(dim, 1000)).eval()


class Ends(nn.Module):
    """The last token."""

    def forward(self, x: Tensor) -> Tensor:
        """Take it."""
        return x[:, -1]


class Features(nn.Module):
    """A vector for each number of a table, and one that looks at all."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(features, dim)), nn.Parameter(torch.randn(features, dim))
        self.last = nn.Parameter(torch.randn(1, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Turn numbers into tokens."""
        tokens = x.unsqueeze(-1) * self.weight + self.bias
        return torch.cat([tokens, self.last.expand(len(x), -1, -1)], 1)


def ft_transformer(features: int = 20, dim: int = 192, depth: int = 3) -> nn.Module:
    """Build a transformer for tables, like FT-Transformer."""
    parts: list[nn.Module] = [Features(features, dim)]
    for _ in range(depth):
        parts += [Plus(nn.Sequential(nn.LayerNorm(dim), Attention(dim, 8))),
                  Plus(nn.Sequential(nn.LayerNorm(dim), feed_forward(dim, 2)))]  # fmt: skip
    return nn.Sequential(*parts, nn.LayerNorm(dim), Ends(), nn.ReLU(), nn.Linear(dim, 3)).eval()


class Spatial(nn.Module):
    """Half of the channels, times what the tokens of the other half say."""

    def __init__(self, dim: int, tokens: int) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(dim // 2), nn.Conv1d(tokens, tokens, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Weigh."""
        u, v = x.chunk(2, -1)
        return u * self.mix(self.norm(v))


def gmlp(dim: int = 128, tokens: int = 64, depth: int = 8) -> nn.Module:
    """Build gMLP for 64 patches, given as a series ``(tokens, 192)``."""
    parts: list[nn.Module] = [nn.Linear(192, dim)]
    for _ in range(depth):
        inner = [nn.LayerNorm(dim), nn.Linear(dim, 6 * dim), nn.GELU(), Spatial(6 * dim, tokens),
                 nn.Linear(3 * dim, dim)]  # fmt: skip
        parts.append(Plus(nn.Sequential(*inner)))
    return nn.Sequential(*parts, nn.LayerNorm(dim), nn.Flatten(), nn.Linear(dim * tokens, 100)).eval()
