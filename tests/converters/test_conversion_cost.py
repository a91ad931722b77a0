"""What a conversion does, counted: one export, so many passes of the original and of the graph, so much memory."""

from __future__ import annotations

import pytest
import torch
from peaks import MIB, peak
from torch import nn

from innsight_py import Converter
from innsight_py.model import original
from innsight_py.model.converted import ConvertedModel

passes: list[tuple[int, torch.dtype, bool]] = []


def note(x: torch.Tensor) -> None:
    """Remember how many rows come, in which precision, and whether a gradient is wanted; not what traces."""
    if type(x) is torch.Tensor:
        passes.append((len(x), x.dtype, x.requires_grad))


class Net(nn.Module):
    """Convolutions, a normalisation and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        note(x)
        y = self.norm(self.conv(x)).relu().flatten(2).transpose(1, 2)
        return self.last(self.attention(y, y, y)[0].mean(1))


@pytest.fixture
def counted(monkeypatch):
    """Count exports, and the rows that go through graphs."""
    torch.manual_seed(0)
    passes.clear()
    seen: dict[str, list[object]] = {"export": [], "rows": [], "traced": []}
    export, forward, trace = torch.export.export, ConvertedModel.forward, ConvertedModel.trace
    monkeypatch.setattr(torch.export, "export", lambda *a, **k: seen["export"].append(1) or export(*a, **k))
    monkeypatch.setattr(
        ConvertedModel, "forward", lambda self, *x: seen["rows"].append((len(x[0]), x[0].dtype)) or forward(self, *x)
    )
    monkeypatch.setattr(
        ConvertedModel, "trace", lambda self, x, *a: seen["traced"].append(len(x[0])) or trace(self, x, *a)
    )
    return seen


def convert() -> None:
    Converter(Net().eval(), input_dim=(3, 6, 6))


def test_a_small_model(counted):
    """One export; five rows and one gradient of each, in double precision."""
    convert()
    assert counted == {"export": [1], "rows": [(5, torch.float64)], "traced": [1]}
    assert passes == [(5, torch.float64, False), (1, torch.float64, True)]


def test_a_heavy_model(counted, monkeypatch):
    """Two ordinary rows are enough to see that rows do not depend on each other, beside those far out."""
    monkeypatch.setattr(original, "HEAVY_MODEL", 100)
    convert()
    assert counted == {"export": [1], "rows": [(4, torch.float64)], "traced": [1]}
    assert passes == [(4, torch.float64, False), (1, torch.float64, True)]


def test_a_large_model(counted, monkeypatch):
    """Single precision is the precision of its weights."""
    monkeypatch.setattr(original, "HEAVY_MODEL", 100)
    monkeypatch.setattr(original, "LARGE_MODEL", 100)
    convert()
    assert counted == {"export": [1], "rows": [(4, torch.float32)], "traced": [1]}
    assert passes == [(4, torch.float32, False), (1, torch.float32, True)]


def test_the_same_model_again(counted):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    first = Converter(net, input_dim=(3,))
    before = {name: list(found) for name, found in counted.items()}
    again = Converter(net, input_dim=(3,))
    assert counted == before
    assert again.model.layer("0").weight.data_ptr() == first.model.layer("0").weight.data_ptr()


@pytest.mark.parametrize("heavy", [False, True])
def test_what_is_wrong_is_still_found(heavy, monkeypatch):
    """Rows that depend on each other, and what happens far out alone."""
    monkeypatch.setattr(original, "HEAVY_MODEL", 0 if heavy else 10**9)

    class Together(nn.Module):
        def forward(self, x):
            return x - x.mean(0, keepdim=True)

    with pytest.raises(ValueError, match="depends on the others"):
        Converter(Together(), input_dim=(3,))

    correct = ConvertedModel.forward
    monkeypatch.setattr(ConvertedModel, "forward", lambda self, *x: [y.clamp(-90, 90) for y in correct(self, *x)])
    with pytest.raises(ValueError, match="not the original's"):
        Converter(nn.Sequential(nn.Linear(3, 2), nn.Identity()).eval(), input_dim=(3,))


@pytest.mark.parametrize(("large", "most"), [(False, 6.2), (True, 2.2)])
def test_copies_of_weights(large, most, monkeypatch):
    """One is kept, and one lives as long as the original is run; both have one more in double precision meanwhile."""
    monkeypatch.setattr(original, "LARGE_MODEL", 0 if large else 10**9)
    net = nn.Sequential(nn.Linear(1000, 2000), nn.ReLU(), nn.Linear(2000, 1000), nn.ReLU(), nn.Linear(1000, 3)).eval()
    weights = sum(p.numel() * p.element_size() for p in net.parameters())
    assert weights > 15 * MIB
    found = peak(lambda: Converter(net, input_dim=(1000,)))
    assert found / weights < most
