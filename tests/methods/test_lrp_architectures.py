"""AttnLRP and CP-LRP on architectures as they are written in torch: relevances of CP-LRP add up without biases."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from innsight_py import Converter, composites, run_lrp

IMAGE, SERIES = (3, 8, 8), (5, 8)


def attend(q, k, v, how):
    """Compute attention, in one of the ways in which it is written."""
    scale = q.shape[-1] ** -0.5
    if how == "fused":
        return F.scaled_dot_product_attention(q, k, v)
    if how == "einsum":
        weights = (torch.einsum("bhnd,bhmd->bhnm", q, k) * scale).softmax(-1)
        return torch.einsum("bhnm,bhmd->bhnd", weights, v)
    if how == "cosine":
        return (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * 5).softmax(-1) @ v
    if how == "baddbmm":
        flat = [x.flatten(0, 1) for x in (q, k, v)]
        scores = torch.bmm(flat[0] * scale, flat[1].transpose(1, 2))
        return torch.bmm(F.softmax(scores, dim=-1), flat[2]).unflatten(0, q.shape[:2])
    return ((q * scale) @ k.transpose(-2, -1)).softmax(-1) @ v


class Attention(nn.Module):
    def __init__(self, how="scaled queries"):
        super().__init__()
        self.how, self.qkv, self.out = how, nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x):
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(attend(q, k, v, self.how).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, how="scaled queries", act=None, norm=nn.LayerNorm):
        super().__init__()
        self.norm1, self.attention, self.norm2 = norm(8), Attention(how), norm(8)
        self.feed = nn.Sequential(nn.Linear(8, 12), act or nn.GELU(), nn.Linear(12, 8))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.feed(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, **keys):
        super().__init__()
        self.patches, self.blocks = nn.Conv2d(3, 8, 4, 4), nn.Sequential(Block(**keys), Block(**keys))
        self.start, self.bias = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 5, 8))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.start.expand(len(x), -1, -1), x], 1) + self.bias
        return self.head(self.norm(self.blocks(x)).mean(1))


def windows(x):
    return x.unflatten(1, (-1, 2)).unflatten(3, (-1, 2)).transpose(2, 3).flatten(0, 2).flatten(1, 2)


class SwinLike(nn.Module):
    """Windows, shifted windows with a mask, positions relative to each other, and merged patches."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm, self.qkv, self.out = (
            nn.Conv2d(3, 8, 2, 2),
            nn.LayerNorm(8),
            nn.Linear(8, 24),
            nn.Linear(8, 8),
        )
        self.place_bias = nn.Parameter(torch.randn(9, 2))
        self.merged, self.merge, self.head = nn.LayerNorm(32), nn.Linear(32, 16, bias=False), nn.Linear(16, 3)
        place = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij")).flatten(1)
        relative = place[:, :, None] - place[:, None] + 1
        self.register_buffer("index", relative[0] * 3 + relative[1])
        region = torch.tensor([0, 0, 1, 2])[:, None] * 3 + torch.tensor([0, 0, 1, 2])
        region = windows(region[None, :, :, None].float())[..., 0]
        self.register_buffer("mask", torch.where(region[:, None] == region[:, :, None], 0.0, -100.0))

    def attend(self, x, mask):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        scores = q * 0.5 @ k.transpose(-2, -1) + self.place_bias[self.index].permute(2, 0, 1)
        if mask is not None:
            scores = (scores.unflatten(0, (-1, len(mask))) + mask[None, :, None].to(x.dtype)).flatten(0, 1)
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))

    def block(self, x, shift):
        y = torch.roll(self.norm(x), (-shift, -shift), (1, 2))
        y = self.attend(windows(y), self.mask if shift else None)
        y = y.unflatten(1, (2, 2)).unflatten(0, (-1, 2, 2)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return x + torch.roll(y, (shift, shift), (1, 2))

    def forward(self, x):
        x = self.block(self.block(self.patches(x).permute(0, 2, 3, 1), 0), 1)
        x = torch.cat([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], -1)
        return self.head(self.merge(self.merged(x)).mean((1, 2)))


class ChannelNorm(nn.Module):
    """A layer normalisation over channels, written out."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(width, 1, 1) + 0.5), nn.Parameter(torch.randn(width, 1, 1))

    def forward(self, x):
        mean = x.mean(1, keepdim=True)
        return self.weight * ((x - mean) / ((x - mean).pow(2).mean(1, keepdim=True) + 1e-6).sqrt()) + self.bias


class ConvNeXtLike(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.first, self.depth = (
            nn.Conv2d(3, 8, 2, 2),
            ChannelNorm(8),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
        )
        self.norm, self.up, self.down = nn.LayerNorm(8, eps=1e-6), nn.Linear(8, 16), nn.Linear(16, 8)
        self.scale, self.last, self.head = nn.Parameter(torch.rand(8)), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.first(self.stem(x))
        y = self.down(F.gelu(self.up(self.norm(self.depth(x).permute(0, 2, 3, 1))))) * self.scale
        return self.head(self.last((x + y.permute(0, 3, 1, 2)).mean((2, 3))))


class UNetLike(nn.Module):
    """Group and instance normalisation, SiLU, attention in the middle, and a way up by interpolation."""

    def __init__(self):
        super().__init__()
        self.start, self.norm1, self.conv = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.GroupNorm(4, 8),
            nn.Conv2d(8, 8, 3, padding=1),
        )
        self.down, self.norm2 = nn.Conv2d(8, 8, 3, 2, 1), nn.GroupNorm(2, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm3, self.out = nn.InstanceNorm2d(16, affine=True), nn.Conv2d(16, 2, 1)

    def forward(self, x):
        x = self.start(x)
        x = x + self.conv(F.silu(self.norm1(x)))
        low = self.down(x)
        y = self.norm2(low).flatten(2).transpose(1, 2)
        low = low + self.attention(y, y, y, need_weights=False)[0].transpose(1, 2).reshape(low.shape)
        x = torch.cat([F.interpolate(low, scale_factor=2.0, mode="bilinear"), x], 1)
        return self.out(F.silu(self.norm3(x))).mean((2, 3))


class Encoder(nn.Module):
    def __init__(self, norm_first):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=norm_first, activation="gelu")
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.encoder(x).mean(1))


class Experts(nn.Module):
    """All experts, weighted by a softmax."""

    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(8, 3), nn.ModuleList(nn.Linear(8, 4) for _ in range(3))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        weights = self.gate(x).softmax(-1)
        y = torch.stack([expert(x) for expert in self.experts], -2)
        return self.head((weights[..., None] * y).sum(-2).mean(1))


class GraphAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.left, self.right, self.head = (
            nn.Linear(8, 6),
            nn.Linear(6, 1),
            nn.Linear(6, 1),
            nn.Linear(6, 2),
        )
        self.register_buffer("edges", torch.eye(5).roll(1, 0).bool() | torch.eye(5).bool())

    def forward(self, x):
        h = self.embed(x)
        scores = F.leaky_relu(self.left(h) + self.right(h).transpose(1, 2)).masked_fill(~self.edges, -1e9)
        return self.head(F.elu(scores.softmax(-1) @ h).mean(1))


ARCHITECTURES = {
    "ViT": (ViT, IMAGE),
    "ViT, root mean square": (lambda: ViT(norm=nn.RMSNorm), IMAGE),
    "ViT, cosines": (lambda: ViT(how="cosine"), IMAGE),
    "Swin": (SwinLike, IMAGE),
    "ConvNeXt": (ConvNeXtLike, IMAGE),
    "U-Net": (UNetLike, IMAGE),
    "encoder, norms behind": (lambda: Encoder(False), SERIES),
    "encoder, norms first": (lambda: Encoder(True), SERIES),
    "experts": (Experts, SERIES),
    "graph attention": (GraphAttention, SERIES),
}


def converted(build, dim, biases=True):
    torch.manual_seed(1)
    model = build().double().eval()
    for name, parameter in model.named_parameters():
        if not biases and ("bias" in name or name == "start"):
            nn.init.zeros_(parameter)
    x = torch.randn(2, *dim, dtype=torch.float64)
    return Converter(model, input_dim=dim, dtype="double"), x


@functools.cache
def without_biases(name):
    return converted(*ARCHITECTURES[name], biases=False)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_relevances_add_up_without_biases(name):
    converter, x = without_biases(name)
    found = run_lrp(converter, x, rule_name="cp_lrp", dtype="double").get_result()
    sums = found.sum(tuple(range(1, found.ndim - 1)))
    np.testing.assert_allclose(sums, converter.model(x)[0].numpy(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_all_rules_reach_the_inputs(name):
    converter, x = without_biases(name)
    for rule_name in ("attnlrp", "cp_lrp", composites.attnlrp(gamma=0.1)):
        found = run_lrp(converter, x, rule_name=rule_name).get_result()
        assert np.isfinite(found).all()
        assert found.any()


@pytest.mark.parametrize("rule_name", [composites.attnlrp(scores="pass"), "cp_lrp"])
@pytest.mark.parametrize("how", ["fused", "einsum", "baddbmm"])
def test_how_attention_is_written_does_not_matter(how, rule_name):
    answers = []
    for way in (how, "scaled queries"):
        converter, x = converted(lambda way=way: ViT(how=way), IMAGE)
        answers.append(run_lrp(converter, x, rule_name=rule_name, dtype="double").get_result())
    np.testing.assert_allclose(*answers, rtol=1e-8, atol=1e-12)


class Written(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


FORMULAS = {
    "GELU with tanh": (
        lambda x: 0.5 * x * (1.0 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * torch.pow(x, 3.0)))),
        nn.GELU("tanh"),
    ),
    "GELU with erf": (lambda x: x * 0.5 * (1.0 + torch.erf(x / 2**0.5)), nn.GELU()),
    "SiLU by division": (lambda x: x / (1 + torch.exp(-x)), nn.SiLU()),
    "SiLU by sigmoid": (lambda x: x * torch.sigmoid(x), nn.SiLU()),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_that_are_written_out_pass(name):
    function, module = FORMULAS[name]
    answers = []
    for act in (Written(function), module):
        converter, x = converted(lambda act=act: ViT(act=act), IMAGE)
        answers.append(run_lrp(converter, x, rule_name="attnlrp", dtype="double").get_result())
    np.testing.assert_allclose(*answers, rtol=1e-8, atol=1e-12)


def test_what_is_read_outside_of_a_formula_too_keeps_its_rule():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            factor = 1 + torch.tanh(x)
            return self.head(x * factor) + factor.sum(1, keepdim=True)

    rows = Converter(Shared(), input_dim=(4,)).show_rules("attnlrp")
    assert [row.rule for row in rows if row.kind == "Scale_Layer"] == ["epsilon(0)"]


def test_a_gate_is_no_formula():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.up, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head((self.gate(x).tanh() + 1) * self.up(x))

    rows = Converter(Gated(), input_dim=(4,)).show_rules("attnlrp")
    assert [row.rule for row in rows if row.kind == "Scale_Layer"] == ["epsilon(0)"]


def test_two_inputs_and_attention_between_them():
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.decoder, self.head = nn.TransformerDecoderLayer(8, 2, 12, batch_first=True), nn.Linear(8, 3)

        def forward(self, x, memory):
            return self.head(self.decoder(x, memory)[:, -1])

    torch.manual_seed(1)
    model = Decoder().double().eval()
    for name, parameter in model.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)
    converter = Converter(model, input_dim=[(3, 8), (4, 8)], dtype="double")
    xs = [torch.randn(2, n, 8, dtype=torch.float64) for n in (3, 4)]
    found = run_lrp(converter, xs, rule_name="cp_lrp", dtype="double").result[0]
    sums = sum(x.sum((1, 2)) for x in found)
    torch.testing.assert_close(sums, converter.model(*xs)[0], rtol=1e-6, atol=1e-9)
    assert all(bool(x.any()) for x in found)
