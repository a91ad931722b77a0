"""Batch normalisation folded into the layer before it: the same function, copies only where they are needed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from innsight_py import Converter, run_lrp


def seeded(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give a model weights and statistics that are not trivial."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator)
            value.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn)
    return model.double().eval()


class Residual(nn.Module):
    """A convolution that a sum reads as well, and one that is normalised twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.other, self.left, self.right = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False)

    def forward(self, x):
        y = self.conv(x)
        z = self.other(F.relu(self.norm(y)) + y)
        return (self.left(z).tanh() * self.right(z)).mean((2, 3))


class Branches(nn.Module):
    """One normalisation behind a sum, and one behind channels of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 2, 1, bias=False)
        self.sum, self.joined, self.drop = nn.BatchNorm2d(3), nn.BatchNorm2d(5), nn.Dropout()
        self.last, self.end = nn.Linear(5, 3), nn.BatchNorm1d(3)

    def forward(self, x):
        added = self.sum(self.a(x) + self.b(x))
        joined = self.joined(torch.cat([self.b(x), self.c(x)], 1))
        gate = F.pad(added.mean((2, 3)), (0, 2), value=1.0)
        return self.end(self.drop(self.last(F.relu(joined).mean((2, 3)) * gate)))


def sequence(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(2))


MODELS = {
    "dense": (lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2)), (4,), 0),
    "conv1d": (lambda: sequence(nn.Conv1d(2, 4, 3, 2, 1, 2, 2, bias=False), nn.BatchNorm1d(4), nn.ReLU()), (2, 9), 0),
    "conv3d": (lambda: sequence(nn.Conv3d(1, 2, 2), nn.BatchNorm3d(2, affine=False)), (1, 3, 3, 3), 0),
    "transposed": (lambda: sequence(nn.ConvTranspose2d(4, 6, 3, 2, groups=2), nn.BatchNorm2d(6)), (4, 3, 3), 0),
    "two in a row": (lambda: sequence(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.BatchNorm1d(3)), (2, 5), 0),
    "residual": (Residual, (2, 5, 5), 0),
    "branches": (Branches, (2, 4, 4), 0),
    "first": (lambda: sequence(nn.BatchNorm1d(2), nn.Conv1d(2, 3, 2)), (2, 5), 1),
    "padded": (lambda: sequence(nn.Conv1d(2, 3, 2), nn.ConstantPad1d(1, 0.0), nn.BatchNorm1d(3)), (2, 5), 1),
    "activated": (lambda: sequence(nn.Conv1d(2, 3, 2), nn.ReLU(), nn.BatchNorm1d(3)), (2, 5), 1),
    "other axis": (lambda: sequence(nn.Linear(5, 4), nn.BatchNorm1d(2)), (2, 5), 1),
}
WHY = {
    "first": "'0', since it comes first, and there is no layer before it",
    "padded": "the layer before it, '1' .Padding., is no dense layer and no convolution",
    "activated": "the activation relu lies between it and the layer '0'",
    "other axis": "the layer '0' before it works along another axis",
}


def built(name, seed=0):
    build, dim, stays = MODELS[name]
    model = build()
    model.eval()(torch.zeros(1, *dim))  # lazy layers
    model = seeded(model, seed)
    return model, Converter(model, input_dim=dim, dtype="double"), dim, stays


@pytest.mark.parametrize("name", MODELS)
def test_the_function_is_the_same(name):
    model, converter, dim, stays = built(name)
    x = torch.randn(4, *dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    merged = converter.model_in("double", merge_batch_norm=True)
    torch.testing.assert_close(merged(x)[0], model(x), rtol=1e-10, atol=1e-12)
    kinds = [layer.r_class for layer in merged.layers]
    assert kinds.count("BatchNorm_Layer") == stays == len(converter.unmerged())
    assert "BatchNorm_Layer" in {layer.r_class for layer in converter.model.layers}  # the converter is as it was
    torch.testing.assert_close(converter.model(x)[0], model(x), rtol=1e-10, atol=1e-12)


def test_copies_only_where_they_are_needed():
    _, converter, *_ = built("residual")
    names = [layer.name for layer in converter.model_in("double", merge_batch_norm=True).layers]
    assert sum(name.startswith("conv") for name in names) == 2  # the sum reads what is not normalised
    assert "conv" in names
    assert sum(name.startswith("other") for name in names) == 2  # one for each normalisation
    _, converter, *_ = built("two in a row")
    names = [layer.name for layer in converter.model_in("double", merge_batch_norm=True).layers]
    assert [name for name in names if name.startswith("0")] == ["0"]


@pytest.mark.parametrize("name", WHY)
def test_what_cannot_be_merged_is_said(name):
    _, converter, dim, _ = built(name)
    x = np.random.default_rng(0).normal(size=(3, *dim))
    with pytest.warns(UserWarning, match=f"'merge_batch_norm': these batch normalisations stay.*{WHY[name]}"):
        found = run_lrp(converter, x, rule_name="epsilon", merge_batch_norm=True, dtype="double")
    np.testing.assert_array_equal(
        found.get_result(), run_lrp(converter, x, rule_name="epsilon", dtype="double").get_result()
    )


def test_merged_relevances_by_hand():
    """LRP-0 is the same of the folded layer and of its two parts, other rules are not."""
    model, converter, *_ = built("dense", seed=5)
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    linear, norm, _, last = model
    s = norm.weight / (norm.running_var + norm.eps).sqrt()
    w, b = s[:, None] * linear.weight, s * (linear.bias - norm.running_mean) + norm.bias
    z = x @ w.T + b
    y = z.clamp(min=0)
    upper = y[:, None] * last.weight  # (B, out, 3): the output's bias keeps its part
    expected = torch.einsum("boj,ji,bi->bio", upper / z[:, None], w, x)
    for merge in (True, False):
        found = run_lrp(converter, x, merge_batch_norm=merge, dtype="double").get_result()
        np.testing.assert_allclose(found, expected.detach(), rtol=1e-8)
    pairs = [("dense", "z_plus"), ("batch_norm", "pass")]
    merged, apart = (
        run_lrp(converter, x, rule_name=pairs, merge_batch_norm=m, dtype="double").get_result() for m in (True, False)
    )
    plus = (w[None] * x[:, None]).clamp(min=0)  # (B, 3, 4)
    second = (y[:, None] * last.weight).clamp(min=0)
    second = second / (second.sum(-1) + last.bias.clamp(min=0)).clamp(min=1e-300)[..., None] * model(x)[..., None]
    by_hand = torch.einsum("boj,bji->bio", second, plus / (plus.sum(-1) + b.clamp(min=0)).clamp(min=1e-300)[..., None])
    np.testing.assert_allclose(merged, by_hand.detach(), rtol=1e-8, atol=1e-12)
    assert not np.allclose(merged, apart, rtol=1e-3)


def test_both_precisions(tmp_path):
    _, converter, dim, _ = built("branches")
    x = np.random.default_rng(0).normal(size=(3, *dim))
    single, double = (
        run_lrp(converter, x, rule_name="z_plus", merge_batch_norm=True, dtype=d) for d in ("float", "double")
    )
    np.testing.assert_allclose(single.get_result(), double.get_result(), rtol=1e-3, atol=1e-5)
    converter.save(tmp_path / "model.safetensors")  # names of modules are saved, too
    again = run_lrp(
        Converter.load(tmp_path / "model.safetensors"), x, rule_name=[("c", "z_plus"), ("module:b", "z_plus")],
        merge_batch_norm=True, dtype="double",
    )  # fmt: skip
    assert again.get_result().shape == (3, *dim, 3)


class Film(nn.Module):
    """Images of a film, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 2)

    def forward(self, x):
        images = x.reshape(-1, *x.shape[2:])
        y = F.relu(self.norm(self.conv(images))).mean((2, 3))
        return self.last(y.reshape(-1, 4, 3).mean(1))


def test_layers_that_work_on_more_rows():
    model = seeded(Film())
    converter = Converter(model, input_dim=(4, 2, 5, 5), dtype="double")
    x = torch.randn(3, 4, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    merged = converter.model_in("double", merge_batch_norm=True)
    torch.testing.assert_close(merged(x)[0], model(x), rtol=1e-10, atol=1e-12)
    assert "BatchNorm_Layer" not in {layer.r_class for layer in merged.layers}
    assert converter.unmerged() == {}
    found = run_lrp(converter, x, rule_name="epsilon_plus_flat", merge_batch_norm=True, dtype="double").get_result()
    one = Converter(model, input_dim=(4, 2, 5, 5), dtype="double")
    for i in range(3):
        alone = run_lrp(one, x[i : i + 1], rule_name="epsilon_plus_flat", merge_batch_norm=True, dtype="double")
        np.testing.assert_allclose(alone.get_result()[0], found[i], rtol=1e-9, atol=1e-13)


def test_channels_of_another_axis_are_not_merged():
    """As many positions as channels: the normalisation is of the positions."""

    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm, self.last = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(16, 2)

        def forward(self, x):
            return self.last(self.norm(self.linear(x)).flatten(1))

    model = seeded(Turned())
    converter = Converter(model, input_dim=(4, 4), dtype="double")
    x = torch.randn(3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(converter.model_in("double", merge_batch_norm=True)(x)[0], model(x))
    assert list(converter.unmerged().values()) == ["the layer 'linear' before it works along another axis"]
