"""R's lists: what counts from 1 there, what may be left out with a warning, and what contradicts itself."""

from __future__ import annotations

import copy
import json
import warnings

import numpy as np
import pytest
import torch

from innsight_py import Converter, Gradient, SpecError, from_r

RNG = np.random.default_rng(2)
W = RNG.normal(size=(8, 8))
K2 = RNG.normal(size=(2, 2, 2, 2))


def dense(out: int, ins: int, source=0, target=-1, **keys) -> dict:
    return {
        "type": "Dense", "weight": W[:out, :ins], "bias": W[0, :out], "activation_name": "tanh",
        "input_layers": source, "output_layers": target, **keys,
    }  # fmt: skip


def listed(*layers: dict, dim=3, **keys) -> dict:
    return {"input_dim": dim, "input_nodes": 1, "output_nodes": len(layers), "layers": list(layers), **keys}


def chain() -> dict:
    return listed(dense(4, 3, 0, 2), dense(2, 4, 1, -1))


def run(model: dict, *inputs: np.ndarray, channels_first: bool = True) -> list[np.ndarray]:
    converter = Converter(from_r(model, channels_first), dtype="double")
    return [out.numpy() for out in converter.model(*(torch.tensor(x) for x in inputs))]


def apply(layer: dict, x: np.ndarray) -> np.ndarray:
    return np.tanh(x @ np.asarray(layer["weight"]).T + layer["bias"])


@pytest.fixture(autouse=True)
def _no_other_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# -- what comes out ---------------------------------------------------------------------------------------------


def test_chain():
    model, x = chain(), RNG.normal(size=(5, 3))
    (found,) = run(model, x)
    np.testing.assert_allclose(found, apply(model["layers"][1], apply(model["layers"][0], x)), rtol=1e-12)


def test_the_spec_refers_by_name():
    found = from_r(chain())
    assert [layer["name"] for layer in found["layers"]] == ["Dense_1", "Dense_2"]
    assert [layer["inputs"] for layer in found["layers"]] == [["input_1"], ["Dense_1"]]
    assert found["outputs"] == ["Dense_2"]
    assert not {"input_nodes", "output_nodes"} & set(found)
    assert not {"input_layers", "output_layers"} & {key for layer in found["layers"] for key in layer}


def test_the_list_is_not_changed():
    model = chain()
    saved = copy.deepcopy(model)
    Converter(from_r(model))
    assert str(model) == str(saved)


@pytest.mark.parametrize("names", [["first", "second"], ["1", "2"]])
def test_layers_may_be_a_named_list(names):
    model, x = chain(), RNG.normal(size=(5, 3))
    named = model | {"layers": dict(zip(names, model["layers"], strict=True))}
    np.testing.assert_array_equal(run(named, x), run(model, x))


def through_json(model: dict) -> dict:
    """Write a list as R's jsonlite does without unboxing: every single value becomes a vector of length one."""

    def box(value):
        if isinstance(value, dict):
            return {key: box(entry) for key, entry in value.items()}
        if isinstance(value, np.ndarray):
            return value.tolist()
        if isinstance(value, list):
            return [box(entry) if isinstance(entry, dict | list) else entry for entry in value]
        return [value]

    return json.loads(json.dumps(box(model)))


CNN = {
    "input_dim": [2, 5, 6],
    "input_nodes": 1,
    "output_nodes": 9,
    "input_names": [["r", "g"], list("abcde"), list("uvwxyz")],
    "output_names": ["no", "yes"],
    "output_dim": 2,
    "layers": [
        {"type": "Conv2D", "weight": K2, "bias": [0.1, 0.2], "activation_name": "linear", "input_layers": 0,
         "output_layers": 2, "dim_in": [2, 5, 6], "dim_out": [2, 6, 6], "stride": 1, "padding": [1, 0, 1, 1],
         "dilation": 1},
        {"type": "BatchNorm", "num_features": 2, "gamma": [1.0, 2.0], "beta": [0.5, 0.0], "run_mean": [0.0, 1.0],
         "run_var": [1.0, 4.0], "eps": 0.001, "input_layers": 1, "output_layers": 3},
        {"type": "Activation", "act_name": "relu", "input_layers": 2, "output_layers": 4},
        {"type": "MaxPooling2D", "kernel_size": [2, 2], "strides": [2, 2], "input_layers": 3, "output_layers": 5},
        {"type": "Padding", "padding": [1, 0, 0, 1], "mode": "constant", "value": 0, "input_layers": 4,
         "output_layers": 6},
        {"type": "Concatenate", "axis": 2, "input_layers": [5, 5], "output_layers": 7,
         "dim_in": [[2, 4, 4], [2, 4, 4]]},
        {"type": "Skipping", "input_layers": 6, "output_layers": 8},
        {"type": "GlobalPooling", "method": "average", "input_layers": 7, "output_layers": 9, "dim_in": [4, 4, 4]},
        {"type": "Dense", "weight": W[:2, :4], "bias": [0.1, -0.1], "activation_name": "softmax", "input_layers": 8,
         "output_layers": -1},
    ],
}  # fmt: skip


def double(values) -> torch.Tensor:
    return torch.tensor(np.asarray(values, np.float64))


def cnn(x: np.ndarray) -> np.ndarray:
    """Compute CNN with torch, from its definition."""
    pad = torch.nn.functional.pad
    z = torch.nn.functional.conv2d(pad(double(x), (1, 0, 1, 1)), double(K2), double([0.1, 0.2]))
    scale = double([1.0, 2.0]) / (double([1.0, 4.0]) + 0.001).sqrt()
    z = (z - double([[[0.0]], [[1.0]]])) * scale.reshape(2, 1, 1) + double([[[0.5]], [[0.0]]])
    z = pad(torch.nn.functional.max_pool2d(z.relu(), 2), (1, 0, 0, 1))
    z = torch.cat([z, z], 1).mean((2, 3))
    return (z @ double(W[:2, :4]).T + double([0.1, -0.1])).softmax(1).numpy()


@pytest.mark.parametrize("read", [lambda model: model, through_json])
def test_convolutional_net(read):
    x = RNG.normal(size=(3, 2, 5, 6))
    (found,) = run(read(CNN), x)
    np.testing.assert_allclose(found, cnn(x), rtol=1e-10)


@pytest.mark.parametrize("read", [lambda model: model, through_json])
def test_names_and_shapes_come_along(read):
    converter = Converter(from_r(read(CNN)))
    assert converter.input_names == [[["r", "g"], list("abcde"), list("uvwxyz")]]
    assert converter.output_names == [[["no", "yes"]]]
    assert (converter.input_dim, converter.output_dim) == ([(2, 5, 6)], [(2,)])


def numbers(make):
    """Write the numbers of edges, nodes, axes and shapes in another kind."""

    def convert(model: dict) -> dict:
        def vector(value):
            return make(value if isinstance(value, list) else [value])

        layers = []
        for layer in model["layers"]:
            layer = dict(layer)
            for key in ("input_layers", "output_layers", "axis", "num_features", "kernel_size", "strides", "stride"):
                if key in layer:
                    layer[key] = vector(layer[key])
            layers.append(layer)
        nodes = {key: vector(model[key]) for key in ("input_nodes", "output_nodes", "input_dim", "output_dim")}
        return model | nodes | {"layers": layers}

    return convert


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        np.array,  # as rdata reads R's integer vectors
        lambda v: [np.int32(n) for n in v],
        lambda v: np.int64(v[0]) if len(v) == 1 else [np.int64(n) for n in v],
        lambda v: [float(n) for n in v],  # in R every number that is written without an L is a double
        lambda v: np.array(v, float),
    ],
    ids=["list", "tuple", "array", "numpy numbers", "numpy scalars", "doubles", "array of doubles"],
)
def test_kinds_of_numbers(make):
    """R has no scalars and `input_layers = 1` is a double there; an axis must not slip by one for it."""
    x = RNG.normal(size=(3, 2, 5, 6))
    (found,) = run(numbers(make)(CNN), x)
    np.testing.assert_allclose(found, cnn(x), rtol=1e-10)


# -- axes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Concatenate", "Concatenation"])
@pytest.mark.parametrize("key", ["axis", "dim"])
@pytest.mark.parametrize(
    ("r_axis", "numpy_axis", "dims"),
    [
        (2, 1, [(2,), (3,)]),
        (-1, -1, [(2,), (3,)]),
        (2, 1, [(2, 3, 4), (5, 3, 4)]),
        (3, 2, [(2, 3, 4), (2, 5, 4)]),
        (4, 3, [(2, 3, 4), (2, 3, 5)]),
        (-1, -1, [(2, 3, 4), (2, 3, 5)]),
        (np.int64(3), 2, [(2, 3, 4), (2, 5, 4)]),
        ([4], 3, [(2, 3, 4), (2, 3, 5)]),
    ],
)
def test_axis_of_concatenate(kind, key, r_axis, numpy_axis, dims):
    """Axis 2 of R is the channels; -1 stays the last, whether or not `dim_in` is given (quirk Q19)."""
    skip = [{"type": "Skipping", "input_layers": 0, "output_layers": 3} for _ in dims]
    layers = [
        *skip,
        {"type": kind, key: r_axis, "input_layers": [1, 2], "output_layers": 4},
        {"type": "Flatten", "input_layers": 3, "output_layers": -1},
    ]
    model = {"input_dim": [list(dim) for dim in dims], "input_nodes": [1, 2], "output_nodes": 4, "layers": layers}
    a, b = (RNG.normal(size=(4, *dim)) for dim in dims)
    (found,) = run(model, a, b)
    np.testing.assert_array_equal(found, np.concatenate([a, b], numpy_axis).reshape(4, -1))


def test_axis_1_is_the_batch():
    layers = [
        {"type": "Skipping", "input_layers": 0, "output_layers": [2, 2]},
        {"type": "Concatenate", "axis": 1, "input_layers": [1, 1], "output_layers": -1},
    ]
    with pytest.raises(SpecError, match="batch"):
        Converter(from_r(listed(*layers)))


@pytest.mark.parametrize(
    ("keys", "axes"),
    [
        ({}, (1, 3)),
        ({"start_dim": 2, "end_dim": -1}, (1, 3)),
        ({"start_dim": [2], "end_dim": [4]}, (1, 3)),
        ({"start_dim": 3}, (2, 3)),
        ({"start_dim": 2, "end_dim": 3}, (1, 2)),
        ({"start_dim": np.int64(3), "end_dim": np.int64(4)}, (2, 3)),
        ({"start_dim": -2, "end_dim": -1}, (2, 3)),
    ],
)
@pytest.mark.parametrize("channels_first", [True, False])
def test_flatten(keys, axes, channels_first):
    """Start and end count from 1; the order is that of the argument, which R's methods call `channels_first` too."""
    last = {"type": "Flatten", "input_layers": 1, "output_layers": -1}
    flatten = {"type": "Flatten", "input_layers": 0, "output_layers": 2, **keys}
    x = RNG.normal(size=(5, 2, 3, 4))
    converter = Converter(from_r(listed(flatten, last, dim=[2, 3, 4]), channels_first), dtype="double")
    read = x if channels_first else np.moveaxis(x, 1, -1)
    start, end = axes
    flat = read.reshape(*read.shape[:start], -1, *read.shape[end + 1 :])
    assert converter.model.layer("Flatten_1").output_dim == flat.shape[1:]
    # a second Flatten reads what the first has left in its own order again
    expected = flat if channels_first or flat.ndim < 3 else np.moveaxis(flat, 1, -1)
    np.testing.assert_array_equal(converter.model(torch.tensor(x))[0].numpy(), expected.reshape(5, -1))


@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize("data_first", [True, False])
def test_one_list_computes_two_functions(channels_first, data_first):
    """Which of the two belongs to the model: the layout of a method's data does not choose between them."""
    x = RNG.normal(size=(5, 2, 2, 2))
    layers = [{"type": "Flatten", "input_layers": 0, "output_layers": 2}, dense(3, 8, 1, -1)]
    converter = Converter(from_r(listed(*layers, dim=[2, 2, 2]), channels_first), dtype="double")
    flat = (x if channels_first else np.moveaxis(x, 1, -1)).reshape(5, 8)
    given = x if data_first else np.moveaxis(x, 1, -1)
    result = Gradient(converter, given, channels_first=data_first, dtype="double", ignore_last_act=False)
    expected = np.tanh(flat @ W[:3, :8].T + W[0, :3])
    np.testing.assert_allclose(result.preds[0], expected, rtol=1e-12)
    slopes = np.einsum("bo,oi->bio", 1 - expected**2, W[:3, :8])
    slopes = slopes.reshape(5, 2, 2, 2, 3) if channels_first else np.moveaxis(slopes.reshape(5, 2, 2, 2, 3), 3, 1)
    found = result.get_result()
    np.testing.assert_allclose(found if data_first else np.moveaxis(found, 3, 1), slopes, rtol=1e-10, atol=1e-14)


# -- the graph --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("input_nodes", [[1, 3], [3, 1]])
@pytest.mark.parametrize("output_nodes", [[2, 5], [5, 2]])
def test_order_of_inputs_and_outputs(input_nodes, output_nodes):
    """`input_dim` lists shapes in the order of `input_nodes`, the model returns outputs in that of `output_nodes`."""
    layers = [
        dense(4, 3, 0, [2, 4]),
        dense(2, 4, 1, -1),
        dense(4, 5, 0, 4),
        {"type": "Add", "input_layers": [3, 1], "output_layers": 5},
        dense(3, 4, 4, -1),
    ]
    data = {1: RNG.normal(size=(4, 3)), 3: RNG.normal(size=(4, 5))}
    model = {
        "input_dim": [data[node].shape[1:] for node in input_nodes], "input_nodes": input_nodes,
        "output_nodes": output_nodes, "layers": layers,
    }  # fmt: skip
    hidden = apply(layers[0], data[1])
    expected = {2: apply(layers[1], hidden), 5: apply(layers[4], hidden + apply(layers[2], data[3]))}
    for found, node in zip(run(model, *(data[node] for node in input_nodes)), output_nodes, strict=True):
        np.testing.assert_allclose(found, expected[node], rtol=1e-12)


def test_order_of_a_merge_is_that_of_input_layers():
    layers = [
        dense(2, 3, 0, 3),
        dense(3, 3, 0, 3),
        {"type": "Concatenate", "axis": 2, "input_layers": [2, 1, 2], "output_layers": -1},
    ]
    model = {"input_dim": [[3], [3]], "input_nodes": [2, 1], "output_nodes": 3, "layers": layers}
    a, b = RNG.normal(size=(2, 4, 3))
    (found,) = run(model, a, b)  # a goes to layer 2, which is the first of the input nodes
    left, right = apply(layers[1], a), apply(layers[0], b)
    np.testing.assert_allclose(found, np.concatenate([left, right, left], 1), rtol=1e-12)


def test_an_output_may_feed_other_layers():
    """R drops the further edges of such a layer when it reads Keras models (quirk Q50)."""
    layers = [dense(4, 3, 0, [-1, 2]), dense(2, 4, 1, -1)]
    model, x = listed(*layers) | {"output_nodes": [1, 2]}, RNG.normal(size=(4, 3))
    first, second = run(model, x)
    np.testing.assert_allclose(first, apply(layers[0], x), rtol=1e-12)
    np.testing.assert_allclose(second, apply(layers[1], first), rtol=1e-12)


def test_layers_in_any_order():
    """Numbers refer to places in the list, which need not be the order of computation."""
    layers = [dense(2, 4, 2, -1), dense(4, 3, 0, 1)]
    model = {"input_dim": 3, "input_nodes": 2, "output_nodes": 1, "layers": layers}
    x = RNG.normal(size=(4, 3))
    np.testing.assert_allclose(run(model, x)[0], apply(layers[0], apply(layers[1], x)), rtol=1e-12)


# -- what may be left out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("without", "texts"),
    [
        ({"model": ["input_nodes"]}, ["'input_nodes'; taking 1"]),
        ({"model": ["output_nodes"]}, ["'output_nodes'; taking 2"]),
        (
            {"layer": ["input_layers"]},
            ["Layer 1 lacks 'input_layers'; taking 0", "Layer 2 lacks 'input_layers'; taking 1"],
        ),
        (
            {"layer": ["output_layers"]},
            ["Layer 1 lacks 'output_layers'; taking 2", "Layer 2 lacks 'output_layers'; taking -1"],
        ),
        (
            {"model": ["input_nodes", "output_nodes"], "layer": ["input_layers", "output_layers"]},
            ["input_nodes", "output_nodes", "Layer 1 lacks 'input_layers'", "Layer 1 lacks 'output_layers'",
             "Layer 2 lacks 'input_layers'", "Layer 2 lacks 'output_layers'"],
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("null", [False, True])
def test_defaults_are_warned_of(without, texts, null):
    """Each missing key has its own warning, as in R; NULL is as good as missing."""

    def leave_out(entry: dict, keys: list[str]) -> dict:
        kept = {key: value for key, value in entry.items() if key not in keys}
        return kept | dict.fromkeys(keys) if null else kept

    model = leave_out(chain(), without.get("model", []))
    model["layers"] = [leave_out(layer, without.get("layer", [])) for layer in model["layers"]]
    with pytest.warns(UserWarning, match="lacks") as warned:
        found = from_r(model)
    assert len(warned) == len(texts)
    for text in texts:
        assert any(text in str(w.message) for w in warned)
    assert str(found) == str(from_r(chain()))


@pytest.mark.parametrize(
    ("key", "value", "same_as"),
    [
        ("stride", None, [1]),
        ("strides", [2], [2]),
        ("dilation_rate", 2, [2]),
        ("dilation", [1], [1]),
        ("padding", None, [0, 0]),
        ("padding", [1], [1, 1]),
        ("padding", 2, [2, 2]),
        ("padding", [0, 1], [0, 1]),
        ("bias", None, None),
        ("activation_name", ["relu"], "relu"),
    ],
)
def test_spellings_and_defaults_of_a_convolution(key, value, same_as):
    conv = {
        "type": "Conv1D", "weight": K2[..., 0], "bias": [0.5, 1.0], "activation_name": "linear", "input_layers": 0,
        "output_layers": 2,
    }  # fmt: skip
    last = {"type": "Flatten", "input_layers": 1, "output_layers": -1}
    x = torch.tensor(RNG.normal(size=(3, 2, 9)))
    (found,) = run(listed(conv | {key: value}, last, dim=[2, 9]), x.numpy())
    full = {"stride": [1], "dilation": [1], "padding": [0, 0], "bias": [0.5, 1.0], "activation_name": "linear"}
    full[{"strides": "stride", "dilation_rate": "dilation"}.get(key, key)] = same_as
    bias = None if full["bias"] is None else torch.tensor(full["bias"], dtype=torch.float64)
    padded = torch.nn.functional.pad(x, full["padding"])
    expected = torch.nn.functional.conv1d(padded, torch.tensor(K2[..., 0]), bias, full["stride"], 0, full["dilation"])
    expected = expected.relu() if full["activation_name"] == "relu" else expected
    np.testing.assert_allclose(found, expected.flatten(1).numpy(), rtol=1e-12)


@pytest.mark.parametrize("bias", [[0.5], 0.5, np.array([0.5]), np.array(0.5)])
def test_a_vector_of_length_one_may_be_a_number(bias):
    """`bias = 0.5` is a vector in R; JSON and rdata may hand it on as a number."""
    layer = dense(1, 3, bias=bias)
    x = RNG.normal(size=(4, 3))
    np.testing.assert_allclose(run(listed(layer), x)[0], np.tanh(x @ W[:1, :3].T + 0.5), rtol=1e-12)


# -- contradictions ---------------------------------------------------------------------------------------------


def changed(number: int | None = None, **keys) -> dict:
    model = chain()
    if number is None:
        return model | keys
    model["layers"][number] |= keys
    return model


@pytest.mark.parametrize(
    ("model", "fragments"),
    [
        # parity.md 7.1, "general errors"
        ({"input_dim": 3}, ["'layers'"]),
        ({"layers": [dense(2, 3)], "input_nodes": 1, "output_nodes": 1}, ["'input_dim'"]),
        (changed(input_dim="a"), ["'input_dim'", "'a'"]),
        (changed(input_dim=["a", "b"]), ["'input_dim'"]),
        (changed(input_nodes=0), ["'input_nodes'", "1 to 2"]),
        (changed(input_nodes=3), ["'input_nodes'", "1 to 2"]),
        (changed(input_nodes=[1, 3]), ["'input_nodes'", "1 to 2"]),
        (changed(input_nodes="a"), ["'input_nodes'", "'a'"]),
        (changed(output_nodes=0), ["'output_nodes'", "1 to 2"]),
        (changed(output_nodes=-1), ["'output_nodes'", "1 to 2"]),
        (changed(output_nodes=3), ["'output_nodes'", "1 to 2"]),
        (changed(output_nodes=["a"]), ["'output_nodes'"]),
        (changed(output_dim="a"), ["'output_dim'", "'a'"]),
        (changed(output_dim=3), ["'output_dim'", "(*, 2)", "(*, 3)"]),
        (changed(output_dim=[[2], [2]]), ["'output_dim'"]),
        (changed(1, type="Unknown"), ["Layer 2", "key 'type'", "'Unknown'"]),
        (changed(1, type=None), ["Layer 2", "key 'type'"]),
        (changed(0, input_layers="a"), ["Layer 1", "'input_layers'", "'a'"]),
        (changed(0, input_layers=["0"]), ["Layer 1", "'input_layers'"]),
        (changed(0, input_layers=[0.5]), ["Layer 1", "'input_layers'"]),
        (changed(1, output_layers=float("nan")), ["Layer 2", "'output_layers'"]),
        (changed(1, output_layers=[None]), ["Layer 2", "'output_layers'"]),
        (changed(1, output_layers=[float("nan")]), ["Layer 2", "'output_layers'"]),
        (changed(1, output_layers=True), ["Layer 2", "'output_layers'"]),
        (changed(0, input_layers=[]), ["Layer 1", "'input_layers'"]),
        # out of range
        (changed(0, input_layers=-1), ["Layer 1", "'input_layers'", "2"]),
        (changed(1, input_layers=3), ["Layer 2", "'input_layers'", "2"]),
        (changed(0, output_layers=3), ["Layer 1", "'output_layers'", "2"]),
        (changed(0, output_layers=-2), ["Layer 1", "'output_layers'"]),
        # edges that only one side knows
        (changed(1, input_layers=0), ["'output_layers'", "layer 1", "layer 2"]),
        (changed(0, output_layers=-1), ["'input_layers'", "layer 1", "layer 2"]),
        (changed(0, output_layers=[2, -1]), ["Layer 1", "-1", "'output_nodes'"]),
        (changed(output_nodes=1), ["Layer 2", "-1", "'output_nodes'"]),
        (changed(input_nodes=2), ["Layer 1", "'input_nodes'"]),
        (changed(input_nodes=[1, 2], input_dim=[[3], [4]]), ["'input_nodes'"]),  # layer 2 does not take 0
        (changed(input_nodes=[1, 1]), ["'input_nodes'", "[1, 1]"]),
        (changed(output_nodes=[2, 2]), ["'output_nodes'", "[2, 2]"]),
        (changed(input_dim=[[3], [4]]), ["input"]),  # two shapes, one input node
        # keys
        (changed(input_node=1), ["'input_node'", "did you mean 'input_nodes'"]),
        (changed(0, wieght=1), ["'Dense_1'", "'wieght'", "did you mean 'weight'"]),
        (changed(0, weight=None), ["'Dense_1'", "lacks the key 'weight'"]),
        (changed(0, activation_name=["rellu"]), ["'Dense_1'", "'activation_name'", "'rellu'"]),
        (changed(0, dim_in=4), ["'Dense_1'", "'dim_in'", "(*, 3)", "(*, 4)"]),
        (changed(layers=[]), ["'layers'"]),
        (changed(layers="Dense"), ["'layers'", "'Dense'"]),
        (changed(layers=[5]), ["'layers'"]),
    ],
)
def test_refused(model, fragments):
    with pytest.raises(SpecError) as caught:
        Converter(from_r(model))
    for fragment in fragments:
        assert fragment.lower() in str(caught.value).lower()


@pytest.mark.parametrize("value", [None, 5, "model", [dense(2, 3)]])
def test_no_list_at_all(value):
    with pytest.raises(SpecError, match="dict"):
        from_r(value)


@pytest.mark.parametrize("key", ["input_names", "output_names"])
@pytest.mark.parametrize("names", [[1.5, 2], ["a"], [["a", "b"], ["c"]], 5])
def test_bad_names(key, names):
    with pytest.raises((TypeError, ValueError), match=key):
        Converter(from_r(changed(**{key: names})))


def test_an_output_may_have_several_axes():
    pool = {"type": "MaxPooling2D", "kernel_size": [2, 2], "strides": [1, 1], "input_layers": 0, "output_layers": -1}
    assert Converter(from_r(listed(pool, dim=[2, 3, 4]))).output_dim == [(2, 2, 3)]


@pytest.mark.parametrize("value", ["float32", "Double"])
def test_bad_dtype(value):
    with pytest.raises(ValueError, match="'dtype'"):
        Converter(from_r(chain()), dtype=value)


@pytest.mark.parametrize("value", [1, "TRUE", None])
def test_bad_flag(value):
    with pytest.raises(TypeError, match="'save_model_as_dict'"):
        Converter(from_r(chain()), save_model_as_dict=value)


def test_the_list_itself_is_refused_with_a_pointer():
    with pytest.raises(SpecError, match="from_r"):
        Converter(chain())
