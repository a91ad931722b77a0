"""A pass that takes much memory keeps no more than the walk back looks at: to the last bit the same answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from laws import REFUSED, in_the_middle
from method_calls import REFERENCES
from one_of_each import LAYERS
from peaks import MIB, images, passes, peak
from torch import nn

import innsight_py
from innsight_py import Converter, run_deeplift, run_grad, run_intgrad, run_lrp
from innsight_py.functions.activations import activation_names
from innsight_py.methods import sparing, walk
from innsight_py.methods.rescored import Rescored

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*attributions:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*They cancel:UserWarning"),
]

CALLS = {
    "Gradient": {"times_input": True},
    "IntegratedGradient": {"n": 3},
    "DeepLift": {},
    "DeepLift, reveal-cancel": {"rule_name": "reveal_cancel"},
    "DeepLift, shared": {"winner_takes_all": False},
    "LRP": {},
    "LRP, epsilon": {"rule_name": "epsilon", "winner_takes_all": False},
    "LRP, alpha-beta": {"rule_name": "alpha_beta"},
    "LRP, attnlrp": {"rule_name": "attnlrp"},
}
CACHE = walk.CACHE_BYTES


def answers(name, converter, data, reference, monkeypatch):
    """Return the answers of a pass that keeps all, and of two that do not, the last of which computes values again.

    Each for all rows and outputs at once, and for one.
    """
    method = name.partition(",")[0]
    options = dict(CALLS[name], verbose=False, ignore_last_act=False)
    if method in REFERENCES:
        options["x_ref"] = reference
    found = []
    for least, more in ((2**60, 1), (0, 2**60), (0, -1)):
        monkeypatch.setattr(walk, "LARGE_BYTES", least)
        monkeypatch.setattr(sparing, "MORE_THAN_AUTOGRAD", more)
        for rows, cache in ((None, CACHE), (1, (1, 1))):
            monkeypatch.setattr(walk, "CACHE_BYTES", cache)
            result = getattr(innsight_py, method)(converter, data, batch_size=rows, dtype="double", **options)
            found.append([x for row in result.result for x in row or () if x is not None])
            monkeypatch.setattr(walk, "CACHE_BYTES", CACHE)
    return found[:2] * 2, found[2:]


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in LAYERS for name in CALLS if not name.startswith(REFUSED.get(kind, ()))]
)
def test_answers_stay(kind, name, monkeypatch):
    subject = in_the_middle(kind)
    first = [x[:1] for x in subject.references]
    kept, spared = answers(name, subject.converter, subject.data, first, monkeypatch)
    for ours, theirs in zip(spared, kept, strict=True):
        assert len(ours) == len(theirs)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("activation", sorted({*activation_names()} - {"keras_sparsemax"}))
def test_answers_of_every_activation_stay(activation, alone, monkeypatch):
    """The activation of a dense layer, and one that is a layer of its own."""
    rng = np.random.default_rng(3)
    dense = {"type": "Dense", "weight": rng.uniform(0.1, 1, (4, 3)), "bias": np.full(4, 0.1)}
    if alone:
        layers = [dense, {"type": "Activation", "act_name": activation}]
    else:
        layers = [{**dense, "activation_name": activation}]
    end = {"type": "Dense", "weight": rng.standard_normal((2, 4))}
    converter = Converter({"input_dim": [3], "layers": [*layers, end]}, dtype="double")
    data, reference = rng.uniform(0.1, 1, (3, 3)), rng.uniform(0.1, 1, (3, 3))
    for name in ("Gradient", "DeepLift", "DeepLift, reveal-cancel"):
        kept, spared = answers(name, converter, data, reference, monkeypatch)
        assert all(torch.equal(a, b) for x, y in zip(spared, kept, strict=True) for a, b in zip(x, y, strict=True))


def autograd(model: nn.Module, x: torch.Tensor, outputs: int) -> list[torch.Tensor]:
    leaf = x.clone().requires_grad_()
    y = model(leaf)
    return [torch.autograd.grad(y[0, k], leaf, retain_graph=True)[0] for k in range(outputs)]


def blocks() -> nn.Module:
    """Residual blocks with batch normalisation, at 64 x 64 pixels: values are all that takes memory."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.norm, self.two = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.Conv2d(16, 16, 1)

        def forward(self, x):
            return torch.relu(x + self.two(torch.relu(self.norm(self.one(x)))))

    torch.manual_seed(0)
    parts = (Block() for _ in range(6))
    end = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *parts, *end).eval().requires_grad_(False)


@pytest.mark.parametrize("outputs", [1, 10])
@pytest.mark.parametrize(
    ("run", "options", "times"),
    [
        (run_grad, {}, (0.9, 0.9)),
        (run_deeplift, {}, (0.9, 0.9)),
        (run_lrp, {"rule_name": "epsilon"}, (1.4, 1.6)),
        (run_lrp, {"rule_name": "epsilon_plus"}, (1.5, 1.5)),
        (run_lrp, {"rule_name": "attnlrp"}, (1.5, 1.5)),
    ],
    ids=["gradient", "deeplift", "epsilon", "epsilon_plus", "attnlrp"],
)
def test_a_deep_network_takes_about_what_autograd_takes(run, options, times, outputs, monkeypatch):
    """Less of it where slopes are all that is kept; of several outputs LRP keeps what it divides by."""
    model, x = blocks(), images(1, 64)
    converter = Converter(model, input_dim=(3, 64, 64))
    monkeypatch.setattr(walk, "LARGE_BYTES", 2**20)
    monkeypatch.setattr(walk, "CACHE_BYTES", (1, 1))  # one output at a time, as where layers are wide

    ours = peak(lambda: run(converter, x, output_idx=list(range(outputs)), verbose=False, **options))
    theirs = peak(lambda: autograd(model, x, outputs))
    assert theirs > 2 * MIB
    assert ours <= times[outputs > 1] * theirs


def encoder(layers: int = 2) -> nn.Module:
    """Return some layers of a transformer."""

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(64, 4, 256, 0.0, "gelu", batch_first=True)
            self.layers, self.head = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False), nn.Linear(64, 6)

        def forward(self, x):
            return self.head(self.layers(x)[:, 0])

    torch.manual_seed(0)
    return First().eval().requires_grad_(False)


@pytest.mark.parametrize(("run", "times"), [(run_grad, 1.3), (run_deeplift, 1.2)], ids=["gradient", "deeplift"])
def test_a_transformer_keeps_for_several_outputs_what_they_share_alone(run, times, monkeypatch):
    model, x = encoder(), torch.randn(1, 128, 64, generator=torch.Generator().manual_seed(1))
    converter = Converter(model, input_dim=(128, 64))
    monkeypatch.setattr(walk, "LARGE_BYTES", 2**18)
    monkeypatch.setattr(walk, "CACHE_BYTES", (1, 1))
    one, several = (peak(lambda k=k: run(converter, x, output_idx=range(k), verbose=False)) for k in (1, 6))
    assert several <= times * one


@pytest.mark.parametrize(("outputs", "times"), [(1, 1.65), (6, 1.85)])
def test_deeplift_of_a_transformer_keeps_no_scores(outputs, times, monkeypatch):
    """Scores and what follows from them are computed again for each walk: to the last bit the same."""
    model, x = encoder(8), torch.randn(1, 48, 64, generator=torch.Generator().manual_seed(1))
    converter = Converter(model, input_dim=(48, 64))
    monkeypatch.setattr(walk, "CACHE_BYTES", (1, 1))
    kept = run_deeplift(converter, x, output_idx=range(outputs), verbose=False).result[0][0]
    monkeypatch.setattr(walk, "LARGE_BYTES", 2**18)
    found = run_deeplift(converter, x, output_idx=range(outputs), verbose=False).result[0][0]
    assert torch.equal(found, kept)
    ours = peak(lambda: run_deeplift(converter, x, output_idx=range(outputs), verbose=False))
    theirs = peak(lambda: autograd(model, x, 1))
    assert ours <= times * theirs


SCORES = {
    "plain": lambda s, x: torch.softmax(s, -1),
    "masked": lambda s, x: torch.softmax(s.masked_fill(torch.ones(24, 24).triu(1) > 0, -torch.inf), -1),
    "moved by the inputs": lambda s, x: torch.softmax(s + 0.1 * x.sum(-1, keepdim=True), -1),
    "a logarithm": lambda s, x: torch.log_softmax(s, -1),
    "no softmax": lambda s, x: torch.tanh(s) * 0.1,
    "used twice": lambda s, x: torch.softmax(s, -1) * torch.sigmoid(s),
    "normalised": lambda s, x: nn.functional.layer_norm(s, (24,)),
}


class Scored(nn.Module):
    """Attention of 24 narrow tokens."""

    def __init__(self, weigh):
        super().__init__()
        self.weigh, self.maps = weigh, nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.head = nn.Linear(96, 3)

    def forward(self, x):
        q, k, v = (part(x) for part in self.maps)
        return self.head((self.weigh(q @ k.mT, x) @ v).flatten(1))


@pytest.mark.parametrize("name", SCORES)
def test_answers_of_all_kinds_of_scores_stay(name, monkeypatch):
    """Also where more than a softmax stands between the two products; some rows at once, and outputs one by one."""
    torch.manual_seed(2)
    converter = Converter(Scored(SCORES[name]).eval().requires_grad_(False), input_dim=(24, 4), dtype="double")
    data, reference = torch.randn(3, 24, 4), torch.randn(1, 24, 4)
    seen = []
    plain = Rescored.keeps
    monkeypatch.setattr(Rescored, "keeps", lambda self, *args: seen.append(plain(self, *args)) or seen[-1])
    kept, spared = answers("DeepLift", converter, [data], [reference], monkeypatch)
    assert all(torch.equal(a, b) for x, y in zip(spared, kept, strict=True) for a, b in zip(x, y, strict=True))
    assert sum(seen) >= 4


@pytest.mark.parametrize(("outputs", "times"), [(1, 2.6), (6, 2.9)])
def test_relevances_of_a_transformer_keep_what_matrices_gave_alone(outputs, times, monkeypatch):
    """Norms, activations and scores are computed again for each walk: to the last bit the same.

    Scores of so many narrow tokens are by far the widest values: a walk holds some, which autograd does not.
    """
    model, x = encoder(), torch.randn(1, 128, 64, generator=torch.Generator().manual_seed(1))
    converter = Converter(model, input_dim=(128, 64))
    keys = {"rule_name": "attnlrp", "output_idx": range(outputs), "verbose": False}
    monkeypatch.setattr(walk, "CACHE_BYTES", (1, 1))
    kept = run_lrp(converter, x, **keys).result[0][0]
    monkeypatch.setattr(walk, "LARGE_BYTES", 2**18)
    found = run_lrp(converter, x, **keys).result[0][0]
    assert torch.equal(found, kept)
    ours = peak(lambda: run_lrp(converter, x, **keys))
    assert ours <= times * peak(lambda: autograd(model, x, 1))


def test_a_path_of_a_transformer_takes_what_one_gradient_takes(monkeypatch):
    """The passes that only look at outputs keep nothing."""
    model, x = encoder(), torch.randn(1, 128, 64, generator=torch.Generator().manual_seed(1))
    converter = Converter(model, input_dim=(128, 64))
    monkeypatch.setattr(walk, "LARGE_BYTES", 2**18)
    monkeypatch.setattr(walk, "CACHE_BYTES", (1, 1))
    one, path = (peak(lambda f=f: f()) for f in (
        lambda: run_grad(converter, x, output_idx=[0], verbose=False),
        lambda: run_intgrad(converter, x, n=5, output_idx=[0], verbose=False),
    ))  # fmt: skip
    assert path <= 1.15 * one


def test_deeplift_passes_rows_and_their_reference_at_once(monkeypatch):
    """And walks back once: the reference is not passed again for its values, its goal, or a check."""
    converter, done = Converter(blocks(), input_dim=(3, 64, 64)), passes(monkeypatch)
    run_deeplift(converter, images(1, 64), output_idx=[0], verbose=False)
    assert sorted(done) == ["backward", "trace"]
    run_deeplift(converter, images(1, 64), output_idx=[0], verbose=False, batch_size=1)
    assert sorted(done[2:]) == ["backward", "trace", "trace"]
