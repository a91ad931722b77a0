"""LSTM, GRU and plain recurrent layers of torch: one loop, equal to one layer for each operator of each step."""

from __future__ import annotations

import pytest
import torch
from recurrent_loops import Loops
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from innsight_py import Converter, rules, run_cw, run_deeplift, run_grad, run_lrp
from innsight_py.layers.recurrent import Recurrent

STEPS, FEATURES = 5, 3


class Net(nn.Module):
    """A recurrent layer, and what is read of it."""

    def __init__(self, inner: nn.Module, read: str) -> None:
        super().__init__()
        self.inner, self.read = inner, read

    def forward(self, x: Tensor) -> Tensor:
        if self.read.endswith("time first"):
            x = x.transpose(0, 1)
        out, states = self.inner(x)
        states = states if isinstance(states, tuple) else (states,)
        flat = [state.transpose(0, 1).flatten(1) for state in states]
        if self.read.startswith("sequence"):
            return out.mean(0 if "time" in self.read else 1)
        return torch.cat([out[:, -1], *flat], 1) if self.read == "all" else flat[0] if self.read == "state" else flat[1]


def module(kind: str, **options) -> nn.RNNBase:
    torch.manual_seed(3)
    made = getattr(nn, kind)(FEATURES, 4, **{"batch_first": True, **options}).double()
    with torch.no_grad():
        for p in made.parameters():
            p.mul_(1.5)
    return made


def pair(kind: str, read: str, **options) -> tuple[Converter, Converter]:
    """Return the conversion of a module, and that of the same one written as a loop."""
    made = module(kind, **options)
    return tuple(
        Converter(Net(inner, read), input_dim=(STEPS, FEATURES), dtype="double") for inner in (made, Loops(made))
    )


def rows(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, STEPS, FEATURES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same(found, expected) -> None:
    for mine, other in zip(found.result[0], expected.result[0], strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12 * float(other.abs().max()))


def loops(converter: Converter) -> list[Recurrent]:
    model = converter.model_in("double")
    return [layer for node in model.nodes if isinstance(layer := model.layer(node.name), Recurrent)]


CASES = {
    "LSTM": ("LSTM", "all", {}),
    "LSTM, cells alone": ("LSTM", "cells", {}),
    "LSTM, both ways, two layers": ("LSTM", "all", {"num_layers": 2, "bidirectional": True}),
    "LSTM, projected": ("LSTM", "all", {"proj_size": 2}),
    "LSTM, no biases, time first": ("LSTM", "sequence, time first", {"bias": False, "batch_first": False}),
    "GRU": ("GRU", "state", {}),
    "GRU, both ways": ("GRU", "sequence", {"bidirectional": True}),
    "GRU, no biases, two layers": ("GRU", "all", {"bias": False, "num_layers": 2}),
    "tanh": ("RNN", "all", {}),
    "relu, both ways": ("RNN", "sequence", {"nonlinearity": "relu", "bidirectional": True}),
}
RULES = {
    **{name: name for name in ("simple", "epsilon", "alpha_beta", "gamma", "z_plus", "w_square", "flat")},
    **{name: name for name in ("epsilon_plus", "attnlrp", "cp_lrp", "excitation_backprop")},
    "sums in proportion": [("sum", rules.proportional()), ("dense", rules.epsilon(0.01))],
    "derivatives of gates": [("activation", rules.gradient())],
    "gates are constants": [("activation", rules.block())],
    "biases share": [("dense", rules.epsilon(0.1, bias="share")), ("scale", rules.pass_())],
    "no biases": [("dense", rules.gamma(0.2, bias="zero"))],
    "first": [("first", rules.flat()), ("dense", rules.epsilon(0.1))],
    "first in a box": [("first dense", rules.z_box(-5.0, 5.0)), ("dense", rules.epsilon(0.1))],
    "by name": [("inner", rules.epsilon(0.1))],
}
_PAIRS: dict[str, tuple[Converter, Converter]] = {}


@pytest.fixture(params=CASES)
def both(request) -> tuple[Converter, Converter]:
    kind, read, options = CASES[request.param]
    if request.param not in _PAIRS:
        _PAIRS[request.param] = pair(kind, read, **options)
    return _PAIRS[request.param]


def test_the_loop_is_one_layer_a_direction(both):
    loop, steps = both
    assert len(loops(loop)) in (1, 2, 4)
    assert not loops(steps)


def test_outputs_and_gradients(both):
    loop, steps = both
    x = rows(3)
    torch.testing.assert_close(loop.model_in("double")(x), steps.model_in("double")(x), rtol=0, atol=1e-13)
    same(run_grad(loop, x, dtype="double"), run_grad(steps, x, dtype="double"))


@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
def test_deeplift(both, rule, references):
    same(*(run_deeplift(c, rows(3), x_ref=rows(references, 1), rule_name=rule, dtype="double") for c in both))


@pytest.mark.filterwarnings("ignore")  # relevances that explode do so in both
@pytest.mark.parametrize("rule", RULES)
def test_lrp(both, rule):
    found = []
    for converter in both:
        try:
            found.append(run_lrp(converter, rows(3), rule_name=RULES[rule], dtype="double", output_idx=[0, 1, 2]))
        except ValueError as error:
            found.append(error)
    if isinstance(found[1], ValueError):
        assert "cannot use the rule" in str(found[0])
    else:
        same(*found)
        said = [{loss for loss in it.losses if "of the layer" not in loss} for it in found]
        assert said[0] == said[1]


def test_connection_weights():
    loop, steps = pair("RNN", "all", num_layers=2)
    same(run_cw(loop, dtype="double"), run_cw(steps, dtype="double"))
    for converter in pair("LSTM", "all"):
        with pytest.raises(NotImplementedError, match="ConnectionWeights has no rule for Multiply_Layer"):
            run_cw(converter)


def test_gradients_are_those_of_autograd():
    net = Net(module("LSTM", num_layers=2, bidirectional=True, proj_size=2), "all")
    x = rows(3).requires_grad_()
    y = net(x)
    expected = torch.stack([torch.autograd.grad(y[:, k].sum(), x, retain_graph=True)[0] for k in range(y.shape[1])], -1)
    converter = Converter(net, input_dim=(STEPS, FEATURES), dtype="double")
    found = run_grad(converter, x.detach(), dtype="double", output_idx=list(range(y.shape[1]))).result[0][0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


class Started(nn.Module):
    """A recurrent layer whose first states are data, or constants."""

    def __init__(self, inner: nn.Module, given: str) -> None:
        super().__init__()
        self.inner, self.given = inner, given
        self.register_buffer("h", torch.linspace(-1, 1, 4).double().reshape(1, 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        data = x[:, 0, :1].expand(-1, 4).unsqueeze(0) * torch.arange(1.0, 5.0, dtype=x.dtype)
        constant = self.h.expand(1, len(x), 4)
        hidden, cell = (data if it == "data" else constant for it in self.given.split(", "))
        inner = self.inner.module if isinstance(self.inner, Loops) else self.inner
        out, _ = self.inner(x[:, 1:], (hidden, 2 * cell) if inner.mode == "LSTM" else hidden)
        return out[:, -1]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("given", ["data, data", "data, constant", "constant, data", "constant, constant"])
def test_first_states(kind, given):
    made = module(kind)
    loop, steps = (
        Converter(Started(inner, given), input_dim=(STEPS, FEATURES), dtype="double") for inner in (made, Loops(made))
    )
    assert len(loops(loop)) == 1
    x = rows(3)
    same(run_grad(loop, x, dtype="double"), run_grad(steps, x, dtype="double"))
    same(*(run_deeplift(c, x, x_ref=rows(1, 1), dtype="double") for c in (loop, steps)))
    for rule in ("epsilon", "z_plus", "cp_lrp", [("activation", rules.block())]):
        same(*(run_lrp(c, x, rule_name=rule, dtype="double") for c in (loop, steps)))


class Patches(nn.Module):
    """Cuts a series into pieces, which become rows of an LSTM."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out, (h, c) = self.inner(x.reshape(-1, 2, FEATURES))
        both = torch.cat([out[:, 0], h[-1], c[0]], 1)
        return both.reshape(len(x), -1)


def test_rows_that_are_folded():
    made = module("LSTM", bidirectional=True)
    x, reference = (torch.cat([rows(3, seed), rows(3, seed + 1)[:, :1]], 1) for seed in (0, 2))
    loop, steps = (Converter(Patches(inner), input_dim=(6, FEATURES), dtype="double") for inner in (made, Loops(made)))
    assert len(loops(loop)) == 2
    same(*(run_grad(c, x, dtype="double") for c in (loop, steps)))
    same(*(run_deeplift(c, x, x_ref=reference, dtype="double") for c in (loop, steps)))
    same(*(run_lrp(c, x, rule_name="alpha_beta", dtype="double") for c in (loop, steps)))


class StartedPatches(nn.Module):
    """Cuts a series into pieces, each with constant first states of its own."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("h", torch.linspace(-1, 1, 12).double().reshape(1, 3, 4))

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.inner(x.reshape(-1, 2, FEATURES), self.h.repeat(1, len(x), 1))
        return out[:, -1].reshape(len(x), -1)


@pytest.mark.parametrize("kind", ["GRU", "RNN"])
def test_constant_states_of_rows_that_are_folded(kind):
    made, x = module(kind), torch.cat([rows(3), rows(3, 1)[:, :1]], 1)
    loop, steps = (
        Converter(StartedPatches(inner), input_dim=(6, FEATURES), dtype="double") for inner in (made, Loops(made))
    )
    assert len(loops(loop)) == 1
    same(*(run_grad(c, x, dtype="double") for c in (loop, steps)))
    same(*(run_lrp(c, x, rule_name="epsilon", dtype="double") for c in (loop, steps)))


def test_one_step_alone():
    for kind in ("LSTM", "GRU"):
        made = module(kind)
        loop, steps = (Converter(Net(it, "all"), input_dim=(1, FEATURES), dtype="double") for it in (made, Loops(made)))
        x = rows(3)[:, :1]
        same(*(run_deeplift(c, x, dtype="double") for c in (loop, steps)))
        same(*(run_lrp(c, x, rule_name="epsilon", dtype="double") for c in (loop, steps)))


def test_rows_do_not_depend_on_others_or_on_chunks():
    converter, _ = pair("LSTM", "all", num_layers=2)
    x = rows(4)
    whole = run_deeplift(converter, x, dtype="double")
    small = run_deeplift(converter, x, dtype="double", batch_size=1)
    torch.testing.assert_close(small.result[0][0], whole.result[0][0], rtol=0, atol=1e-14)
    one = run_lrp(converter, x[2:3], rule_name="epsilon", dtype="double").result[0][0]
    torch.testing.assert_close(
        one, run_lrp(converter, x, rule_name="epsilon", dtype="double").result[0][0][2:3], rtol=0, atol=1e-13
    )


def test_attributions_at_the_layer():
    made = module("GRU")
    loop, steps = (
        Converter(Net(it, "sequence"), input_dim=(STEPS, FEATURES), dtype="double") for it in (made, Loops(made))
    )
    assert "inner[0]" in loop.layer_names
    x = rows(2)
    found = run_deeplift(loop, x, layer="inner[0]", dtype="double")
    assert found.result[0][0].shape[:3] == (2, STEPS, 4)
    total = found.result[0][0].sum((1, 2))
    torch.testing.assert_close(total, run_deeplift(steps, x, dtype="double").result[0][0].sum((1, 2)))
    neuron = run_grad(loop, x, neuron=("inner[0]", (STEPS - 1, 0)), dtype="double")
    y = made(leaf := x.clone().requires_grad_())[0][:, -1, 0].sum()
    torch.testing.assert_close(neuron.result[0][0][..., 0], torch.autograd.grad(y, leaf)[0])


def test_a_rule_by_name_and_what_is_shown():
    converter, _ = pair("RNN", "all")
    with pytest.raises(ValueError, match="cannot use the rule 'epsilon'"):
        run_lrp(pair("LSTM", "all")[0], rows(1), rule_name=[("inner", rules.epsilon(0.1))])
    chosen = [("inner", rules.epsilon(0.1)), ("sum", rules.equal())]
    with pytest.raises(ValueError, match="Argument 'rule_name': the model has no layer or module 'outer'"):
        run_lrp(converter, rows(1), rule_name=[("outer", rules.epsilon(0.1))])
    shown = {(row.layer, row.rule) for row in converter.show_rules(chosen)}
    assert any(rule.startswith("epsilon(0.1") for _, rule in shown)
    assert {row.kind for row in converter.show_rules("epsilon")} >= {"Recurrent_Layer: Dense_Layer"}


def test_saved_and_loaded(tmp_path):
    converter, _ = pair("LSTM", "all", num_layers=2, bidirectional=True, proj_size=2)
    x = rows(2)
    expected = run_lrp(converter, x, rule_name="epsilon", dtype="double").result[0][0]
    converter.save(tmp_path / "model.safetensors")
    again = Converter(tmp_path / "model.safetensors", dtype="double")
    assert len(loops(again)) == 4
    assert torch.equal(run_lrp(again, x, rule_name="epsilon", dtype="double").result[0][0], expected)


@pytest.mark.filterwarnings("ignore:The tensor attributes")  # torch.export's own
def test_a_file_of_torch_export(tmp_path):
    net = Net(module("GRU", num_layers=2), "all").eval()
    torch.export.save(torch.export.export(net, (rows(1),)), tmp_path / "model.pt2")
    converter = Converter(tmp_path / "model.pt2", dtype="double")
    assert len(loops(converter)) == 2
    x = rows(2)
    same(run_grad(converter, x, dtype="double"), run_grad(pair("GRU", "all", num_layers=2)[1], x, dtype="double"))


class Apart(nn.Module):
    """Calls the operator, in half precision or in the module's own."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.inner = how, module("RNN").float()

    def forward(self, x: Tensor) -> Tensor:
        weights, h = self.inner._flat_weights, x.new_zeros(1, len(x), 4)
        if self.how == "half precision":
            x, h, weights = x.bfloat16(), h.bfloat16(), [w.bfloat16() for w in weights]
        out, _ = torch.rnn_tanh(x, h, weights, True, 1, 0.0, False, False, True)
        return out[:, -1].float()


@pytest.mark.parametrize(("how", "count"), [("own precision", 1), ("half precision", 0)])
def test_what_is_taken_apart_step_by_step(how, count):
    converter = Converter(Apart(how), input_dim=(2, FEATURES))
    assert len(loops(converter)) == count


# -- how much work it is -----------------------------------------------------------------------------------------------


class Count(TorchDispatchMode):
    """Counts the calls of operators."""

    calls = 0
    sums = 0  # of these the products with a matrix to which something is added

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        self.sums += func.overloadpacket is torch.ops.aten.addmm
        return func(*args, **(kwargs or {}))


def converted(steps: int, kind: str = "LSTM") -> Converter:
    return Converter(Net(module(kind, bidirectional=True), "sequence"), input_dim=(steps, FEATURES), dtype="double")


def test_no_layers_for_more_steps():
    short, long = converted(4), converted(40)
    assert [type(layer) for layer in long.model.layers] == [type(layer) for layer in short.model.layers]
    assert long.model.sizes.weights == short.model.sizes.weights


#: Operators that a step of an LSTM (whose cells are shown) and of a GRU takes forward, and back by each method.
#: DeepLift takes the reference forward with the rows.
FORWARD = {"LSTM": 7, "GRU": 6}
BACK = {"gradient": {"LSTM": 5, "GRU": 3}, "deeplift": {"LSTM": 5, "GRU": 3}, "lrp": {"LSTM": 6, "GRU": 4}}
#: What a whole call takes besides, at most, for the two directions together.
ONCE = {"gradient": {"LSTM": 330, "GRU": 270}, "deeplift": {"LSTM": 510, "GRU": 420}, "lrp": {"LSTM": 470, "GRU": 450}}


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("method", ["gradient", "deeplift", "lrp"])
def test_work_grows_in_proportion_to_the_steps(method, kind):
    run = {
        "gradient": lambda c, x: run_grad(c, x, dtype="double"),
        "deeplift": lambda c, x: run_deeplift(c, x, dtype="double"),
        "lrp": lambda c, x: run_lrp(c, x, rule_name="epsilon", rule_param=1.0, dtype="double"),
    }[method]
    calls = []
    for steps in (40, 60, 80):
        converter, x = converted(steps, kind), torch.randn(2, steps, FEATURES).double()
        run(converter, x)
        with Count() as count:
            run(converter, x)
        calls.append(count.calls)
    assert calls[2] - calls[1] == calls[1] - calls[0]
    assert calls[1] - calls[0] == 20 * 2 * (FORWARD[kind] + BACK[method][kind])
    assert calls[0] - 2 * (calls[1] - calls[0]) <= ONCE[method][kind]


class Last(nn.Module):
    """Reads the last step alone, or all of them."""

    def __init__(self, inner: nn.Module, whole: bool) -> None:
        super().__init__()
        self.inner, self.whole = inner, whole

    def forward(self, x: Tensor) -> Tensor:
        out = self.inner(x)[0]
        return out.flatten(1) if self.whole else out[:, -1]


@pytest.mark.parametrize(("kind", "back"), [("LSTM", 4), ("GRU", 3), ("RNN", 2)])
def test_where_the_last_step_alone_is_read_nothing_is_added_from_above(kind, back):
    """Both ways give the same, and what comes to the other steps is not added up."""
    made, x = module(kind), rows(3)
    last, whole = (Converter(Last(made, it), input_dim=(STEPS, FEATURES), dtype="double") for it in (False, True))
    nodes = list(range((STEPS - 1) * 4, STEPS * 4))
    for run in (run_grad, run_deeplift):
        found, expected = run(last, x, dtype="double"), run(whole, x, dtype="double", output_idx=nodes)
        torch.testing.assert_close(found.result[0][0], expected.result[0][0], rtol=0, atol=1e-14)
    calls = []
    for steps in (40, 60):
        converter = Converter(Last(made, False), input_dim=(steps, FEATURES), dtype="double")
        data = torch.randn(2, steps, FEATURES).double()
        run_grad(converter, data, dtype="double")
        with Count() as count:
            run_grad(converter, data, dtype="double")
        calls.append((count.calls, count.sums))
    assert calls[1][0] - calls[0][0] == 20 * ({"LSTM": 7, "GRU": 6, "RNN": 2}[kind] + back)
    assert calls[1][1] - calls[0][1] == 20  # forward alone


def test_a_pass_alone_keeps_no_more_than_the_states():
    """What only a walk back looks at is kept by a pass that is followed by one."""
    (layer,) = loops(Converter(Net(module("LSTM"), "cells"), input_dim=(STEPS, FEATURES), dtype="double"))
    x = torch.randn(2, STEPS, 16).double()
    assert layer._run([x]).keys() == {"hidden", "cell"}
    assert {name for name in ("gates", "shown") if layer.record(x).given(name) is not None} == {"gates", "shown"}
