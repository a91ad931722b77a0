"""LSTM, GRU and RNN of ONNX files: one loop a direction, equal to layers for each step, and to ONNX's own evaluator."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")

import onnx
import onnx_models as om
from onnx import helper
from onnx.reference import ReferenceEvaluator

from innsight_py import Converter, rules, run_deeplift, run_grad, run_lrp
from innsight_py.converters.onnx import door, recurrent
from innsight_py.converters.onnx.preparing import prepared
from innsight_py.layers.recurrent import Recurrent

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
WAYS = {"forward": 1, "reverse": 1, "bidirectional": 2}


class Drawn:
    """Draws the constants of a graph, and writes its nodes."""

    def __init__(self, kind, steps=4, features=3, hidden=2):
        self.kind, self.steps, self.features, self.hidden = kind, steps, features, hidden
        self.random = np.random.default_rng(5)
        self.nodes, self.constants = [], {}

    def drawn(self, name, *shape):
        self.constants[name] = self.random.normal(size=shape)
        return name

    def layer(self, x, results, direction="forward", bias=True, states=(), features=None, name="it", **keys):
        """Write a node; `states` are names of its first states."""
        ways, n, features = WAYS[direction], GATES[self.kind] * self.hidden, features or self.features
        given = [x, self.drawn(f"{name}_w", ways, n, features), self.drawn(f"{name}_r", ways, n, self.hidden)]
        given.append(self.drawn(f"{name}_b", ways, 2 * n) if bias else "")
        self.nodes.append(
            helper.make_node(
                self.kind, [*given, "", *states], results, name=name, hidden_size=self.hidden, direction=direction,
                **keys,
            )
        )  # fmt: skip

    def node(self, operator, inputs, result, **keys):
        self.nodes.append(helper.make_node(operator, inputs, [result], **keys))
        return result

    def turned(self, x="x"):
        """Put the steps before the rows."""
        return self.node("Transpose", [x], f"{x}_turned", perm=[1, 0, 2])

    def model(self, out, opset=22):
        self.node("Flatten", [out], "flat", axis=1)
        shape = ["N", self.steps, self.features]
        return om.graph(
            self.nodes, {"x": shape}, {"flat": None}, self.constants, opset, kind=onnx.TensorProto.DOUBLE, ir_version=10
        )


def sequence(kind, opset=22, direction="forward", layout=0, steps=4, hidden=2, bias=True, **keys):
    """Read all states of a layer, rows first."""
    it = Drawn(kind, steps, hidden=hidden)
    if layout:
        it.layer("x", ["y"], direction, bias, layout=1, **keys)
        return it.model("y", opset)
    it.layer(it.turned(), ["y"], direction, bias, **keys)
    return it.model(it.node("Transpose", ["y"], "ordered", perm=[2, 0, 1, 3]), opset)


def last(kind, which, direction="forward", layout=0, opset=22):
    """Read the last states, or the last cells alone."""
    it = Drawn(kind)
    results = [*["", "", ""][:which], "end"]
    it.layer("x" if layout else it.turned(), results, direction, **({"layout": 1} if layout else {}))
    end = "end" if layout else it.node("Transpose", ["end"], "rows_first", perm=[1, 0, 2])
    return it.model(end, opset)


def stacked(kind, direction="bidirectional"):
    """Put two layers behind each other, as PyTorch's exporter does: the directions become features."""
    it, ways = Drawn(kind), WAYS[direction]
    it.layer(it.turned(), ["y"], direction)
    it.constants["shape"] = np.array([0, 0, -1])
    joined = it.node("Transpose", ["y"], "by_row", perm=[0, 2, 1, 3])
    it.layer(
        it.node("Reshape", [joined, "shape"], "features"), ["y2"], direction, features=ways * it.hidden, name="second"
    )
    return it.model(it.node("Transpose", ["y2"], "rows_first", perm=[2, 0, 1, 3]))


def squeezed(kind):
    """Take the axis of directions away, and the last step."""
    it = Drawn(kind)
    it.layer(it.turned(), ["y"])
    it.constants |= {"one": np.array([1]), "last": np.array(-1)}
    it.node("Squeeze", ["y", "one"], "squeezed")
    return it.model(it.node("Gather", ["squeezed", "last"], "end", axis=0))


def started(kind, computed=("hidden",), layout=0):
    """Start from states that are computed from the data, and from constants."""
    it, states = Drawn(kind), []
    x = "x" if layout else it.turned()
    for name in ("hidden", "cell") if kind == "LSTM" else ("hidden",):
        it.drawn(f"{name}_0", 1, 1, it.hidden)
        if name in computed:
            it.drawn(f"to_{name}", it.features, it.hidden)
            it.constants |= {f"{name}_at": np.array([2])}
            step = it.node("Gather", [x, f"{name}_at"], f"{name}_step", axis=1 if layout else 0)
            states.append(it.node("MatMul", [step, f"to_{name}"], f"{name}_given"))
        else:
            it.constants[f"{name}_rows"] = np.array([1, 1, 1])
            states.append(it.node("Expand", [f"{name}_0", f"{name}_rows"], f"{name}_given"))
    it.layer(x, ["", "end"], states=states, **({"layout": 1} if layout else {}))
    return it.model("end" if layout else it.node("Transpose", ["end"], "rows_first", perm=[1, 0, 2]))


CASES = {
    **{f"{kind}, {way}": (lambda k=kind, w=way: sequence(k, direction=w)) for kind in GATES for way in WAYS},
    **{f"{kind}, rows first": (lambda k=kind: sequence(k, direction="bidirectional", layout=1)) for kind in GATES},
    **{f"{kind}, stacked": (lambda k=kind: stacked(k)) for kind in GATES},
    **{f"{kind}, squeezed": (lambda k=kind: squeezed(k)) for kind in GATES},
    **{f"{kind}, state alone": (lambda k=kind: last(k, 1, "bidirectional")) for kind in GATES},
    **{f"{kind}, no biases": (lambda k=kind: sequence(k, bias=False, direction="reverse")) for kind in GATES},
    **{f"{kind}, one step": (lambda k=kind: sequence(k, steps=1, direction="bidirectional")) for kind in GATES},
    **{f"{kind}, one unit": (lambda k=kind: sequence(k, hidden=1)) for kind in GATES},
    **{f"{kind}, first state computed": (lambda k=kind: started(k)) for kind in GATES},
    "LSTM, cells alone": lambda: last("LSTM", 2, "bidirectional"),
    "LSTM, cells alone, rows first": lambda: last("LSTM", 2, layout=1),
    "LSTM, cell computed": lambda: started("LSTM", ("cell",)),
    "LSTM, both computed, rows first": lambda: started("LSTM", ("hidden", "cell"), 1),
    "GRU, product first": lambda: sequence("GRU", linear_before_reset=1, direction="bidirectional"),
    "GRU, product first, stacked states": lambda: sequence("GRU", linear_before_reset=1, layout=1),
    "LSTM, names in small letters": lambda: sequence("LSTM", activations=["sigmoid", "tanh", "tanh"]),
}
#: ONNX's own evaluator knows no other functions than the standard ones.
UNKNOWN = {
    "RNN, relu": lambda: sequence("RNN", activations=["Relu"]),
    "RNN, of two kinds": lambda: sequence("RNN", activations=["Tanh", "Relu"], direction="bidirectional"),
}
CONSTANT = {f"{kind}, first states constant": (lambda k=kind: started(k, ())) for kind in GATES}
_MADE: dict[str, tuple] = {}


@pytest.fixture(params=[*CASES, *UNKNOWN])
def made(request, monkeypatch):
    """Return the graph, its conversion, and the conversion step by step."""
    name = request.param
    if name not in _MADE:
        _MADE[name] = both((CASES | UNKNOWN)[name](), monkeypatch, uncompared if name in UNKNOWN else converted)
    return _MADE[name]


def converted(model):
    return Converter(model, dtype="double")


def uncompared(model):
    return Converter(door.read(prepared(model), None).spec, dtype="double")


def both(model, monkeypatch, convert=converted):
    loop = convert(model)
    with monkeypatch.context() as patch:
        patch.setattr(recurrent._Recurrence, "_cell", lambda self, it: None)
        return model, loop, convert(model)


def loops(converter):
    return [layer for layer in converter.model_in("double").layers if isinstance(layer, Recurrent)]


def rows(converter, n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *converter.input_dim[0]))


def same(a, b):
    for mine, other in zip(a.result[0], b.result[0], strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12 * float(other.abs().max()))


def test_loops(made):
    _, loop, steps = made
    assert len(loops(loop)) in (1, 2, 4)
    assert not loops(steps)
    x = torch.from_numpy(rows(loop, 3))
    outputs = [c.model_in("double")(x)[0] for c in (loop, steps)]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("made", CASES, indirect=True)
def test_outputs_are_those_of_onnx(made):
    model, loop, _ = made
    for n in (1, 3):
        x = rows(loop, n)
        expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
        found = loop.model_in("double")(torch.from_numpy(x))[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


def test_attributions(made):
    _, loop, steps = made
    x = rows(loop, 3)
    keys = {"dtype": "double", "channels_first": True}
    same(*(run_grad(c, x, **keys) for c in (loop, steps)))
    for rule in ("rescale", "reveal_cancel"):
        same(*(run_deeplift(c, x, x_ref=rows(loop, 1, 1), rule_name=rule, **keys) for c in (loop, steps)))


RULES = {
    **{name: name for name in ("simple", "epsilon", "alpha_beta", "z_plus", "flat", "attnlrp", "cp_lrp")},
    "biases share": [("dense", rules.epsilon(0.1, bias="share")), ("scale", rules.pass_())],
    "sums in proportion": [("sum", rules.proportional()), ("dense", rules.epsilon(0.01))],
}


@pytest.mark.filterwarnings("ignore")  # relevances that explode do so in both
@pytest.mark.parametrize("rule", RULES)
def test_lrp(made, rule):
    _, loop, steps = made
    x = rows(loop, 2)
    same(*(run_lrp(c, x, rule_name=RULES[rule], dtype="double", channels_first=True) for c in (loop, steps)))


@pytest.mark.parametrize("name", CONSTANT)
def test_first_states_that_are_constants(name, monkeypatch):
    model, loop, steps = both(CONSTANT[name](), monkeypatch)
    assert len(loops(loop)) == 1
    x = rows(loop, 1)
    expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    np.testing.assert_allclose(loop.model_in("double")(torch.from_numpy(x))[0], expected, rtol=0, atol=1e-13)
    same(*(run_deeplift(c, x, dtype="double") for c in (loop, steps)))
    for rule in ("epsilon", "z_plus", "cp_lrp"):
        same(*(run_lrp(c, x, rule_name=rule, dtype="double") for c in (loop, steps)))


@pytest.mark.parametrize("opset", [7, 14, 21])
@pytest.mark.parametrize("kind", GATES)
def test_opsets(kind, opset):
    new, old = (Converter(sequence(kind, version, "bidirectional"), dtype="double") for version in (22, opset))
    assert len(loops(old)) == 2
    x = torch.from_numpy(rows(new, 2))
    assert torch.equal(old.model_in("double")(x)[0], new.model_in("double")(x)[0])


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("LSTM", {"clip": 0.5}),
        ("LSTM", {"input_forget": 1}),
        ("LSTM", {"activations": ["HardSigmoid", "Tanh", "Tanh"]}),
        ("GRU", {"clip": 0.5}),
        ("GRU", {"activations": ["Sigmoid", "Relu"]}),
        ("RNN", {"activations": ["Softsign"]}),
        ("RNN", {"activations": ["Tanh", "Affine"], "direction": "bidirectional"}),
    ],
)
def test_what_no_loop_stands_for(kind, keys):
    assert not loops(uncompared(sequence(kind, **keys)))


def test_no_layers_for_more_steps():
    short, long = (Converter(sequence("GRU", steps=steps, direction="bidirectional")) for steps in (3, 40))
    assert [type(layer) for layer in long.model.layers] == [type(layer) for layer in short.model.layers]


def test_saved_and_loaded(tmp_path):
    converter = Converter(sequence("GRU", direction="bidirectional"), dtype="double")
    x = rows(converter, 2)
    converter.save(tmp_path / "model.safetensors")
    again = Converter(tmp_path / "model.safetensors", dtype="double")
    assert len(loops(again)) == 2
    same(*(run_lrp(c, x, rule_name="epsilon", dtype="double") for c in (again, converter)))
