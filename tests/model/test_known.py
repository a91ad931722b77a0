"""The same module again is a look-up, and never a stale answer: each change is made, and the answer must be new."""

from __future__ import annotations

import gc
import warnings

import pytest
import torch
from torch import nn

import innsight_py as ip
from innsight_py.converters.torch.state import key_of
from innsight_py.model import building

FACTOR = 2.0
PARTS = {0: nn.Tanh()}


def doubled(x):
    return x * FACTOR


class Model(nn.Module):
    """A module with one of each kind of state."""

    scale = 1.0

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4))
        self.last = nn.Linear(4, 2)
        self.flag = True
        self.settings = {"shift": [0.5, 1.5]}
        self.register_buffer("offset", torch.ones(2))

    def way(self, x):
        return x.tanh() if self.flag else x.sigmoid()

    def forward(self, x):
        y = self.last(self.inner(x)) + self.offset + self.settings["shift"][0]
        return PARTS[0](self.way(doubled(y)) * self.scale)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model().eval()


@pytest.fixture
def conversions(monkeypatch):
    """Count the conversions that were done."""
    done = []
    read = building.read_model
    monkeypatch.setattr(building, "read_model", lambda *args: done.append(args[0]) or read(*args))
    return done


def answer(converter):
    x = torch.linspace(-1.0, 1.0, 6).reshape(2, 3)
    return ip.run_grad(converter, x, times_input=True).get_result("array")


def test_the_same_module_is_looked_up(model, conversions):
    first = ip.Converter(model, input_dim=(3,))
    second = ip.Converter(model, input_dim=(3,), input_names=["a", "b", "c"])
    assert len(conversions) == 1
    assert second.model is not first.model  # each has its own, which may go to another device
    assert second.input_names == [[["a", "b", "c"]]]
    assert second.layer_names == first.layer_names
    assert (answer(first) == answer(second)).all()


def test_arguments_are_other_questions(model, conversions):
    first = ip.Converter(model, input_dim=(3,))
    others = [
        ip.Converter(model, input_dim=(3,), dtype="double"),
        ip.Converter(model, input_dim=(3,), custom_backward="own"),
        ip.Converter(model, input_dim=(3,), output=lambda y: y[:, :1]),
        ip.Converter(model, example=torch.zeros(1, 3)),
    ]
    assert len(conversions) == 1 + len(others)
    assert first.output_dim == [(2,)]


def test_an_equal_module_is_another_one(model, conversions):
    first = ip.Converter(model, input_dim=(3,))
    torch.manual_seed(0)
    second = ip.Converter(Model().eval(), input_dim=(3,))
    assert len(conversions) == 2
    assert (answer(first) == answer(second)).all()


def test_a_graph_that_was_changed_is_not_taken(model, conversions):
    first = ip.Converter(model, input_dim=(3,))
    first.model.layer("last").weight.mul_(2.0)
    second = ip.Converter(model, input_dim=(3,))
    assert len(conversions) == 2
    with torch.no_grad():
        x = torch.linspace(-1.0, 1.0, 6).reshape(2, 3)
        assert torch.allclose(second.model(x)[0], model(x), atol=1e-6)


def test_nothing_is_kept_that_nobody_holds(model, conversions):
    ip.Converter(model, input_dim=(3,))
    gc.collect()
    ip.Converter(model, input_dim=(3,))
    assert len(conversions) == 2


def _weight(model, monkeypatch):
    with torch.no_grad():
        model.last.weight.mul_(2.0)


def _data_of_a_weight(model, monkeypatch):
    model.last.weight.data.mul_(2.0)  # leaves no trace in the number of versions


def _shared_memory(model, monkeypatch):
    model.last.weight.detach().numpy()[:] *= 2.0


def _buffer(model, monkeypatch):
    model.offset += 1.0


def _statistics(model, monkeypatch):
    model.inner[2].running_var *= 4.0


def _other_parameter(model, monkeypatch):
    model.last.bias = nn.Parameter(model.last.bias.detach() + 1.0)


def _flag(model, monkeypatch):
    model.flag = not model.flag


def _nested_setting(model, monkeypatch):
    model.settings["shift"][0] = -2.0


def _attribute_of_the_class(model, monkeypatch):
    monkeypatch.setattr(Model, "scale", 3.0)


def _method(model, monkeypatch):
    monkeypatch.setattr(Model, "way", lambda self, x: x.sin())


def _method_of_the_instance(model, monkeypatch):
    model.forward = lambda x: x.sum(1, keepdim=True).expand(-1, 2)


def _global(model, monkeypatch):
    monkeypatch.setitem(globals(), "FACTOR", -1.0)


def _function(model, monkeypatch):
    monkeypatch.setitem(globals(), "doubled", lambda x: x * 7.0)


def _part_outside(model, monkeypatch):
    monkeypatch.setitem(PARTS, 0, nn.Sigmoid())


def _other_part(model, monkeypatch):
    model.inner[1] = nn.Tanh()


def _epsilon(model, monkeypatch):
    model.inner[2].eps = 1.0


def _hook(model, monkeypatch):
    model.inner[1].register_forward_hook(lambda module, inputs, output: output * 2.0)


def _class_of_torch(model, monkeypatch):
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: x.tanh())


def _function_of_torch(model, monkeypatch):
    monkeypatch.setattr(nn.functional, "relu", lambda x, inplace=False: x.tanh())


def _class_of_the_part(model, monkeypatch):
    model.inner[1].__class__ = nn.Tanh


CHANGES = [
    _weight, _data_of_a_weight, _shared_memory, _buffer, _statistics, _other_parameter, _flag, _nested_setting,
    _attribute_of_the_class, _method, _method_of_the_instance, _global, _function, _part_outside, _other_part, _epsilon,
    _hook, _class_of_torch, _function_of_torch, _class_of_the_part,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_converted_again(model, monkeypatch, conversions, change):
    first = ip.Converter(model, input_dim=(3,))
    before = answer(first)
    change(model, monkeypatch)
    second = ip.Converter(model, input_dim=(3,))
    assert len(conversions) == 2
    assert not (answer(second) == before).all()
    with torch.no_grad():
        x = torch.linspace(-1.0, 1.0, 6).reshape(2, 3)
        assert torch.allclose(second.model(x)[0], model(x), atol=1e-6)


def test_a_change_that_was_undone_is_looked_up(model, conversions):
    first = ip.Converter(model, input_dim=(3,))
    model.flag = False
    second = ip.Converter(model, input_dim=(3,))
    model.flag = True
    third = ip.Converter(model, input_dim=(3,))
    assert len(conversions) == 2
    assert (answer(third) == answer(first)).all()
    assert not (answer(second) == answer(first)).all()


class Hidden(nn.Module):
    """A module whose forward pass looks where nothing can be read."""

    def __init__(self, way, state=None):
        super().__init__()
        self.state = state
        self.way = way

    def forward(self, x):
        return self.way(x)


class Box:
    factor = 2.0


BOX = Box()


def _from_an_object(x):
    return x * BOX.factor


def _from_a_setting(x):
    return x * 2.0 if torch.get_default_dtype() == torch.float32 else x


def _from_hidden_globals(x):
    return x * globals()["FACTOR"]


def _from_an_import(x):
    import math

    return x * math.pi


@pytest.mark.parametrize("way", [_from_an_object, _from_a_setting, _from_hidden_globals, _from_an_import])
def test_what_cannot_be_read_is_converted_each_time(conversions, way):
    module = Hidden(way)
    assert key_of(module) is None
    kept = [ip.Converter(module, input_dim=(2,)) for _ in range(2)]
    assert len(conversions) == len(kept)


def test_an_object_of_a_class_of_ones_own_has_no_key():
    assert key_of(Hidden(doubled, Box())) is None
    assert key_of(Hidden(doubled)) is not None


def test_closures_count():
    def times(factor):
        return lambda x: x * factor

    assert key_of(Hidden(times(2.0))) != key_of(Hidden(times(3.0)))
    assert key_of(Hidden(times(1))) != key_of(Hidden(times(True)))


def test_it_warns_each_time(conversions):
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    for _ in range(2):
        with pytest.warns(UserWarning, match="training mode"):
            ip.Converter(module, input_dim=(2,))
    assert len(conversions) == 2


def test_hooks_on_everything_and_modes_have_no_key(model):
    hook = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: output)
    try:
        assert key_of(model) is None
    finally:
        hook.remove()
    with torch.device("cpu"):
        assert key_of(model) is None
    assert key_of(model) is not None


def test_no_more_than_a_few_are_known(conversions):
    modules = [nn.Linear(2, 1) for _ in range(10)]
    kept = [ip.Converter(module, input_dim=(2,)) for module in modules]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept.append(ip.Converter(modules[0], input_dim=(2,)))
    assert len(conversions) == len(kept)
