"""How methods run, rather than what they answer: cost, threads, copies, and what they leave behind (nothing).

The cost is counted in floating point operations, which is exact and does not depend on the machine.
"""

from __future__ import annotations

import copy
import io
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from method_calls import CALLS, REFERENCES
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import innsight_py
from innsight_py import Converter, run_cw, run_deeplift, run_deepshap, run_grad, run_intgrad, run_lrp, run_smoothgrad
from innsight_py.methods.base import InterpretingMethod

# Few steps and winner-takes-all are quick and R's default: that sums are then not exact is tested in test_residual.py.
#: Weights and data are drawn; what answers mean is not looked at here.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*without it instances are compared:UserWarning"),
    pytest.mark.filterwarnings("ignore:LRP. there are relevances:UserWarning"),
]

#: Those that draw, with arguments that leave something to draw.
DRAWING = {"SmoothGrad": {"n": 3}, "ExpectedGradient": {"n": 3}, "DeepSHAP": {"limit_ref": 2}}
DTYPES = ("float", "double")
ROWS = 5


# -- models ------------------------------------------------------------------------------------------------------


def dense(rng, out: int, size: int, activation: str, **keys) -> dict:
    weight, bias = rng.standard_normal((out, size)) / np.sqrt(size), rng.standard_normal(out)
    return {"type": "Dense", "weight": weight, "bias": bias, "activation_name": activation, **keys}


def conv(rng, out: int, channels: int, kernel: tuple[int, int], **keys) -> dict:
    weight = rng.standard_normal((out, channels, *kernel)) / np.sqrt(channels * np.prod(kernel))
    return {"type": "Conv2D", "weight": weight, "bias": rng.standard_normal(out), "activation_name": "relu", **keys}


def mlp() -> dict:
    rng = np.random.default_rng(1)
    layers = [dense(rng, 16, 6, "relu"), dense(rng, 12, 16, "softplus"), dense(rng, 4, 12, "softmax")]
    return {"input_dim": [6], "layers": layers}


def cnn() -> dict:
    rng = np.random.default_rng(2)
    layers = [
        conv(rng, 4, 2, (3, 3), padding=1),
        {"type": "MaxPooling2D", "kernel_size": 2},
        conv(rng, 3, 4, (2, 3), padding=[2, 0, 1, 0], stride=(1, 2)),
        {"type": "AveragePooling2D", "kernel_size": (2, 1)},
        {"type": "BatchNorm", "gamma": [1.0, -2, 0.5], "run_mean": [0.1, 0, 2], "run_var": [1.0, 2, 3], "eps": 1e-3},
        {"type": "Flatten"},
        dense(rng, 8, 12, "tanh"),
        dense(rng, 4, 8, "sigmoid"),
    ]
    return {"input_dim": [2, 8, 9], "layers": layers}


def diamonds() -> dict:
    """Twelve sums of two branches in a row: few layers, 4096 paths."""
    rng = np.random.default_rng(3)
    layers, trunk = [], "input_1"
    for i in range(12):
        layers += [dense(rng, 6, 6, "tanh", name=f"left_{i}", inputs=[trunk])]
        layers += [{"type": "Add", "name": f"sum_{i}", "inputs": [trunk, f"left_{i}"]}]
        trunk = f"sum_{i}"
    return {"input_dim": [6], "layers": [*layers, dense(rng, 4, 6, "linear", inputs=[trunk])]}


MODELS = {"mlp": mlp, "cnn": cnn, "diamonds": diamonds}


def data(converter: Converter, rows: int = ROWS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, *converter.input_dim[0]))


def call(name: str, converter: Converter, x=None, **keys) -> InterpretingMethod:
    method, own = CALLS[name]
    keys = {"verbose": False} | own | keys
    if method in REFERENCES:
        rows = 1 if REFERENCES[method] == "x_ref" else 6
        keys.setdefault(REFERENCES[method], data(converter, rows, seed=1))
    return getattr(innsight_py, method)(converter, data(converter) if x is None else x, **keys)


def assert_same(found: InterpretingMethod, expected: InterpretingMethod) -> None:
    """Check that two calls answered the same to the last bit."""
    for ours, theirs in zip(found.result, expected.result, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)
    for name in ("preds", "decomp_goal"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert (ours is None) == (theirs is None)
        assert ours is None or all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.fixture(params=["mlp", "cnn"])
def converter(request) -> Converter:
    return Converter(MODELS[request.param]())


# -- cost --------------------------------------------------------------------------------------------------------


def row_cost(model: dict) -> tuple[int, int]:
    """Count the operations that one row takes forward: in all layers but the last, and in the last."""
    converter = Converter(model)
    costs = []
    for layer in converter.model.layers:
        weight = getattr(layer, "weight", None)
        if isinstance(weight, torch.Tensor):  # each weight is used at every position of the output
            positions = int(np.prod(layer.output_dim[1:]))
            costs.append(2 * weight.numel() * positions)
    return sum(costs[:-1]), costs[-1]


def count(run, *args, **keys) -> int:
    with FlopCounterMode(display=False) as counter:
        run(*args, verbose=False, **keys)
    return counter.get_total_flops()


@pytest.mark.parametrize("nodes", [[0], [3, 0, 1], None])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_cost(name, dtype, nodes):
    """K outputs take one forward pass, and one input gradient a layer each."""
    model = MODELS[name]()
    converter, (inner, last) = Converter(model), row_cost(model)
    x, ref, references = (data(converter, rows) for rows in (ROWS, 1, 3))
    k, forward = 4 if nodes is None else len(nodes), inner + last
    keys = {"output_idx": nodes, "dtype": dtype}
    converter.model_in(dtype)  # to build it takes a dry run
    assert count(lambda verbose: converter.model(torch.tensor(x).float())) == ROWS * forward
    # What starts the walk, and the weights of the last layer, are the same for every row.
    backward = k * (ROWS * inner + last)
    assert count(run_grad, converter, x, **keys) == ROWS * forward + backward
    assert count(run_deeplift, converter, x, x_ref=ref, **keys) == (ROWS + 1) * forward + backward
    for rule in ("simple", "epsilon"):
        assert count(run_lrp, converter, x, rule_name=rule, **keys) == ROWS * forward + k * ROWS * forward
    # With the last activation nothing is the same for every row.
    keys["ignore_last_act"] = False
    if name != "diamonds":
        assert count(run_grad, converter, x, **keys) == ROWS * forward + k * ROWS * forward
        assert count(run_deeplift, converter, x, x_ref=ref, **keys) == (ROWS + 1) * forward + k * ROWS * forward
    del keys["ignore_last_act"]
    # Connection weights need no data, and references meet rows in the backward walk only, a walk for each.
    assert count(run_cw, converter, **keys) == k * forward
    pairs = k * (ROWS * 3 * inner + 3 * last)
    assert count(run_deepshap, converter, x, data_ref=references, **keys) == (ROWS + 3) * forward + pairs
    # Points of a path or of a cloud are rows; predictions take one more pass.
    points = 7 * ROWS * forward + k * (7 * ROWS * inner + last)
    assert count(run_smoothgrad, converter, x, n=7, **keys) == ROWS * forward + points
    # Where sums are missed, one row more says whether the model jumps at the reference.
    assert count(run_intgrad, converter, x, n=7, **keys) - (ROWS + 1) * forward - points in (0, forward)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MODELS)
def test_cost_of_a_layer_and_a_neuron(name, dtype):
    """A walk to a layer costs the part above it, and so does a pass from there on; one to a neuron the part below."""
    converter = Converter(MODELS[name]())
    graph = converter.model_in(dtype)
    costs = {}
    for node in graph.nodes:
        weight = getattr(graph.layer(node.name), "weight", None)
        positions = int(np.prod(graph.layer(node.name).output_dim[1:]))
        costs[node.name] = 2 * weight.numel() * positions if isinstance(weight, torch.Tensor) else 0
    x, ref = data(converter), data(converter, 1)
    last = costs[graph.nodes[-1].name]
    layer = next(node.name for node in graph.nodes if costs[node.name])  # the first with a weight
    after, k = {layer}, 3
    for node in graph.nodes:
        if not after.isdisjoint(node.inputs):
            after.add(node.name)
    below = sum(cost for node, cost in costs.items() if node not in after - {layer})
    above = sum(cost for node, cost in costs.items() if node in after - {layer})
    keys = {"output_idx": [3, 0, 1], "dtype": dtype, "layer": layer}
    backward = k * (ROWS * (above - last) + last)
    assert count(run_grad, converter, x, **keys) == ROWS * (below + above) + backward
    assert count(run_deeplift, converter, x, x_ref=ref, **keys) == (ROWS + 1) * (below + above) + backward
    assert count(run_lrp, converter, x, **keys) == ROWS * (below + above) + k * ROWS * above
    assert count(run_cw, converter, **keys) == k * above
    if name != "diamonds":  # there something passes the layer by, and each row has a goal of its own
        path = (ROWS + 1) * (below + above) + 7 * ROWS * above + k * (7 * ROWS * (above - last) + last)
        assert count(run_intgrad, converter, x, n=7, **keys) == path
    # All layers of a list take one pass and one walk.
    names = [node.name for node in graph.nodes]
    together = count(run_lrp, converter, x, **(keys | {"layer": names[::-1]}))
    again = (below + above) * 10 if name == "diamonds" else 0  # relevances explode there, and an alarm looks into them
    assert together - again <= ROWS * (below + above) * 2 + k * ROWS * (below + above)
    if name == "mlp":
        first = costs[names[0]]
        assert count(run_grad, converter, x, neuron=(names[1], 0), dtype=dtype) == (
            2 * ROWS * first + 2 * ROWS * costs[names[1]]
        )


@pytest.mark.parametrize("name", MODELS)
def test_cost_of_the_signed_rules(name):
    """Signed parts take a handful of products, however many outputs there are; each output then takes few more."""
    model = MODELS[name]()
    converter, (inner, last) = Converter(model), row_cost(model)
    x, forward = data(converter), inner + last
    for run, keys in ((run_deeplift, {"rule_name": "reveal_cancel"}), (run_lrp, {"rule_name": "alpha_beta"})):
        costs = [count(run, converter, x, output_idx=list(range(k)), **keys) for k in (1, 2, 4)]
        assert costs[2] - costs[1] == 2 * (costs[1] - costs[0])
        assert costs[1] - costs[0] <= 4 * ROWS * forward
        assert 2 * costs[0] - costs[1] <= 5 * ROWS * forward + forward


@pytest.mark.parametrize("name", MODELS)
def test_cost_of_one_sided_rules(name):
    """A side without weight is not computed, and what does not depend on the data is computed for one row."""
    model = MODELS[name]()
    converter, (inner, last) = Converter(model), row_cost(model)
    x, forward = data(converter), inner + last

    def cost(k: int, **keys) -> int:
        return count(run_lrp, converter, x, output_idx=list(range(k)), **keys)

    for k in (1, 4):
        both = cost(k, rule_name="alpha_beta", rule_param=2)
        raising = cost(k, rule_name="alpha_beta", rule_param=1)
        assert cost(k, rule_name="z_plus") == raising < both
        assert raising <= ROWS * forward * (1 + 2 + 2 * k)
        assert cost(k, rule_name="gamma") <= ROWS * forward * (5 + 4 * k)
        if name != "diamonds":
            for rule in ("flat", "w_square"):
                assert cost(k, rule_name=rule) == (ROWS + 1) * forward + k * ROWS * forward


class Operations(TorchDispatchMode):
    """Counts the operations of torch, all but slices: an old torch makes one of `x[:]`, and they copy nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.name() != "aten::slice.Tensor":
            self.names.append(function.name())
        return function(*args, **(kwargs or {}))


def of_lrp(rule: str):
    return lambda *args, **keys: run_lrp(*args, rule_name=rule, rule_param=2.0, **keys)


#: How many operations a call may take on a perceptron of three layers: around the products, not for each row or node.
BUDGETS = {
    "gradient": (run_grad, 35),
    "deeplift": (run_deeplift, 66 if torch.__version__ >= (2, 13) else 68),
    "simple": (of_lrp("simple"), 64),
    "alpha_beta": (of_lrp("alpha_beta"), 125),
}
#: How many more may look at the sums of many rows, which of few are looked at one by one.
MORE = {"deeplift": 16}


@pytest.mark.parametrize("name", BUDGETS)
def test_operations(name):
    """Ten nodes and many rows take as many operations as one node and one row, and not many."""
    run, budget = BUDGETS[name]
    sizes = (6, 16, 16, 10)
    rng = np.random.default_rng(4)
    layers = [dense(rng, out, size, "relu") for size, out in itertools.pairwise(sizes)]
    converter = Converter({"input_dim": [6], "layers": layers})
    run(converter, rng.standard_normal((1, 6)), verbose=False)  # what is kept is made
    counts = []
    for rows, nodes in ((1, 1), (1, 10), (20, 10), (200, 10)):
        x = rng.standard_normal((rows, 6))
        with Operations() as operations:
            run(converter, x, output_idx=list(range(nodes)), verbose=False)
        counts.append(len(operations.names))
    assert counts[1] == counts[2]
    assert counts[1] <= counts[0] <= min(counts[1] + 1, budget)  # some of the nodes are taken out of what is explained
    assert max(counts) <= budget + MORE.get(name, 0)


# -- threads -----------------------------------------------------------------------------------------------------


def test_threads_share_a_converter(converter):
    """The model for the other precision is built by whoever needs it first, the rest is not shared at all."""
    jobs = list(itertools.product(CALLS, DTYPES))
    alone = {job: call(job[0], converter, dtype=job[1]) for job in jobs}
    order = [jobs[i] for i in np.random.default_rng(0).permutation(np.repeat(np.arange(len(jobs)), 6))]
    fresh = [copy.deepcopy(converter) for _ in range(4)]
    # Sums are split up differently among another number of threads.
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(call, name, fresh[i % 4], dtype=dtype) for i, (name, dtype) in enumerate(order)]
        for job, future in zip(order, futures, strict=True):
            assert_same(future.result(), alone[job])
    for c in fresh:
        assert c.model_in("double") is c.model_in("double")
        assert c.model_in("float") is c.model


# -- copies ------------------------------------------------------------------------------------------------------


def through_pickle(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301 (our own)


def through_torch(value):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = [copy.deepcopy, copy.copy, through_pickle, through_torch]


@pytest.mark.parametrize("duplicate", COPIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_copies_of_a_converter(converter, duplicate, dtype):
    expected = {name: call(name, converter, dtype=dtype) for name in CALLS}  # both precisions are there now
    again = duplicate(converter)
    assert again is not converter
    assert repr(again) == repr(converter)
    for name in CALLS:
        assert_same(call(name, again, dtype=dtype), expected[name])
    assert_same(call("LRP", duplicate(again), dtype=dtype), expected["LRP"])  # a copy of a copy
    model = duplicate(converter.model)
    x = torch.tensor(data(converter), dtype=torch.float32)
    assert torch.equal(model(x)[0], converter.model(x)[0])


def test_copies_of_a_converter_that_came_from_torch():
    module = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(12, 2))
    converter = Converter(module, input_dim=(2, 5), output_names=["a", "b"], save_model_as_dict=True)
    again = through_pickle(converter)
    assert_same(call("LRP", again), call("LRP", converter))
    assert again.output_names == [[["a", "b"]]]
    assert_same(call("LRP", Converter(again.model_as_dict)), call("LRP", converter))


@pytest.mark.parametrize("duplicate", COPIES)
@pytest.mark.parametrize("name", CALLS)
def test_copies_of_a_result(converter, name, duplicate):
    method = call(name, converter, output_idx=[2, 0])
    again = duplicate(method)
    assert type(again) is type(method)
    assert_same(again, method)
    assert repr(again) == repr(method)
    pd.testing.assert_frame_equal(again.get_result("data.frame"), method.get_result("data.frame"))
    assert_same(call(name, again.converter, output_idx=[2, 0]), method)


# -- what a method leaves as it was --------------------------------------------------------------------------------


def state(converter: Converter) -> dict:
    """Copy everything that a converter holds and a call could change.

    The model of the other precision, which is kept for the next call, is not a part of it.
    """
    own = {key: value for key, value in vars(converter).items() if key not in ("model", "_lock", "_others", "_spec")}
    modules = {
        name: {key: value for key, value in vars(module).items() if key not in ("_buffers", "_modules")}
        for name, module in converter.model.named_modules()
    }
    tensors = {name: (x.clone(), x.requires_grad) for name, x in converter.model.state_dict().items()}
    return {"own": repr(own), "modules": repr(modules), "tensors": tensors}


def assert_state(converter: Converter, before: dict) -> None:
    after = state(converter)
    assert after["own"] == before["own"]
    assert after["modules"] == before["modules"]
    assert after["tensors"].keys() == before["tensors"].keys()
    for name, (x, requires_grad) in after["tensors"].items():
        expected, required_grad = before["tensors"][name]
        assert x.dtype == expected.dtype
        assert torch.equal(x, expected)
        assert requires_grad is required_grad is False


@pytest.mark.parametrize("made_for", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CALLS)
def test_the_converter_is_not_changed(name, dtype, made_for):
    for build in (mlp, cnn):
        converter = Converter(build(), dtype=made_for)
        before, model = state(converter), converter.model
        expected = call("LRP", converter)
        result = call(name, converter, dtype=dtype)
        assert result.result[0][0].dtype == {"float": torch.float32, "double": torch.float64}[dtype]
        assert converter.model is model
        assert_state(converter, before)
        assert_same(call("LRP", converter), expected)


def as_float32(x):
    return np.float32(x)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def with_gradient(x):
    return torch.tensor(x, requires_grad=True)


def part_of_a_graph(x):
    return torch.tensor(x, requires_grad=True) * 1


def tensor32(x):
    return torch.tensor(x, dtype=torch.float32)


def integers(x):
    return np.int64(10 * x)


def strided(x):
    return np.concatenate([x, x])[::2]


KINDS = [np.array, as_float32, read_only, with_gradient, part_of_a_graph, torch.tensor, tensor32, integers, strided]


def values(x) -> np.ndarray:
    return x.detach().numpy().copy() if isinstance(x, torch.Tensor) else np.array(x)


@pytest.mark.parametrize("kind", [*KINDS, pd.DataFrame])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CALLS)
def test_data_are_not_changed(name, dtype, kind):
    converter = Converter(mlp())
    given = {"x": kind(data(converter))}
    method = CALLS[name][0]
    if method in REFERENCES:
        given[REFERENCES[method]] = kind(data(converter, 1 if REFERENCES[method] == "x_ref" else 4, seed=1))
    before = {key: values(x) for key, x in given.items()}
    found = call(name, converter, dtype=dtype, **given)
    for key, x in given.items():
        assert values(x).dtype == before[key].dtype
        np.testing.assert_array_equal(values(x), before[key])
        if kind in (with_gradient, part_of_a_graph):
            assert x.requires_grad
            assert not x.is_leaf or x.grad is None
    # Nor do the answers hang on the user's memory: it can be written over.
    if kind in (np.array, as_float32, torch.tensor, tensor32):
        kept, result = [x.clone() for x in found.data], found.result[0][0].clone()
        for x in given.values():
            x[:] = 99
        assert torch.equal(found.result[0][0], result)
        assert all(torch.equal(a, b) for a, b in zip(found.data, kept, strict=True))


@pytest.mark.parametrize("name", CALLS)
def test_images_of_a_user_are_not_changed(name):
    """The same with channels first and last, where the model's layout may be a view of the user's."""
    converter = Converter(cnn())
    for dtype, channels_first in itertools.product(DTYPES, (True, False)):
        x = torch.tensor(data(converter), dtype={"float": torch.float32, "double": torch.float64}[dtype])
        x = x if channels_first else x.movedim(1, -1).contiguous()
        ref = x[:1] * 0.5
        before = x.clone(), ref.clone()
        keys = {REFERENCES[CALLS[name][0]]: ref} if CALLS[name][0] in REFERENCES else {}
        found = call(name, converter, x, channels_first=channels_first, dtype=dtype, **keys)
        assert torch.equal(x, before[0])
        assert torch.equal(ref, before[1])
        assert torch.equal(found.data[0], x)


# -- failures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CALLS)
def test_a_refused_call_leaves_nothing_behind(converter, name, dtype):
    expected = call(name, converter)
    before, generator = state(converter), torch.get_rng_state()
    wrong = [
        {"x": np.zeros((3, 4))},
        {"x": data(converter)[:0]},
        {"x": data(converter).astype(str)},
        {"x": data(converter), "output_idx": 99},
        {"x": data(converter), "channels_first": 1},
        {"x": data(converter), "batch_size": 0},
    ]
    method = CALLS[name][0]
    if method in REFERENCES:
        wrong.append({"x": data(converter), REFERENCES[method]: np.zeros((1, 2))})
    if method == "LRP":
        wrong.append({"x": data(converter), "rule_name": {"Dense_Layer": "pass"}})
    for arguments in wrong:
        with pytest.raises((ValueError, TypeError)):
            call(name, converter, dtype=dtype, **arguments)
        assert torch.is_grad_enabled()
        assert torch.equal(torch.get_rng_state(), generator)
    assert_state(converter, before)
    assert_same(call(name, converter), expected)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_breaks_off_leaves_nothing_behind(converter, name, error, monkeypatch, capsys):
    """A walk that fails halfway, as for want of memory, or that the user stops."""
    expected = call(name, converter)
    before = state(converter)
    step = {"DeepLift": "deeplift", "DeepSHAP": "deeplift", "LRP": "lrp", "ConnectionWeights": "connection_weights"}

    def fail(*args, **keys):
        raise error("stop")

    with monkeypatch.context() as patch:
        patch.setitem(vars(converter.model.layers[0]), step.get(CALLS[name][0], "gradient"), fail)
        with pytest.raises(error, match="stop"):
            call(name, converter, verbose=True)
    assert torch.is_grad_enabled()
    assert_state(converter, before)
    assert_same(call(name, converter), expected)
    assert capsys.readouterr().err.endswith(("\r", "\n"))  # the progress bar has left the line


# -- results in autograd -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
@pytest.mark.parametrize("name", CALLS)
def test_results_are_plain_tensors(converter, name, mode):
    x = torch.tensor(data(converter), requires_grad=True)
    with mode():
        method = call(name, converter, x)
        assert torch.is_grad_enabled() is (mode is torch.enable_grad)
    tensors = [*method.result[0], *(method.preds or []), *(method.decomp_goal or []), *method.data]
    for value in tensors:
        assert not value.requires_grad
        assert not value.is_inference()
        factor = torch.ones_like(value, requires_grad=True)
        (value * factor).sum().backward()  # saves the value, which a tensor of inference mode refuses
        assert torch.equal(factor.grad, value)
        value.add_(1)  # and may be written to


@pytest.mark.parametrize("name", CALLS)
def test_calls_within_inference_mode(converter, name):
    """Who predicts in inference mode may explain there, too, also where a derivative is found by autograd."""
    expected = call(name, converter)
    with torch.inference_mode():
        found = call(name, converter)
    assert_same(found, expected)


# -- seeds -------------------------------------------------------------------------------------------------------


def draw(name: str, converter: Converter, **keys) -> torch.Tensor:
    return call(name, converter, **(DRAWING[name] | {"seed": None} | keys)).result[0][0]


@pytest.mark.parametrize("name", DRAWING)
def test_a_seed_fixes_the_draws(converter, name):
    results = [draw(name, converter, seed=seed) for seed in (0, 1, 2, np.int64(7), 2**40)]
    for seed, result in zip((0, 1, 2, np.int64(7), 2**40), results, strict=True):
        assert torch.equal(draw(name, converter, seed=seed), result)
    assert sum(torch.equal(a, b) for a, b in itertools.combinations(results, 2)) <= (2 if name == "DeepSHAP" else 0)


@pytest.mark.parametrize("name", DRAWING)
def test_a_generator_fixes_the_draws(converter, name):
    generator = torch.Generator().manual_seed(5)
    start = generator.get_state()
    first = [draw(name, converter, seed=generator) for _ in range(6)]
    assert not all(torch.equal(first[0], other) for other in first)  # the generator moves on
    generator.set_state(start)
    for result in first:
        assert torch.equal(draw(name, converter, seed=generator), result)


@pytest.mark.parametrize("name", DRAWING)
def test_without_a_seed_torch_is_asked(converter, name):
    torch.manual_seed(11)
    first = [draw(name, converter) for _ in range(6)]
    assert not all(torch.equal(first[0], other) for other in first)
    torch.manual_seed(11)
    for result in first:
        assert torch.equal(draw(name, converter), result)
    torch.manual_seed(12)
    assert not all(torch.equal(draw(name, converter), result) for result in first)


@pytest.mark.parametrize("name", CALLS)
def test_global_generators_are_left_alone(converter, name):
    """With a seed or nothing to draw, neither torch's nor numpy's generator moves."""
    np.random.seed(1)  # noqa: NPY002 (the one that must not move)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    call(name, converter)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


@pytest.mark.parametrize("name", DRAWING)
def test_draws_are_the_same_in_both_precisions(converter, name):
    single, double = (draw(name, converter, seed=4, dtype=dtype) for dtype in DTYPES)
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-3 * float(double.abs().max()))
