"""Small models in the style of the well-known ones, written the way people write them."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class BasicBlock(nn.Module):
    """A ResNet block with functional ReLU, one re-used module and an in-place sum."""

    def __init__(self, channels, out, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.down = None
        if stride != 1 or channels != out:
            self.down = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        identity = x if self.down is None else self.down(x)
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """A stem with overlapping, padded max pooling, two blocks, a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 5, 2, 2, bias=False)
        self.bn = nn.BatchNorm2d(6)
        self.blocks = nn.Sequential(BasicBlock(6, 6), BasicBlock(6, 8, 2))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn(self.stem(x))), 3, 2, 1)
        x = F.adaptive_avg_pool2d(self.blocks(x), 1)
        return self.head(torch.flatten(x, 1))


class Inception(nn.Module):
    """Branches of several sizes, concatenated."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(3, 4, 1)
        self.three = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 5, 3, padding=1))
        self.five = nn.Conv2d(3, 2, 5, padding="same")
        self.pool = nn.Conv2d(3, 3, 1)
        self.head = nn.Linear(14, 3)

    def forward(self, x):
        pooled = F.max_pool2d(x, 3, 1, 1)
        x = torch.cat([self.one(x), self.three(x), self.five(x), self.pool(pooled)], 1).relu()
        return self.head(x.mean((2, 3)))


class DenseNet(nn.Module):
    """Each layer sees all before it; batch normalisation before the activation; average pooling between."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(n), nn.ReLU(), nn.Conv2d(n, 3, 3, padding=1, bias=False)) for n in (3, 6, 9)
        )
        self.bn = nn.BatchNorm2d(12)
        self.head = nn.Linear(12 * 9, 4)

    def forward(self, x):
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        x = F.avg_pool2d(F.relu(self.bn(x)), 2, ceil_mode=True)
        return self.head(x.reshape(x.shape[0], -1))


class MobileNet(nn.Module):
    """An inverted residual with a depthwise convolution and ReLU6, then hardswish and dropout."""

    def __init__(self):
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 6, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU6())
        self.depth = nn.Sequential(nn.Conv2d(6, 6, 3, 1, 1, groups=6, bias=False), nn.BatchNorm2d(6), nn.ReLU6())
        self.project = nn.Sequential(nn.Conv2d(6, 3, 1, bias=False), nn.BatchNorm2d(3))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(3, 8), nn.Hardswish(), nn.Linear(8, 4))

    def forward(self, x):
        x = x + self.project(self.depth(self.expand(x)))
        return self.head(F.adaptive_avg_pool2d(x, (1, 1)).squeeze(-1).squeeze(-1))


class SqueezeExcite(nn.Module):
    """A gate that the input computes for itself."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.down, self.up = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = F.silu(self.conv(x))
        gate = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))
        return self.head((x * gate).mean((2, 3)))


class UNet(nn.Module):
    """Down, up by a transposed convolution, a skip; the means of its maps are the outputs."""

    def __init__(self):
        super().__init__()
        self.down1 = nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect")
        self.down2 = nn.Conv2d(4, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1)
        self.out = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        a = F.leaky_relu(self.down1(x), 0.1)
        b = F.elu(self.down2(F.max_pool2d(a, 2)))
        up = F.relu(self.up(b))
        return self.out(torch.cat([a, up], 1)).amax((2, 3))


class Volume(nn.Module):
    """A 3-D network."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 3, 3, padding=1, dilation=1)
        self.bn = nn.BatchNorm3d(3)
        self.conv2 = nn.Conv3d(3, 4, 2, stride=2, groups=1)
        self.head = nn.Linear(4 * 8, 3)

    def forward(self, x):
        x = F.max_pool3d(F.gelu(self.bn(self.conv(x))), 3, 2, 1)
        x = F.avg_pool3d(F.mish(self.conv2(F.pad(x, (0, 1, 0, 1, 0, 1)))), 1)
        return self.head(F.adaptive_avg_pool3d(x, 2).flatten(1))


class Fusion(nn.Module):
    """An image and a table, two outputs, one of which also feeds the other."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.table = nn.Linear(5, 4)
        self.first = nn.Linear(8, 3)
        self.second = nn.Linear(11, 2)

    def forward(self, image, table):
        image = F.relu(self.conv(image)).amax((2, 3))
        both = torch.cat([image, torch.tanh(self.table(table))], -1)
        first = self.first(both)
        return F.softmax(first, -1), self.second(torch.cat([both, first], 1))


class TiedMLP(nn.Module):
    """One linear layer, used three times."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.act = nn.Tanh()
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.act(self.linear(x))
        x = self.act(self.linear(x)) + x
        return self.head(self.act(self.linear(x)))


class Transformer(nn.Module):
    """Patches, a class token, positions, two encoder blocks, pooling, a head."""

    def __init__(self, norm_first=True):
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 8) * 0.5)
        self.position = nn.Parameter(torch.randn(1, 5, 8) * 0.5)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu", norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        x = self.norm(self.encoder(x))
        return self.head(torch.cat([x[:, 0], x[:, 1:].mean(1)], -1))


class Attention(nn.Module):
    """``nn.MultiheadAttention`` with weights and a causal mask, then an LSTM-free head."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.register_buffer("mask", torch.ones(5, 5).triu(1).bool())
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.embed(x.transpose(1, 2))
        attended, weights = self.attention(x, x, x, attn_mask=self.mask)
        return self.head(attended.mean(1)) + weights.sum((1, 2))[:, None] * 0.1


class ConvNeXt(nn.Module):
    """Depthwise convolution, layer normalisation channels last, a layer scale, a residual sum."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 2, 2)
        self.depth = nn.Conv2d(6, 6, 7, padding=3, groups=6)
        self.norm = nn.LayerNorm(6)
        self.up, self.down = nn.Linear(6, 12), nn.Linear(12, 6)
        self.gamma = nn.Parameter(torch.full((6,), 0.5))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.stem(x)
        y = self.norm(self.depth(x).permute(0, 2, 3, 1))
        y = self.gamma * self.down(F.gelu(self.up(y)))
        x = x + y.permute(0, 3, 1, 2)
        return self.head(x.mean([-2, -1]))


class Recurrent(nn.Module):
    """An LSTM, which ``torch.export`` decomposes into its gates."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        out, _ = self.lstm(x.transpose(1, 2))
        return self.head(out[:, -1])


class Norms(nn.Module):
    """Group, instance and root-mean-square normalisation, a GLU, pixel shuffle and upsampling."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 3, padding=1, padding_mode="circular")
        self.group = nn.GroupNorm(2, 8)
        self.instance = nn.InstanceNorm2d(8, affine=True)
        self.rms = nn.RMSNorm(6, eps=1e-5)
        self.prelu = nn.PReLU(4)
        self.head = nn.Linear(1 * 4 * 4, 3)

    def forward(self, x):
        x = self.instance(F.softplus(self.group(self.conv(x)), beta=2.0))
        x = self.prelu(self.rms(F.glu(x, 1) + 0.5))
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear")
        x = F.pixel_shuffle(x, 2)
        x = F.interpolate(x, size=(4, 4), mode="nearest")
        return self.head(x.flatten(1))


#: A maker for each model, with the shapes of its inputs.
MODELS = {
    "resnet": (ResNet, [(3, 16, 16)]),
    "inception": (Inception, [(3, 7, 7)]),
    "densenet": (DenseNet, [(3, 6, 6)]),
    "mobilenet": (MobileNet, [(3, 7, 7)]),
    "squeeze_excite": (SqueezeExcite, [(3, 8, 8)]),
    "unet": (UNet, [(2, 8, 8)]),
    "volume": (Volume, [(1, 7, 7, 7)]),
    "fusion": (Fusion, [(3, 6, 6), (5,)]),
    "tied_mlp": (TiedMLP, [(6,)]),
    "transformer": (Transformer, [(3, 8, 8)]),
    "transformer_post_norm": (lambda: Transformer(norm_first=False), [(3, 8, 8)]),
    "attention": (Attention, [(4, 5)]),
    "convnext": (ConvNeXt, [(3, 8, 8)]),
    "recurrent": (Recurrent, [(4, 5)]),
    "norms": (Norms, [(2, 6, 6)]),
}


def make(name: str) -> tuple[nn.Module, list[tuple[int, ...]]]:
    """Build a model in evaluation mode, with batch statistics as after some training."""
    torch.manual_seed(sum(map(ord, name)))
    maker, dims = MODELS[name]
    model = maker().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    return model, dims


# -- what tests ask of the originals -----------------------------------------------------------------------------------


def in_double(model: nn.Module) -> nn.Module:
    """Copy a model in double precision and evaluation mode, to compare with."""
    return copy.deepcopy(model).double().eval().requires_grad_(False)


def outputs(model: nn.Module, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Run a model as it is written, attention layers without their fused operator, on copies of the inputs.

    Copies that are no leaves: a model may write on its input.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        found = torch.utils._pytree.tree_leaves(model(*(x.clone() for x in inputs)))
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
    return [y if y.dim() > 1 else y.unsqueeze(-1) for y in found]


def gradients(model: nn.Module, inputs: list[torch.Tensor]) -> list[list[torch.Tensor | None]]:
    """Differentiate all nodes of a model with autograd: for each output and input ``(B, *dims, K)`` or None."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    found = []
    for y in outputs(model, leaves):
        columns = [
            torch.autograd.grad(y[:, k].sum(), leaves, retain_graph=True, allow_unused=True) for k in range(y.shape[1])
        ]
        found.append([None if rows[0] is None else torch.stack(rows, -1) for rows in zip(*columns, strict=True)])
    return found


def draw(dims: list[tuple[int, ...]], rows: int, seed: int = 0) -> list[torch.Tensor]:
    """Draw inputs in double precision."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, *dim, generator=generator, dtype=torch.float64) for dim in dims]


def total(row: list[torch.Tensor | None]) -> torch.Tensor:
    """Add up what an output's explanation gives to all inputs: ``(B, K)``."""
    return sum(x.flatten(1, -2).sum(1) for x in row if x is not None)
