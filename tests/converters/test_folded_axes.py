"""Axes that a module folds into its batch: layers over them keep their rules, and every number is right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from innsight_py import Converter, rules, run_cw, run_deeplift, run_grad, run_intgrad, run_lrp
from innsight_py.layers.folded import Folded


class FilmNet(nn.Module):
    """Frame by frame: convolution, norms, pooling, resizing, then a mean over time."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.group = nn.GroupNorm(2, 4)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.pad = nn.ReflectionPad2d(1)
        self.back = nn.ConvTranspose2d(4, 3, 2)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        rows, time = x.shape[:2]
        y = x.flatten(0, 1)
        y = torch.relu(self.norm(self.conv(y)))
        y = nn.functional.max_pool2d(y, 2)
        y = nn.functional.avg_pool2d(self.group(self.pad(self.up(y))), 2)
        y = nn.functional.adaptive_avg_pool2d(torch.relu(self.back(y)), (1, 1)).flatten(1)
        return self.head(y.view(rows, time, 3)).mean(1)


class SeriesNet(nn.Module):
    """Channels as rows, as PatchTST has it: patches by a convolution of one channel, attention, a norm."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv1d(1, 8, 4, stride=4)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8 * 4, 3)

    def forward(self, x):
        rows, channels, length = x.shape
        y = self.embed(x.reshape(rows * channels, 1, length)).transpose(1, 2)
        y = self.norm(self.layer(y).transpose(1, 2))
        return self.head(y.flatten(1)).view(rows, channels, 3).mean(1)


class Timesformer(nn.Module):
    """Attention over time for each place, then over places for each time."""

    def __init__(self, time=3, places=4, width=8):
        super().__init__()
        self.patch = nn.Conv2d(2, width, 4, stride=4)
        self.over_time = nn.MultiheadAttention(width, 2, batch_first=True)
        self.over_places = nn.MultiheadAttention(width, 2, batch_first=True)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(2)])
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        rows, time = x.shape[:2]
        y = self.patch(x.flatten(0, 1)).flatten(2).transpose(1, 2)
        places, width = y.shape[1:]
        y = y.reshape(rows, time, places, width).transpose(1, 2).reshape(rows * places, time, width)
        z = self.norms[0](y)
        y = y + self.over_time(z, z, z, need_weights=False)[0]
        y = y.reshape(rows, places, time, width).transpose(1, 2).reshape(rows * time, places, width)
        z = self.norms[1](y)
        y = y + self.over_places(z, z, z, need_weights=False)[0]
        return self.head(y.reshape(rows, time * places, width).mean(1))


MODELS = {"film": (FilmNet, (3, 3, 8, 8)), "series": (SeriesNet, (5, 16)), "timesformer": (Timesformer, (3, 2, 8, 8))}


@pytest.fixture(params=MODELS)
def case(request):
    torch.manual_seed(1)
    build, dim = MODELS[request.param]
    model = build()
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    model = model.double().eval()
    return model, Converter(model, input_dim=dim, dtype="double"), torch.randn(3, *dim, dtype=torch.float64)


def test_outputs_and_gradients_are_torchs(case):
    model, converter, x = case
    with torch.no_grad():
        assert torch.allclose(converter.model(x)[0], model(x), rtol=0, atol=1e-12)
    leaf = x.clone().requires_grad_()
    found = run_grad(converter, x, dtype="double", ignore_last_act=False).get_result("torch_tensor")
    for node in range(found.shape[-1]):
        (expected,) = torch.autograd.grad(model(leaf)[:, node].sum(), leaf)
        assert torch.allclose(found[..., node], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reference", ["zeros", "one row"])
def test_deeplift_sums_to_the_difference(case, reference):
    model, converter, x = case
    x_ref = None if reference == "zeros" else torch.randn(1, *x.shape[1:], dtype=torch.float64)
    found = run_deeplift(converter, x, x_ref=x_ref, dtype="double", winner_takes_all=False)
    with torch.no_grad():
        goal = model(x) - model(torch.zeros_like(x[:1]) if x_ref is None else x_ref)
    total = found.get_result("torch_tensor").flatten(1, -2).sum(1)
    assert torch.allclose(total, goal, rtol=0, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*do not add up")  # max pooling, alpha-beta and connection weights
def test_a_folded_layer_answers_as_on_each_part_alone():
    """LRP, reveal-cancel and connection weights of a time-distributed net with one step are those of the plain net."""
    torch.manual_seed(2)
    plain = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(6, 1)).double()

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = plain

        def forward(self, x):
            return self.inner(x.flatten(0, 1)).view(-1, 2)

    alone = Converter(plain, input_dim=(2, 6), dtype="double")
    twice = Converter(Twice(), input_dim=(2, 2, 6), dtype="double")
    x, x_ref = torch.randn(3, 2, 2, 6).double(), torch.randn(1, 2, 2, 6).double()
    calls = [
        lambda c, x, x_ref: run_lrp(c, x, rule_name="alpha_beta", rule_param=2, dtype="double"),
        lambda c, x, x_ref: run_lrp(c, x, rule_name="epsilon", winner_takes_all=False, dtype="double"),
        lambda c, x, x_ref: run_deeplift(
            c, x, x_ref=x_ref, rule_name="reveal_cancel", winner_takes_all=False, dtype="double"
        ),
        lambda c, x, x_ref: run_intgrad(c, x, x_ref=x_ref, n=5, dtype="double"),
        lambda c, x, x_ref: run_cw(c, x, times_input=True, dtype="double"),
    ]
    for call in calls:
        both = call(twice, x, x_ref).get_result("torch_tensor")
        for step in range(2):
            one = call(alone, x[:, step], x_ref[:, step]).get_result("torch_tensor")
            assert torch.allclose(both[:, step, ..., step], one[..., 0], rtol=0, atol=1e-12)
            assert not both[:, 1 - step, ..., step].any()


def test_folded_layers_are_saved(tmp_path, case):
    _, converter, x = case
    converter.save(tmp_path / "model.safetensors")
    loaded = Converter.load(tmp_path / "model.safetensors")
    assert torch.equal(loaded.model(x)[0], converter.model(x)[0])
    folded = [type(node).__name__ for node in loaded.model.layers if isinstance(node, Folded)]
    assert folded


def test_batch_norm_is_merged_into_a_folded_convolution():
    torch.manual_seed(3)
    model = FilmNet().double().eval()
    model.norm.running_mean.normal_()
    converter = Converter(model, input_dim=(3, 3, 8, 8), dtype="double")
    merged = converter.model_in("double", merge_batch_norm=True)
    assert "norm" not in [node.name for node in merged.nodes]
    x = torch.randn(2, 3, 3, 8, 8).double()
    assert torch.allclose(merged(x)[0], model(x), rtol=0, atol=1e-12)


class Frames(nn.Module):
    """A convolution of each frame: all at once, folded into the batch, or one after the other."""

    def __init__(self, unrolled):
        super().__init__()
        torch.manual_seed(3)
        self.unrolled = unrolled
        self.conv, self.head = nn.Conv2d(2, 3, 3), nn.Linear(12, 2)

    def forward(self, x):
        if self.unrolled:
            y = torch.stack([self.conv(x[:, t]).relu() for t in range(x.shape[1])], 1)
        else:
            y = self.conv(x.flatten(0, 1)).relu().unflatten(0, x.shape[:2])
        return self.head(y.flatten(2).mean(1))


@pytest.mark.parametrize("shape", [(5, 2, 4, 4), (5, 1, 1, 1), (2, 4, 4), (2, 1, 1)])
def test_bounds_of_pixels_may_differ_along_folded_axes(shape):
    """The rule z-box on frames in the batch is that on frames one after the other, each with its own bounds."""
    rng = np.random.default_rng(1)
    low, high = -rng.uniform(3, 5, shape), rng.uniform(3, 5, shape)
    x = torch.from_numpy(rng.uniform(-3, 3, (3, 5, 2, 4, 4)))
    folded, unrolled = (Converter(Frames(way).eval(), input_dim=x.shape[1:], dtype="double") for way in (False, True))
    names = list(dict.fromkeys(r.layer for r in unrolled.show_rules("simple") if r.kind.startswith("Conv2D")))
    assert len(names) == 5
    frames = [b if b.ndim == 4 else np.broadcast_to(b, (5, *b.shape)) for b in (low, high)]
    each = [(name, rules.z_box(frames[0][t], frames[1][t])) for t, name in enumerate(names)][::-1]  # "conv" means all
    found = run_lrp(folded, x, rule_name=[("first", rules.z_box(low, high))], dtype="double").get_result()
    expected = run_lrp(unrolled, x, rule_name=each, dtype="double").get_result()
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
