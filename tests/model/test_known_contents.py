"""Large weights are compared with the copies that a conversion made of them: no change is missed, and none is kept."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import nn

import innsight_py as ip
from innsight_py.converters.torch import contents
from innsight_py.converters.torch.contents import Contents
from innsight_py.model import building


@pytest.fixture(autouse=True)
def _all_are_large(monkeypatch):
    monkeypatch.setattr(contents, "LARGE", 1)


def numbers() -> torch.Tensor:
    x = torch.arange(1.0, 22.0).reshape(7, 3)  # an odd number: the last four bytes are no word of eight
    x[2, 0], x[2, 1] = 0.0, float("nan")
    return x


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.data.view(torch.int32)


def _sum_that_stays(x):
    bits(x)[0, 0] += 1
    bits(x)[0, 2] -= 1


CHANGES = {
    "first bit": lambda x: bits(x)[0, 0].bitwise_xor_(1),
    "last number": lambda x: bits(x)[-1, -1].bitwise_xor_(1),
    "sign": lambda x: x.data[1].neg_(),
    "sign of zero": lambda x: x.data[2, 0].neg_(),
    "payload of NaN": lambda x: bits(x)[2, 1].bitwise_xor_(1),
    "rows": lambda x: x.data.copy_(x.data.flip(0)),
    "array": lambda x: x.numpy().__imul__(2.0),
    "in place": lambda x: x.mul_(2.0),
    "sum that stays": _sum_that_stays,
}


def settled(x: torch.Tensor, copies: list[torch.Tensor]) -> object:
    asked = Contents()
    content = asked.of(x)
    assert asked.settle(copies)
    return content


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", ["copy", "no copy", "its own memory", "other layout"])
def test_no_change_is_missed(way, change):
    x = numbers()
    copies = {"copy": [x.clone()], "no copy": [], "its own memory": [x.detach()], "other layout": [x.T.clone().T]}[way]
    known, before = settled(x, copies), x.clone()
    assert known == Contents().of(x)
    CHANGES[change](x)
    assert known != Contents().of(x)
    x.data.copy_(before)
    assert known == Contents().of(x)


def test_what_a_conversion_made_may_change_as_well():
    x = numbers()
    copy = x.clone()
    known = settled(x, [copy])
    copy.data.add_(1.0)
    assert known != Contents().of(x)
    del copy
    assert known != Contents().of(x)


@pytest.mark.parametrize("change", [name for name in CHANGES if name != "sum that stays"])
def test_what_changed_in_the_middle_is_not_remembered(change):
    x = numbers()
    asked = Contents()
    asked.of(x)
    if change == "rows":  # that is in no sum, but counts as a change
        x.copy_(x.flip(0))
    else:
        CHANGES[change](x)
    assert not asked.settle([])


def test_two_looks_at_a_tensor_are_never_the_same():
    x = numbers()
    assert Contents().of(x) != Contents().of(x)


def test_no_tensor_of_the_module_is_kept():
    x = numbers()
    copies, gone = [x.clone()], weakref.ref(x)
    known = settled(x, copies)
    del x
    assert gone() is None
    assert known == Contents().of(copies[0].clone())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(("begin", "other_begin"), [(0, 1), (1, 0), (1, 1), (1, 3)])
def test_parts_of_other_tensors_begin_anywhere(begin, other_begin, dtype):
    """A weight may be a part of a larger tensor, and begin where no word of eight bytes does."""
    torch.manual_seed(2)
    x, copy = (torch.zeros(2**17 + 4, dtype=dtype)[start : start + 2**17 + 1] for start in (begin, other_begin))
    copy.copy_(x.copy_(torch.randn(2**17 + 1)))
    known = settled(x, [copy])
    assert known == Contents().of(x)
    x[-1] += 1
    assert known != Contents().of(x)


# -- conversions -------------------------------------------------------------------------------------------------


def module() -> nn.Module:
    torch.manual_seed(0)
    parts = [nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2)]
    return nn.Sequential(*parts).eval()


@pytest.mark.parametrize("part", [0, 3, 5])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_converted_again_once_for_each_change(part, name, monkeypatch):
    done = []
    read = building.read_model
    monkeypatch.setattr(building, "read_model", lambda *args: done.append(args[0]) or read(*args))
    model = module()
    kept = [ip.Converter(model, input_dim=(2, 4, 4)) for _ in range(3)]
    assert len(done) == 1
    weight = getattr(model[part], name).data
    weight.neg_()
    kept += [ip.Converter(model, input_dim=(2, 4, 4)) for _ in range(2)]
    assert len(done) == 2
    with torch.no_grad():
        assert torch.allclose(kept[-1].model(x := torch.randn(3, 2, 4, 4))[0], model(x), atol=1e-6)
    weight.neg_()
    kept.append(ip.Converter(model, input_dim=(2, 4, 4)))
    assert len(done) == 2


def test_weights_that_a_conversion_copied_are_not_hashed(monkeypatch):
    hashed = []
    monkeypatch.setattr(contents, "digest", lambda x, digest=contents.digest: hashed.append(x.shape) or digest(x))
    model = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 2))
    kept = [ip.Converter(model, input_dim=(4,)) for _ in range(2)]
    assert not hashed
    assert kept[0].model is not kept[1].model
