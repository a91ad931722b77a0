"""The networks of `golden/attnlrp`: plain PyTorch. Operations go through `ops`, so that others may stand there."""

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812


class Ops:
    """What PyTorch does."""

    linear = staticmethod(F.linear)
    matmul = staticmethod(torch.matmul)
    add = staticmethod(torch.add)
    mul = staticmethod(torch.mul)
    gelu, silu, tanh = staticmethod(F.gelu), staticmethod(F.silu), staticmethod(torch.tanh)

    @staticmethod
    def softmax(x):
        return torch.softmax(x, -1)

    @staticmethod
    def layer_norm(x, weight, bias):
        return F.layer_norm(x, (x.shape[-1],), weight, bias, 1e-5)

    @staticmethod
    def rms_norm(x, weight):
        return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))

    @staticmethod
    def mean(x):
        return x.mean(1)


class Attention(nn.Module):
    def __init__(self, ops, width, heads, causal=False):
        super().__init__()
        self.ops, self.heads, self.causal = ops, heads, causal
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        def split(layer):
            y = self.ops.linear(x, layer.weight, layer.bias)
            return y.reshape(y.shape[0], y.shape[1], self.heads, -1).transpose(1, 2)

        q, k, v = split(self.q), split(self.k), split(self.v)
        scores = self.ops.matmul(q, k.transpose(-1, -2)) * (1 / math.sqrt(q.shape[-1]))
        if self.causal:
            later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        y = self.ops.matmul(self.ops.softmax(scores), v).transpose(1, 2).reshape(x.shape)
        return self.ops.linear(y, self.o.weight, self.o.bias)


class Block(nn.Module):
    """A block: norms before or after (`post`), a plain or a gated feed-forward part, layer or RMS norm."""

    def __init__(self, ops, width, heads, hidden, post=False, gated=False, causal=False, rms=False):
        super().__init__()
        self.ops, self.post, self.gated, self.rms = ops, post, gated, rms
        self.attention = Attention(ops, width, heads, causal)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.gate = nn.Linear(width, hidden) if gated else None

    def norm(self, layer, x):
        return self.ops.rms_norm(x, layer.weight) if self.rms else self.ops.layer_norm(x, layer.weight, layer.bias)

    def feed(self, x):
        y = self.ops.linear(x, self.up.weight, self.up.bias)
        if self.gated:
            y = self.ops.mul(self.ops.silu(self.ops.linear(x, self.gate.weight, self.gate.bias)), y)
        else:
            y = self.ops.gelu(y)
        return self.ops.linear(y, self.down.weight, self.down.bias)

    def forward(self, x):
        if self.post:
            x = self.norm(self.norm1, self.ops.add(x, self.attention(x)))
            return self.norm(self.norm2, self.ops.add(x, self.feed(x)))
        x = self.ops.add(x, self.attention(self.norm(self.norm1, x)))
        return self.ops.add(x, self.feed(self.norm(self.norm2, x)))


class Net(nn.Module):
    """Blocks over a sequence (B, T, width), or over patches of images; `ends`: mean, first or last position."""

    def __init__(self, ops, length, width, heads, hidden, blocks, nodes, ends, patch=None, pooler=False, **kind):
        super().__init__()
        self.ops, self.ends, self.patch = ops, ends, patch
        self.embed = nn.Linear(3 * patch * patch, width) if patch else None
        self.position = nn.Parameter(torch.zeros(1, length, width))
        self.blocks = nn.ModuleList(Block(ops, width, heads, hidden, **kind) for _ in range(blocks))
        self.norm, self.rms = nn.LayerNorm(width), kind.get("rms", False)
        self.pooler = nn.Linear(width, width) if pooler else None
        self.head = nn.Linear(width, nodes)

    def forward(self, x):
        if self.patch:
            x = F.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
            x = self.ops.linear(x, self.embed.weight, self.embed.bias)
        x = self.ops.add(x, self.position.detach().expand(x.shape))
        for block in self.blocks:
            x = block(x)
        x = (
            self.ops.rms_norm(x, self.norm.weight)
            if self.rms
            else self.ops.layer_norm(x, self.norm.weight, self.norm.bias)
        )
        x = self.ops.mean(x) if self.ends == "mean" else x[:, 0 if self.ends == "first" else -1]
        if self.pooler is not None:
            x = self.ops.tanh(self.ops.linear(x, self.pooler.weight, self.pooler.bias))
        return self.ops.linear(x, self.head.weight, self.head.bias)


def build(name, ops=Ops):
    """Return (network, shape of an instance)."""
    return {
        "bert": lambda: (Net(ops, 6, 8, 2, 12, 2, 3, "first", pooler=True, post=True), (6, 8)),
        "gpt": lambda: (Net(ops, 5, 6, 2, 10, 2, 7, "last", causal=True), (5, 6)),
        "llama": lambda: (Net(ops, 5, 8, 4, 12, 2, 6, "last", causal=True, gated=True, rms=True), (5, 8)),
        "vit": lambda: (Net(ops, 4, 8, 2, 12, 2, 4, "mean", patch=4), (3, 8, 8)),
    }[name]()
