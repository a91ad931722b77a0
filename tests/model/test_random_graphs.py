"""Laws that hold for every model: checked on random graphs of all layer types, drawn by hypothesis.

A graph has one or two inputs (tables, signals, images), branches that fan out and meet again in sums and
concatenations (also of a value with itself), and one or two outputs, one of which may feed other layers. Hypothesis
draws the structure; weights and data are normal draws, so that nothing is equal or 0 by accident, but a dead ReLU or
padding still makes exact zeros. Everything is in double precision unless it says otherwise.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rules_of_r import rule_for
from torch.nn import functional as F  # noqa: N812

import innsight_py
from innsight_py import Converter, run_deeplift, run_grad, run_lrp
from innsight_py.methods.base import InterpretingMethod

# Few steps and winner-takes-all are quick and R's default: that sums are then not exact is tested in test_residual.py.
# LRP divides by preactivations, and one that is drawn near 0 is no fault of a graph: the alarm has tests of its own.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*They cancel, and mean little:UserWarning"),
]

WITH_WEIGHT = ("Dense", "Conv1D", "Conv2D")
ELEMENTWISE = ("linear", "relu", "leaky_relu", "tanh", "sigmoid", "softplus", "elu", "gelu")
OPTIONS = {"verbose": False, "dtype": "double"}


def examples(number: int) -> settings:
    return settings(
        max_examples=number, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much], deadline=None
    )


# -- the strategy ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kinds:
    """What a graph may be made of; each law leaves out what mathematics makes an exception of.

    Attributes
    ----------
    bias : bool
        Biases, the shift of a batch normalisation, and padding with constants, also with zeros.
    inner_softmax : bool
        A softmax of its own inside the graph.
    attached_softmax : bool
        A softmax as the activation of a dense or convolution layer inside the graph.
    last : tuple of str
        Activations of the output layers.
    """

    bias: bool = True
    inner_softmax: bool = False
    attached_softmax: bool = False
    last: tuple[str, ...] = ("linear", "sigmoid", "softmax", "relu", "tanh")


class Graph:
    """A drawn model with data and four rows of references, channels first."""

    def __init__(self, spec: dict, data: list[np.ndarray], references: list[np.ndarray], seed: int) -> None:
        self.spec, self.data, self.references, self.seed = spec, data, references, seed
        self.converter = Converter(spec, dtype="double")

    @property
    def x_ref(self) -> list[np.ndarray]:
        """The first of the references."""
        return [x[:1] for x in self.references]

    @property
    def nodes(self) -> list[list[int]]:
        """All nodes of all outputs."""
        return [list(range(dim[0])) for dim in self.converter.output_dim]

    def __repr__(self) -> str:  # what hypothesis shows of a failing example
        layers = [{k: v for k, v in layer.items() if not isinstance(v, np.ndarray)} for layer in self.spec["layers"]]
        lines = "\n  ".join(map(str, layers))
        return f"Graph({self.spec['input_dim']}, seed={self.seed}, outputs={self.spec['outputs']}\n  {lines})"


class _Builder:
    """Adds layers that fit to a growing graph."""

    def __init__(self, draw, kinds: Kinds, rng: np.random.Generator) -> None:
        self.draw, self.kinds, self.rng = draw, kinds, rng
        self.layers: list[dict] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.taken: set[str] = set()

    def choose(self, *options):
        return self.draw(st.sampled_from(options))

    def add(self, kind: str, inputs: list[str], shape: tuple[int, ...], **keys) -> str:
        name = f"{kind}_{len(self.layers) + 1}"
        self.layers.append({"type": kind, "name": name, "inputs": inputs, **keys})
        self.shapes[name] = shape
        self.taken.update(inputs)
        return name

    def normal(self, *shape):
        return self.rng.standard_normal(shape)

    def activation(self) -> str:
        return self.choose(*ELEMENTWISE, *(("softmax",) if self.kinds.attached_softmax else ()))

    def biased(self, out: int) -> dict:
        return {"bias": 0.3 * self.normal(out)} if self.kinds.bias else {}

    # -- one method a layer type: takes the name of a value and adds the layer ----------------------------------

    def dense(self, source: str, out: int | None = None, activation: str | None = None) -> str:
        (size,) = self.shapes[source]
        out = out or self.draw(st.integers(1, 4))
        return self.add(
            "Dense", [source], (out,), weight=self.normal(out, size) / np.sqrt(size), **self.biased(out),
            activation_name=activation or self.activation(),
        )  # fmt: skip

    def convolution(self, source: str) -> str:
        channels, *size = self.shapes[source]
        out, axes = self.draw(st.integers(1, 3)), len(size)
        padding = [self.draw(st.integers(0, 2)) for _ in range(2 * axes)]
        around = [padding[2 * (axes - 1 - i)] + padding[2 * (axes - 1 - i) + 1] for i in range(axes)]
        kernel = [self.draw(st.integers(1, min(3, n + p))) for n, p in zip(size, around, strict=True)]
        dilation = [
            self.draw(st.integers(1, 2 if 2 * (k - 1) < n + p else 1))
            for k, n, p in zip(kernel, size, around, strict=True)
        ]
        stride = [self.draw(st.integers(1, 2)) for _ in size]
        shape = [
            (n + p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(size, around, dilation, kernel, stride, strict=True)
        ]
        weight = self.normal(out, channels, *kernel) / np.sqrt(channels * np.prod(kernel))
        return self.add(
            f"Conv{axes}D", [source], (out, *shape), weight=weight, **self.biased(out), stride=stride,
            dilation=dilation, padding=padding, activation_name=self.activation(),
        )  # fmt: skip

    def pooling(self, source: str) -> str:
        channels, *size = self.shapes[source]
        kernel = [self.draw(st.integers(1, min(3, n))) for n in size]
        strides = [self.draw(st.integers(1, 2)) for _ in size]
        shape = [(n - k) // s + 1 for n, k, s in zip(size, kernel, strides, strict=True)]
        kind = self.choose("AveragePooling", "MaxPooling")
        return self.add(f"{kind}{len(size)}D", [source], (channels, *shape), kernel_size=kernel, strides=strides)

    def global_pooling(self, source: str) -> str:
        channels, *size = self.shapes[source]
        keepdims = self.draw(st.booleans())
        shape = (channels, *[1] * len(size)) if keepdims else (channels,)
        return self.add("GlobalPooling", [source], shape, method=self.choose("average", "max"), keepdims=keepdims)

    def normalization(self, source: str) -> str:
        n = self.shapes[source][0]
        shift = {"beta": self.normal(n), "run_mean": self.normal(n)} if self.kinds.bias else {"run_mean": np.zeros(n)}
        return self.add(
            "BatchNorm", [source], self.shapes[source], gamma=self.normal(n), run_var=self.rng.uniform(0.3, 2, n),
            eps=1e-3, **shift,
        )  # fmt: skip

    def padding(self, source: str) -> str:
        channels, *size = self.shapes[source]
        modes = ("reflect", "replicate", "circular", *(("constant",) if self.kinds.bias else ()))
        mode = self.choose(*modes)
        most = [{"reflect": min(2, n - 1), "circular": min(2, n)}.get(mode, 2) for n in reversed(size)]
        padding = [self.draw(st.integers(0, m)) for m in most for _ in range(2)]
        shape = [n + sum(padding[2 * i : 2 * i + 2]) for i, n in enumerate(reversed(size))][::-1]
        value = float(self.choose(0.0, 0.7)) if mode == "constant" else 0.0
        return self.add("Padding", [source], (channels, *shape), padding=padding, mode=mode, value=value)

    def flatten(self, source: str) -> str:
        shape = (int(np.prod(self.shapes[source])),)
        return self.add("Flatten", [source], shape, order=self.choose("channels_first", "channels_last"))

    def stand_alone(self, source: str) -> str:
        names = (*ELEMENTWISE, *(("softmax", "log_softmax") if self.kinds.inner_softmax else ()))
        return self.add("Activation", [source], self.shapes[source], act_name=self.choose(*names))

    def skip(self, source: str) -> str:
        return self.add("Skipping", [source], self.shapes[source])

    def sum(self, source: str) -> str:
        partners = [name for name, shape in self.shapes.items() if shape == self.shapes[source]]
        others = self.draw(st.lists(st.sampled_from(partners), min_size=1, max_size=2))
        return self.add("Add", [source, *others], self.shapes[source])

    def concatenation(self, source: str) -> str:
        shape = self.shapes[source]
        axis = self.draw(st.integers(0, len(shape) - 1))
        partners = [
            name
            for name, other in self.shapes.items()
            if len(other) == len(shape)
            and all(a == b for i, (a, b) in enumerate(zip(other, shape, strict=True)) if i != axis)
        ]
        other = self.draw(st.sampled_from(partners))
        inputs = [source, other] if self.draw(st.booleans()) else [other, source]
        merged = tuple(n + (self.shapes[other][axis] if i == axis else 0) for i, n in enumerate(shape))
        written = self.choose(axis + 1, axis - len(shape))
        return self.add("Concatenate", inputs, merged, axis=written)

    def grow(self) -> None:
        """Add one layer to a value, rather to one that is still of no use."""
        loose = [name for name in self.shapes if name not in self.taken]
        source = self.draw(st.sampled_from(loose if loose and self.draw(st.booleans()) else list(self.shapes)))
        everywhere = (self.normalization, self.stand_alone, self.skip, self.sum, self.concatenation)
        if len(self.shapes[source]) == 1:
            step = self.choose(self.dense, self.dense, *everywhere)
        else:
            spatial = (self.convolution, self.pooling, self.pooling, self.padding)
            step = self.choose(*spatial, *spatial, *everywhere, self.global_pooling, self.flatten)
        step(source)

    def flat(self, source: str) -> str:
        return source if len(self.shapes[source]) == 1 else self.flatten(source)

    def finish(self) -> list[str]:
        """Bring all loose ends together in a first output, and maybe make a second one."""
        loose = [self.flat(name) for name in list(self.shapes) if name not in self.taken]
        trunk = loose[0]
        if len(loose) > 1:
            shape = (sum(self.shapes[name][0] for name in loose),)
            trunk = self.add("Concatenate", loose, shape, axis=1)
        inner = [layer["name"] for layer in self.layers if len(self.shapes[layer["name"]]) == 1]
        outputs = [self.dense(trunk, activation=self.choose(*self.kinds.last))]
        second = self.choose("none", "none", "new", "inner")
        if second == "inner" and inner:  # an output that feeds others
            outputs.append(self.draw(st.sampled_from(inner)))
        elif second != "none":
            source = self.flat(self.draw(st.sampled_from(list(self.shapes))))
            outputs.append(self.dense(source, activation=self.choose(*self.kinds.last)))
            if self.draw(st.booleans()):
                outputs[-1] = self.skip(outputs[-1])
        return outputs[::-1] if self.draw(st.booleans()) else outputs


@st.composite
def graphs(draw, kinds: Kinds = Kinds(), rows: int = 3) -> Graph:
    seed = draw(st.integers(0, 2**20))
    rng = np.random.default_rng(seed)
    builder = _Builder(draw, kinds, rng)
    ranges = {"table": [(1, 5)], "signal": [(1, 2), (2, 6)], "image": [(1, 2), (2, 4), (2, 4)]}
    kinds_of_input = draw(
        st.lists(st.sampled_from(("signal", "image", "signal", "image", "table")), min_size=1, max_size=2)
    )
    dims = [tuple(draw(st.integers(*ends)) for ends in ranges[kind]) for kind in kinds_of_input]
    for i, dim in enumerate(dims):
        builder.shapes[f"input_{i + 1}"] = dim
    for _ in range(draw(st.integers(2, 9))):
        builder.grow()
    outputs = builder.finish()
    spec = {"input_dim": dims, "layers": builder.layers, "outputs": outputs}
    return Graph(
        spec, [rng.standard_normal((rows, *d)) for d in dims], [rng.standard_normal((4, *d)) for d in dims], seed
    )


# -- helpers -----------------------------------------------------------------------------------------------------


def explain(graph: Graph, method: str, data=None, **keys) -> InterpretingMethod:
    """Run a method on all nodes of all outputs, with a seed and references where it takes them."""
    keys = OPTIONS | {"output_idx": graph.nodes} | keys
    channels_first = keys.get("channels_first", True)
    if method in ("DeepLift", "IntegratedGradient"):
        keys["x_ref"] = layout(graph.x_ref, channels_first)
    if method in ("DeepSHAP", "ExpectedGradient"):
        keys["data_ref"] = layout(graph.references, channels_first)
    return getattr(innsight_py, method)(graph.converter, graph.data if data is None else data, **keys)


def layout(arrays: list[np.ndarray], channels_first: bool) -> list[np.ndarray]:
    return arrays if channels_first else [np.moveaxis(x, 1, -1) if x.ndim > 2 else x for x in arrays]


def pairs(method: InterpretingMethod) -> list[torch.Tensor | None]:
    return [x for row in method.result for x in row]


def assert_near(found: InterpretingMethod, expected: InterpretingMethod, tolerance: float, whole: bool = False) -> None:
    """Compare the results of two calls, relative to the largest value of an instance and a node, or of all of them."""
    for ours, theirs in zip(pairs(found), pairs(expected), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.shape == theirs.shape
            assert torch.isfinite(ours).all()
            over = tuple(range(theirs.dim() if whole else theirs.dim() - 1))[0 if whole else 1 :]
            scale = theirs.double().abs().amax(over, keepdim=True)
            error = (ours.double() - theirs.double()).abs()
            assert bool((error <= tolerance * scale).all()), float((error / scale).nan_to_num().max())


def sums(method: InterpretingMethod, i: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum what all inputs get from output layer i, ``(B, K)``, and the sizes of it."""
    parts = [x.flatten(1, -2) for x in method.result[i] if x is not None]
    return sum(x.sum(1) for x in parts), sum(x.abs().sum(1) for x in parts)


def assert_sums_to_goal(method: InterpretingMethod, tolerance: float) -> None:
    for i, goal in enumerate(method.decomp_goal):
        total, size = sums(method, i)
        # Values are of the order of 1, and what comes to one feature along several paths may cancel, too.
        assert bool(((total - goal).abs() <= tolerance * (size + goal.abs()) + 1e-12).all()), (total, goal)


def without_last_activation(graph: Graph, output: int) -> dict:
    """Return the graph's spec with a linear activation at an output, found through identities."""
    spec = copy.deepcopy(graph.spec)
    layers = {layer["name"]: layer for layer in spec["layers"]}
    layer = layers[spec["outputs"][output]]
    while layer["type"] == "Skipping" and layer["inputs"][0] in layers:
        layer = layers[layer["inputs"][0]]
    if layer["type"] in WITH_WEIGHT:
        layer["activation_name"] = "linear"
    return spec


# -- DeepLift: summation to delta --------------------------------------------------------------------------------


def softmax_moves_what_stands_still(graph: Graph) -> bool:
    """Whether an attached softmax changes a node whose own preactivation does not differ from the reference.

    Rescale has nothing to divide that change by, and no rule that works node by node can hand it down. (In a
    convolution a softmax runs along the last axis, where the windows of a dead ReLU may all be 0.)
    """
    model = graph.converter.model
    at, ref = (model.trace([torch.tensor(x) for x in xs]) for xs in (graph.data, graph.x_ref))
    for layer in graph.spec["layers"]:
        if layer.get("activation_name") == "softmax":
            name = layer["name"]
            still = (at[name].preactivation - ref[name].preactivation).abs() <= 1e-12
            if bool((still & (at[name].output != ref[name].output)).any()):
                return True
    return False


@examples(200)
@given(graphs(Kinds(inner_softmax=True, attached_softmax=True)), st.booleans())
def test_rescale_sums_to_the_difference(graph, ignore_last_act):
    assume(not softmax_moves_what_stands_still(graph))
    method = run_deeplift(
        graph.converter, graph.data, x_ref=graph.x_ref, winner_takes_all=False, ignore_last_act=ignore_last_act,
        output_idx=graph.nodes, **OPTIONS,
    )  # fmt: skip
    assert_sums_to_goal(method, 1e-9)


@examples(200)
@given(graphs(Kinds(inner_softmax=True, last=ELEMENTWISE)), st.booleans())
def test_reveal_cancel_sums_to_the_difference(graph, ignore_last_act):
    # Without a softmax attached to a layer: it moves nodes whose positive (or negative) part is 0, and that effect is
    # lost, as in R.
    method = run_deeplift(
        graph.converter, graph.data, x_ref=graph.x_ref, winner_takes_all=False, rule_name="reveal_cancel",
        ignore_last_act=ignore_last_act, output_idx=graph.nodes, **OPTIONS,
    )  # fmt: skip
    assert_sums_to_goal(method, 1e-9)


# -- gradient ----------------------------------------------------------------------------------------------------


@examples(200)
@given(graphs(Kinds(inner_softmax=True, attached_softmax=True)), st.booleans())
def test_gradient_is_autograds(graph, ignore_last_act):
    method = run_grad(graph.converter, graph.data, ignore_last_act=ignore_last_act, output_idx=graph.nodes, **OPTIONS)
    for i, nodes in enumerate(graph.nodes):
        spec = without_last_activation(graph, i) if ignore_last_act else graph.spec
        inputs = [torch.tensor(x, requires_grad=True) for x in graph.data]
        value = Converter(spec, dtype="double").model(*inputs)[i]
        torch.testing.assert_close(method.decomp_goal[i], value.detach(), rtol=1e-12, atol=1e-12)
        for k in nodes:
            expected = torch.autograd.grad(value[:, k].sum(), inputs, retain_graph=True, allow_unused=True)
            for found, theirs in zip(method.result[i], expected, strict=True):
                assert (found is None) == (theirs is None)
                if found is not None:
                    atol = 1e-11 * max(1.0, float(theirs.abs().max()))
                    torch.testing.assert_close(found[..., k], theirs, rtol=0, atol=atol)


# -- LRP: conservation -------------------------------------------------------------------------------------------


def relevance_is_lost(graph: Graph, ignore_last_act: bool, winner_takes_all: bool) -> bool:
    """Whether a layer gets relevance for an output that is 0, or next to 0 beside its terms.

    Shares of 0 are not defined; the stabiliser keeps them finite and relevance is lost. A ReLU that is dead gets no
    relevance from a weighted layer, but a share of a sum or a global mean, say, comes to it all the same.
    """
    model = graph.converter.model
    trace = model.trace([torch.tensor(x) for x in graph.data])
    layers = {layer["name"]: layer for layer in graph.spec["layers"]}
    lost = False

    def shared(layer, name: str) -> torch.Tensor | None:
        record, spec = trace[name], layers[name]
        (x, *_), kind = record.inputs, spec["type"]
        if kind in (*WITH_WEIGHT, "BatchNorm", "AveragePooling1D", "AveragePooling2D"):
            return record.preactivation
        if winner_takes_all or not (kind.startswith("MaxPooling") or spec.get("method") == "max"):
            return None
        kernel = spec.get("kernel_size", x.shape[2:])
        mean = (F.avg_pool1d if x.dim() == 3 else F.avg_pool2d)(x, kernel, spec.get("strides"))
        return mean.reshape(record.output.shape)

    def step(layer, upper, name, skip_activation):
        nonlocal lost
        values = shared(layer, name)
        if values is not None:
            scale = max(float(x.abs().max()) for x in trace[name].inputs)
            lost |= bool(((values.abs() <= 1e-6 * scale) & (upper != 0).any(0)).any())
        return layer.lrp(
            upper, trace[name], rule_for(layer, "simple", None, winner_takes_all), is_output=name == what.node
        )

    for i in range(len(graph.nodes)):
        what = model.explained(i, ignore_last_act)
        value = trace.explained(what)
        model.backward(what, torch.diag_embed(value).movedim(1, 0), step)
    return lost


@examples(200)
@given(graphs(Kinds(bias=False)), st.booleans(), st.booleans())
def test_lrp_conserves(graph, ignore_last_act, winner_takes_all):
    # Without anything that has a part of its own in an output: biases, shifts, padding with constants. (Zeros as
    # padding are not harmless either: a maximum, or a share of a global mean, may go to them.)
    assume(not relevance_is_lost(graph, ignore_last_act, winner_takes_all))
    method = run_lrp(
        graph.converter, graph.data, winner_takes_all=winner_takes_all, ignore_last_act=ignore_last_act,
        output_idx=graph.nodes, **OPTIONS,
    )  # fmt: skip
    assert_sums_to_goal(method, 1e-8)


# -- what must not matter ----------------------------------------------------------------------------------------

#: Every method, with each of its rules, and few steps.
CALLS = {
    "Gradient": ("Gradient", {}),
    "Gradient x Input": ("Gradient", {"times_input": True}),
    "SmoothGrad": ("SmoothGrad", {"n": 5, "seed": 3}),
    "SmoothGrad x Input": ("SmoothGrad", {"n": 5, "seed": 3, "times_input": True}),
    "IntegratedGradient": ("IntegratedGradient", {"n": 5}),
    "ExpectedGradient": ("ExpectedGradient", {"n": 5, "seed": 3}),
    "DeepLift": ("DeepLift", {}),
    "DeepLift, mean": ("DeepLift", {"winner_takes_all": False}),
    "DeepLift, reveal-cancel": ("DeepLift", {"rule_name": "reveal_cancel"}),
    "DeepSHAP": ("DeepSHAP", {}),
    "DeepSHAP, drawn": ("DeepSHAP", {"limit_ref": 2, "seed": 3}),
    "LRP": ("LRP", {}),
    "LRP, epsilon": ("LRP", {"rule_name": "epsilon", "winner_takes_all": False}),
    "LRP, alpha-beta": ("LRP", {"rule_name": "alpha_beta", "rule_param": 2}),
    "ConnectionWeights": ("ConnectionWeights", {"times_input": True}),
}
#: The noise of SmoothGrad depends on the range of the whole batch, and each row has draws of its own, from one stream
#: for all. So it is with the draws of ExpectedGradient.
DETERMINISTIC = [name for name in CALLS if not name.startswith(("SmoothGrad", "Expected"))]


@pytest.mark.parametrize("name", DETERMINISTIC)
@examples(25)
@given(graph=graphs())
def test_a_row_does_not_see_its_batch_mates(name, graph):
    method, keys = CALLS[name]
    together = explain(graph, method, **keys)
    for row in range(3):
        alone = explain(graph, method, [x[row : row + 1] for x in graph.data], **keys)
        for whole, single in zip(pairs(together), pairs(alone), strict=True):
            assert (whole is None) == (single is None)
            if whole is not None:
                scale = float(single.abs().max())
                torch.testing.assert_close(whole[row : row + 1], single, rtol=0, atol=1e-8 * scale)


@pytest.mark.parametrize("name", CALLS)
@examples(25)
@given(graph=graphs())
def test_layouts_agree(name, graph):
    method, keys = CALLS[name]
    first = explain(graph, method, **keys)
    last = explain(graph, method, layout(graph.data, False), channels_first=False, **keys)
    for ours, theirs in zip(pairs(first), pairs(last), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            theirs = theirs if theirs.dim() < 4 else theirs.movedim(-2, 1)
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", CALLS)
@examples(25)
@given(graph=graphs())
def test_chunks_do_not_matter(name, graph):
    method, keys = CALLS[name]
    default = explain(graph, method, **keys)
    for batch_size in (1, 2, 7):
        chunked = explain(graph, method, batch_size=batch_size, **keys)
        assert_near(chunked, default, 1e-8)
        for field_name in ("preds", "decomp_goal"):
            for ours, theirs in zip(
                getattr(chunked, field_name) or [], getattr(default, field_name) or [], strict=True
            ):
                torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def saturates(graph: Graph) -> bool:
    """Whether an activation is so far out that its change is next to nothing beside its value."""
    model = graph.converter.model
    traces = [model.trace([torch.tensor(x) for x in xs]) for xs in (graph.data, graph.x_ref)]
    bent = [
        x["name"] for x in graph.spec["layers"] if x.get("activation_name", x.get("act_name", "linear")) != "linear"
    ]
    return any(float(trace[name].preactivation.abs().max()) > 5 for trace in traces for name in bent)


@pytest.mark.parametrize(
    ("method", "keys"), [("Gradient", {}), ("DeepLift", {}), ("LRP", {"rule_name": "epsilon", "rule_param": 0.1})]
)
@examples(100)
@given(graph=graphs())
def test_precisions_agree(method, keys, graph):
    assume(not saturates(graph))
    single = explain(graph, method, **keys, dtype="float")
    double = explain(graph, method, **keys)
    assert all(x is None or x.dtype == torch.float32 for x in pairs(single))
    # Single precision has 7 digits. A flat piece of a tanh, whose derivative is 1 less something close to it, or a
    # small difference that a multiplier divides by, leaves 3 of them, and all paths may lead through it.
    assert_near(single, double, 1e-2, whole=True)
