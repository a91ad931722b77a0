"""Names of Keras inputs and outputs: dicts of data in whatever order, dicts that models are built with and return."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch

keras = pytest.importorskip("keras")

from keras_models import L, last_first, randomised  # noqa: E402

from innsight_py import Converter, run_deeplift, run_grad  # noqa: E402

#: What a model with the inputs "scan" (an image) and "age" is built with; Keras sorts dicts by their keys.
INPUTS = {
    "list": (lambda scan, age: [scan, age], ["scan", "age"]),
    "dict": (lambda scan, age: {"scan": scan, "age": age}, ["age", "scan"]),
    "ordered dict": (lambda scan, age: OrderedDict(scan=scan, age=age), ["scan", "age"]),
    "nested": (lambda scan, age: [scan, {"age": age}], ["scan", "age"]),
}
OUTPUTS = {
    "list": (lambda kind, size: [kind, size], ["kind", "size"]),
    "dict": (lambda kind, size: {"zoo": kind, "mass": size}, ["mass", "zoo"]),
    "ordered dict": (lambda kind, size: OrderedDict(zoo=kind, mass=size), ["zoo", "mass"]),
    "the same twice": (lambda kind, size: {"q": kind, "p": kind, "r": size}, ["p", "q", "r"]),
    "list of the same": (lambda kind, size: [kind, size, kind], ["kind", "size", "kind_2"]),
}


def build(inputs="dict", outputs="dict"):
    scan, age = keras.Input((6, 5, 2), name="scan"), keras.Input((3,), name="age")
    seen = L.Flatten()(L.Conv2D(2, 3, activation="tanh")(scan))
    kind = L.Dense(2, name="kind")(L.Concatenate()([seen, L.Dense(4, activation="tanh")(age)]))
    size = L.Dense(3, name="size")(age)
    return randomised(keras.Model(INPUTS[inputs][0](scan, age), OUTPUTS[outputs][0](kind, size)))


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    return {"scan": rng.normal(size=(4, 6, 5, 2)).astype("float32"), "age": rng.normal(size=(4, 3)).astype("float32")}


def predictions(model, data, inputs):
    """Ask the model itself, in the structure that it was built with, for a list in the order of its outputs."""
    out = model(INPUTS[inputs][0](data["scan"], data["age"]), training=False)
    if isinstance(out, dict):
        out = [out[key] for key in (out if isinstance(out, OrderedDict) else sorted(out))]
    return [keras.ops.convert_to_numpy(x) for x in out]


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("inputs", INPUTS)
def test_structures(inputs, outputs, data):
    model = build(inputs, outputs)
    converter = Converter(model)
    assert converter.input_keys == INPUTS[inputs][1] == [tensor.name for tensor in model.inputs]
    assert converter.output_keys == OUTPUTS[outputs][1]
    assert converter.input_dim == [(3,) if key == "age" else (2, 6, 5) for key in converter.input_keys]
    found = converter.model(*(torch.from_numpy(last_first(data[key])) for key in converter.input_keys))
    for ours, theirs in zip(found, predictions(model, data, inputs), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("inputs", INPUTS)
def test_dicts_of_data_in_any_order(inputs, data):
    converter = Converter(build(inputs))
    listed = [data[key] for key in converter.input_keys]
    reference = {key: x[:1] + 1 for key, x in data.items()}
    expected = run_deeplift(converter, listed, x_ref=[reference[key] for key in converter.input_keys])
    for order in (["scan", "age"], ["age", "scan"]):
        found = run_deeplift(
            converter, {key: data[key] for key in order}, x_ref={key: reference[key] for key in reversed(order)}
        )
        for ours, theirs in zip(found.result[0], expected.result[0], strict=True):
            assert (ours is None) == (theirs is None)
            assert ours is None or torch.equal(ours, theirs)


def test_one_input(data):
    age = keras.Input((3,), name="age")
    converter = Converter(randomised(keras.Model({"age": age}, L.Dense(2)(age))))
    assert converter.input_keys == ["age"]
    named, plain = (run_grad(converter, x).get_result() for x in ({"age": data["age"]}, data["age"]))
    np.testing.assert_array_equal(named, plain)
    with pytest.raises(ValueError, match=r"'data': the model has no input 'aged'; did you mean 'age'\?"):
        run_grad(converter, {"aged": data["age"]})


def test_a_nested_model_called_with_a_dict(data):
    tower = build("dict", "dict")
    scan, age = keras.Input((6, 5, 2), name="b"), keras.Input((3,), name="a")
    out = tower({"scan": scan, "age": age})
    model = keras.Model([scan, age], L.Concatenate()([L.Dense(2)(out["zoo"]), out["mass"]]))
    converter = Converter(randomised(model))
    found = converter.model(torch.from_numpy(last_first(data["scan"])), torch.from_numpy(data["age"]))[0]
    expected = keras.ops.convert_to_numpy(model([data["scan"], data["age"]]))
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-5)


def test_outputs_are_chosen_by_name(data):
    converter = Converter(build(), output_names={"zoo": ["cat", "dog"], "mass": ["s", "m", "l"]})
    assert converter.output_names == [[["s", "m", "l"]], [["cat", "dog"]]]
    by_label = run_grad(converter, data, output_label={"zoo": "dog"})
    by_index = run_grad(converter, data, output_idx={"zoo": [1]})
    assert by_label.output_idx == by_index.output_idx == [None, [1]]
    assert by_index.plot(output_idx={"zoo": 1}).axes.shape == (1, 1, 2)
    with pytest.raises(ValueError, match=r"'output_idx': node 0 \('s'\) of output layer 1 \('mass'\) was not expl"):
        by_index.plot(output_idx={"mass": 0})
    with pytest.raises(ValueError, match=r"'output_idx': output layer 2 \('zoo'\) has the nodes 0 to 1, got 2"):
        run_grad(converter, data, output_idx={"zoo": 2})


def test_names_of_features(data):
    converter = Converter(
        build(), input_names={"scan": [["r", "g"], list("abcdef"), list("vwxyz")], "age": list("ijk")}
    )
    assert converter.input_names == [[["i", "j", "k"]], [["r", "g"], list("abcdef"), list("vwxyz")]]
    with pytest.raises(
        ValueError, match=r"'input_names': expected an entry for each input \('age', 'scan'\), got none"
    ):
        Converter(build(), input_names={"age": list("ijk")})


def test_images_by_name(data):
    result = run_grad(Converter(build()), data, output_idx={"zoo": 0})
    assert result.plot(output_idx={"zoo": 0}, image={"scan": data["scan"]}) is not None
    with pytest.raises(ValueError, match=r"'image': the model has no input 'scam'; did you mean 'scan'"):
        result.plot(output_idx={"zoo": 0}, image={"scam": data["scan"]})
    with pytest.raises(ValueError, match=r"'image', input 2 \('scan'\): expected the shape"):
        result.plot(output_idx={"zoo": 0}, image={"scan": data["scan"][:, :3]})


def test_printing(data):
    converter = Converter(build())
    text = str(converter)
    for title in (
        "Input layer 1 ('age'):",
        "Input layer 2 ('scan'):",
        "Output layer 1 ('mass'):",
        "Output layer 2 ('zoo'",
    ):
        assert f"• {title}" in text
    assert "Input layer 2 (&#x27;scan&#x27;)" in converter._repr_html_()
    result = run_grad(converter, data, times_input=True, output_idx={"mass": 0, "zoo": 1})
    text = str(result)
    assert "Output layer 2 ('zoo'): 1 (→" in text  # what is explained
    assert "\nOutput layer 1 ('mass'):\n  • Input layer 1 ('age'):" in text  # the result
    assert "(not connected to output layer 1 ('mass'))" in text
    assert "─ Output layer 1 ('mass'): " in text  # the residual
    assert "output_idx, output layer 2 (&#x27;zoo&#x27;)" in result._repr_html_()


def test_columns_and_keys_of_results_stay_as_they_are_in_r(data):
    result = run_grad(Converter(build()), data, output_idx={"mass": 0, "zoo": 1})
    assert list(result.get_result()) == ["Output_1", "Output_2"]
    assert list(result.get_result()["Output_1"]) == ["Input_1", "Input_2"]
    assert set(result.get_result("data.frame")["model_input"]) == {"Input_1", "Input_2"}


def test_saved(data, tmp_path):
    converter = Converter(build())
    converter.save(tmp_path / "model.safetensors")
    loaded = Converter.load(tmp_path / "model.safetensors")
    assert (loaded.input_keys, loaded.output_keys) == (["age", "scan"], ["mass", "zoo"])
    one, two = (run_grad(c, data, output_idx={"zoo": 0}).result[1] for c in (converter, loaded))
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a, b)
