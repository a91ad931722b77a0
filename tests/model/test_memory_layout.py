"""Images lie in memory as oneDNN is quickest with them, and the answers are those of any other layout."""

from __future__ import annotations

import pytest
import torch
from method_calls import CALLS, REFERENCES
from torch import nn

import innsight_py
from innsight_py import Converter
from innsight_py.functions import layout
from innsight_py.functions.layout import empty_like, lay_out

pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")


class Net(nn.Module):
    """Convolutions of all kinds, poolings with overlap, gaps, padding and a cut end, a residual sum, two scales."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3, padding=1)
        self.grouped = nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=3)
        self.norm = nn.BatchNorm2d(6)
        self.overlap = nn.MaxPool2d(3, 2, 1)
        self.gaps = nn.MaxPool2d(2, 1, 0, dilation=2, ceil_mode=True)
        self.average = nn.AvgPool2d((2, 3), (2, 1), (1, 1), ceil_mode=True)
        self.up = nn.ConvTranspose2d(6, 3, 2, 2)
        self.small = nn.Conv2d(3, 4, 3, stride=4)
        self.end = nn.Linear(4 * 5 * 8, 7)

    def forward(self, x):
        y = torch.relu(self.first(x))
        y = self.overlap(y + torch.tanh(self.norm(self.grouped(y))))
        y = self.average(self.gaps(y))
        return self.end(torch.relu(self.small(self.up(y))).flatten(1))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(3)
    model = Net().eval()
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2)
    return model


def rows(n, seed=0):
    return torch.randn(n, 2, 40, 38, generator=torch.Generator().manual_seed(seed)).relu()  # zeros: ties in the windows


def test_where_channels_lie(net):
    model = Converter(net, input_dim=(2, 40, 38)).model
    trace = model.trace([rows(3)])
    images = {name: value for name, value in trace.values.items() if value.dim() == 4}
    assert len(images) >= 8
    for name, value in images.items():
        many = value.shape[2] * value.shape[3] >= 64
        assert value.is_contiguous(memory_format=torch.channels_last) == many, name
        assert value.is_contiguous() != many, name
    assert model.layer(next(n for n in images if "grouped" in n)).weight.is_contiguous(
        memory_format=torch.channels_last
    )
    double = Converter(net, input_dim=(2, 40, 38), dtype="double").model
    assert all(value.is_contiguous() for value in double.trace([rows(3).double()]).values.values())


@pytest.mark.parametrize("rows_together", [1, 3])
@pytest.mark.parametrize("name", CALLS)
def test_answers(net, name, rows_together, monkeypatch):
    """The answers are those of a model whose channels lie first."""
    method, options = CALLS[name]
    if method in REFERENCES:
        options = {**options, REFERENCES[method]: rows(1 if REFERENCES[method] == "x_ref" else 4, seed=1)}
    answers = []
    for onednn in (True, False):
        monkeypatch.setattr(layout, "_ONEDNN", onednn)
        result = getattr(innsight_py, method)(
            Converter(net, input_dim=(2, 40, 38)), data=rows(3), batch_size=rows_together, output_idx=[0, 6], **options
        )
        answers.append(result.result[0][0])
    far = (answers[0] - answers[1]).abs() > 1e-4 * answers[1].abs().max()
    # Where two values of a window, or a difference and 0, are one but for rounding, another one may win.
    assert far.double().mean() < 0.02


def test_gradients_are_those_of_autograd(net):
    x = rows(2).requires_grad_()
    expected = torch.stack([torch.autograd.grad(y, x, retain_graph=True)[0] for y in net(x).sum(0)], -1)
    found = innsight_py.run_grad(Converter(net, input_dim=(2, 40, 38)), x.detach()).result[0][0]
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(
    "shape", [(2, 3, 8, 9), (1, 3, 9, 8), (2, 1, 8, 8), (1, 1, 8, 8), (4, 2, 3, 16, 4), (1, 1, 5, 64, 1)]
)
def test_layout_is_plain_to_torch(shape):
    """Axes of length 1 have the strides that torch tells layouts by, wherever the tensor comes from."""
    wanted = torch.empty(shape[:-3] + shape[-2:] + shape[-3:-2]).movedim(-1, -3).stride()
    x = torch.randn(shape)
    for given in (
        x,
        x.movedim(-3, -1).contiguous().movedim(-1, -3),
        x[:1].expand(shape),
        x.transpose(-1, -2).contiguous().transpose(-1, -2),
    ):
        found = lay_out(given)
        assert found.stride() == wanted
        assert torch.equal(found, given)
        assert empty_like(found, (7, *shape)).shape == (7, *shape)


def test_other_layouts_are_left():
    for x in (torch.randn(2, 3, 7, 9), torch.randn(2, 3, 8, 8).double()):
        assert lay_out(x) is x
