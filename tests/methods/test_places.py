"""Inner layers and neurons: the laws that make them what they are, names, and what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from laws_inside import INSIDE, LOCAL, MODELS, Block, Cut, arrays, call, near
from torch import nn

from innsight_py import Converter, run_cw, run_deeplift, run_expgrad, run_grad, run_intgrad, run_lrp, run_smoothgrad

pytestmark = pytest.mark.filterwarnings("ignore:.*do not add up:UserWarning")
#: Modules of the models that are cut: before activations that are merged, behind them, in between.
LAYERS = {"mlp": [0, 1, 2, 3, 5], "cnn": [0, 1, 2, 3, 4, 5, 6, 7, 8]}
CUTS = [(model, layer) for model in MODELS for layer in LAYERS[model]]


@pytest.fixture(scope="module")
def cuts() -> dict[str, tuple[Cut, Converter]]:
    made = {name: Cut.of(name) for name in MODELS}
    return {name: (cut, cut.converter) for name, cut in made.items()}


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize(("model", "layer"), CUTS)
def test_a_layer_is_the_input_of_the_rest(cuts, name, model, layer):
    cut, converter = cuts[model]
    (x, refs), method, head = cut.data(), INSIDE[name], cut.head(layer)
    with torch.no_grad():
        inner, inner_refs = head(x), head(refs)
    found = call(method, converter, x, refs, layer=str(layer))
    expected = call(method, cut.tail(layer), inner, inner_refs)
    near(arrays(found), arrays(expected))
    assert found.described.input_keys == [str(layer)]
    for ours, theirs in ((found.preds, expected.preds), (found.decomp_goal, expected.decomp_goal)):
        if theirs is not None:
            near([x.numpy() for x in ours], [x.numpy() for x in theirs])
    if found.data:
        np.testing.assert_allclose(found.data[0], inner, rtol=1e-12)
    assert (found.residual is None) == (expected.residual is None)
    if found.residual is not None:
        np.testing.assert_allclose(found.residual.absolute[0], expected.residual.absolute[0], atol=1e-12)


@pytest.mark.parametrize("name", INSIDE)
@pytest.mark.parametrize(("model", "layers"), [("mlp", ["0", "1", "4"]), ("cnn", ["7", "3", "0", "3.one", "3.two"])])
def test_layers_at_once_are_layers_one_by_one(cuts, name, model, layers):
    cut, converter = cuts[model]
    (x, refs), method = cut.data(), INSIDE[name]
    found = call(method, converter, x, refs, layer=layers)
    alone = [call(method, converter, x, refs, layer=layer) for layer in layers]
    near(arrays(found), [arrays(one)[0] for one in alone])
    assert found.described.input_keys == layers
    assert found.residual is None  # each sum is the goal, and so the sum of sums is not
    near([x.numpy() for x in found.data], [one.data[0].numpy() for one in alone if one.data])


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize(("model", "layer"), [("mlp", 0), ("mlp", 3), ("mlp", 5), ("cnn", 5), ("cnn", 6)])
def test_a_neuron_is_an_output_of_what_is_below(cuts, name, model, layer):
    cut, converter = cuts[model]
    (x, refs), method, head = cut.data(), INSIDE[name], cut.head(layer)
    below = Converter(head, input_dim=cut.dim, dtype="double")
    own = {} if method.function == "run_cw" else {"ignore_last_act": False}
    expected = call(method, below, x, refs, output_idx=[2, 1], **own)
    found = call(method, converter, x, refs, neuron=(str(layer), [2, 1]))
    near(arrays(found), arrays(expected))
    assert found.output_label == [[f"{layer}[2]", f"{layer}[1]"]]
    if expected.preds is not None:
        near([found.preds[0].numpy()], [expected.preds[0].numpy()])


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("layer", [0, 1, 3])
def test_a_neuron_of_an_image_has_an_index_of_three_numbers(cuts, name, layer):
    cut, converter = cuts["cnn"]
    (x, refs), method = cut.data(), INSIDE[name]
    with torch.no_grad():
        shape = tuple(cut.head(layer)(x).shape[1:])
    below = Converter(nn.Sequential(cut.head(layer), nn.Flatten()), input_dim=cut.dim, dtype="double")
    index = (1, 1, 0)
    expected = call(method, below, x, refs, output_idx=int(np.ravel_multi_index(index, shape)))
    near(arrays(call(method, converter, x, refs, neuron=(str(layer), index))), arrays(expected))
    found = call(method, converter, x.movedim(1, -1), refs.movedim(1, -1), neuron=(str(layer), (1, 0, 1)),
                 channels_first=False)  # fmt: skip
    if not (method.noisy and method.function == "run_smoothgrad"):  # noise belongs to places in memory
        near([np.moveaxis(x, -2, 1) for x in arrays(found)], arrays(expected))


@pytest.mark.parametrize("name", LOCAL)
def test_a_layer_and_a_neuron_are_the_ends_of_what_is_between(cuts, name):
    cut, converter = cuts["cnn"]
    (x, refs), method = cut.data(), INSIDE[name]
    with torch.no_grad():
        inner, inner_refs = cut.head(1)(x), cut.head(1)(refs)
    between = Converter(cut.model[2:7], input_dim=tuple(inner.shape[1:]), dtype="double")
    expected = call(method, between, inner, inner_refs, output_idx=4)
    near(arrays(call(method, converter, x, refs, layer="1", neuron=("6", 4))), arrays(expected))


class Passed(nn.Module):
    """What comes after the first convolution of a block, and what passes it by."""

    def __init__(self, block: Block, rest: nn.Sequential) -> None:
        super().__init__()
        self.block, self.rest = block, rest

    def forward(self, inner: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        block = self.block
        return self.rest(block.act(block.two(block.act(inner)) + skip))


WALKED = [name for name, method in LOCAL.items() if "n" not in method.keys]


@pytest.mark.parametrize("name", WALKED)
def test_what_passes_a_layer_by_is_an_input_of_the_rest_too(cuts, name):
    cut, converter = cuts["cnn"]
    (x, refs), method = cut.data(), INSIDE[name]
    with torch.no_grad():
        skip, skip_refs = cut.head(2)(x), cut.head(2)(refs)
        inner, inner_refs = cut.model[3].one(skip), cut.model[3].one(skip_refs)
    dim = tuple(inner.shape[1:])
    rest = Converter(Passed(cut.model[3], cut.model[4:]), input_dim=[dim, dim], dtype="double")
    expected = call(method, rest, [inner, skip], [inner_refs, skip_refs])
    found = call(method, converter, x, refs, layer="3.one")
    near(arrays(found), arrays(expected)[:1])
    assert found.residual is None  # a part of the output comes by the other way


def test_integrated_gradients_hold_what_passes_the_layer_by(cuts):
    """The path is that of the layer's values; the other way stays at the row's, and the sum says what that changes."""
    cut, converter = cuts["cnn"]
    x, refs = cut.data()
    with torch.no_grad():
        skip = cut.head(2)(x)
        inner, inner_ref = cut.model[3].one(skip), cut.model[3].one(cut.head(2)(refs[:1]))
    dim = tuple(inner.shape[1:])
    rest = Converter(Passed(cut.model[3], cut.model[4:]), input_dim=[dim, dim], dtype="double")
    held = [inner_ref.expand_as(inner), skip]
    expected = run_intgrad(rest, [inner, skip], x_ref=held, n=7, dtype="double")
    found = run_intgrad(converter, x, x_ref=refs[:1], n=7, dtype="double", layer="3.one")
    near(arrays(found), arrays(expected)[:1])
    near([found.decomp_goal[0].numpy()], [expected.decomp_goal[0].numpy()])
    assert found.residual.absolute[0].abs().max() > 0
    many = run_intgrad(converter, x, x_ref=refs[:1], n=3000, dtype="double", layer="3.one")
    assert many.residual.relative[0].abs().max() < 1e-2
    drawn = run_expgrad(converter, x, data_ref=refs, n=3, seed=1, layer="3.one")
    assert drawn.residual is None
    assert drawn.decomp_goal is None


def test_a_layer_that_does_not_reach_what_is_explained(cuts):
    _, converter = cuts["mlp"]
    found = run_grad(converter, np.ones((2, 5)), layer="4", neuron=("1", 0))
    assert found.result == [[None]]
    assert np.isnan(found.get_result()).all()
    after = run_grad(converter, np.ones((2, 5)), layer="6")  # the output itself
    np.testing.assert_array_equal(after.get_result()[0], np.eye(3))


def test_the_value_before_the_activation_that_ends_the_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.Softmax(-1)).double()
    converter = Converter(model, input_dim=(3,))
    x = np.ones((1, 3))
    assert converter.layer_names == ["0", "1"]
    np.testing.assert_array_equal(run_grad(converter, x, layer="0").get_result()[0], np.eye(2))
    assert run_grad(converter, x, layer="1").result == [[None]]  # the softmax comes after what is explained
    p = run_grad(converter, x, layer="1", ignore_last_act=False, dtype="double")
    np.testing.assert_array_equal(p.get_result()[0], np.eye(2))
    logits = run_grad(converter, x, layer="0", ignore_last_act=False, dtype="double")
    q = p.preds[0][0].numpy()
    np.testing.assert_allclose(logits.get_result()[0], np.diag(q) - np.outer(q, q), atol=1e-12)


# -- names ------------------------------------------------------------------------------------------------------------


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        y = self.body(self.body(x))
        return self.head(torch.tanh(y + x))


def test_names_are_those_of_the_modules():
    torch.manual_seed(0)
    model = Shared().double()
    converter = Converter(model, input_dim=(4,), dtype="double")
    assert converter.layer_names == [
        "body.0#1", "body.1#1", "body#1", "body.0", "body.0#2", "body.1", "body.1#2", "body", "body#2", "add", "tanh",
        "head",
    ]  # fmt: skip
    x = torch.randn(3, 4).double()
    with torch.no_grad():
        first = model.body(x)
        values = {
            "body.0#1": model.body[0](x), "body#1": first, "body.0": model.body[0](first), "body": model.body(first),
            "add": model.body(first) + x, "tanh": torch.tanh(model.body(first) + x), "head": model(x),
        }  # fmt: skip
    for name, value in values.items():
        found = run_grad(converter, x, layer=name, dtype="double").data[0]
        np.testing.assert_allclose(found, value, atol=1e-14, err_msg=name)


def test_names_survive_a_file(tmp_path):
    torch.manual_seed(0)
    converter = Converter(Shared(), input_dim=(4,))
    converter.save(tmp_path / "model.safetensors")
    loaded = Converter.load(tmp_path / "model.safetensors")
    assert loaded.layer_names == converter.layer_names
    x = np.ones((1, 4))
    for name in converter.layer_names:
        a, b = (run_grad(c, x, layer=name) for c in (converter, loaded))
        assert torch.equal(a.data[0], b.data[0])


def test_a_spec_has_the_names_of_its_layers():
    layers = [
        {"type": "Dense", "name": "hidden", "weight": np.eye(2), "activation_name": "tanh"},
        {"type": "Dense", "weight": np.ones((1, 2))},
    ]
    converter = Converter({"input_dim": [2], "layers": layers})
    assert converter.layer_names == ["hidden", "Dense_2"]
    with pytest.raises(ValueError, match="'layer_names': expected for 'a' the name of a layer"):
        Converter({"input_dim": [2], "layers": layers, "layer_names": {"a": "nowhere"}})


@pytest.mark.parametrize("composite", ["simple", "epsilon_plus_flat"])
def test_relevance_inside_follows_the_rules_of_the_whole_model(cuts, composite):
    """The first layer of the model is the first, not the first after the layer that is looked at."""
    cut, converter = cuts["cnn"]
    x, _ = cut.data()
    layers = ["0", "1", "2", "4"]
    found = run_lrp(converter, x, layer=layers, rule_name=composite, dtype="double")
    assert [y.shape[1:-1] for y in arrays(found)] == [(3, 4, 4), (3, 4, 4), (3, 2, 2), (3, 1, 1)]
    near(arrays(found)[:1], arrays(found)[1:2])  # an activation hands on everything


def test_merged_batch_normalisation_has_the_names_of_what_is_left():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)).eval()
    model[1].running_mean.copy_(torch.tensor([0.5, -0.5]))
    converter = Converter(model, input_dim=(1, 6), dtype="double")
    x = np.random.default_rng(0).standard_normal((2, 1, 6))
    found = run_lrp(converter, x, layer="1", merge_batch_norm=True, dtype="double")
    with torch.no_grad():
        np.testing.assert_allclose(found.data[0], model[:2].double()(torch.tensor(x)), atol=1e-12)
    with pytest.raises(ValueError, match="'layer': the model has no layer '0'"):  # its value is nowhere
        run_lrp(converter, x, layer="0", merge_batch_norm=True)


# -- what comes out ---------------------------------------------------------------------------------------------------


def test_results_have_the_axes_of_the_layer(cuts):
    cut, converter = cuts["cnn"]
    x, _ = cut.data()
    found = run_grad(converter, x, layer=["2", "6"], output_idx=[0, 2])
    assert {key: value.shape for key, value in found.get_result().items()} == {
        "Input_1": (3, 3, 2, 2, 2), "Input_2": (3, 5, 2)
    }  # fmt: skip
    frame = found.get_result("data.frame")
    assert len(frame) == 3 * 2 * (12 + 5)
    assert set(frame["model_input"]) == {"Input_1", "Input_2"}
    assert set(frame["channel"].dropna()) == {"C1", "C2", "C3"}
    assert "Input layer 1 ('2')" in str(found)
    assert len(found.summary()) > 0
    assert found.plot(0).axes.shape == (1, 1, 2)
    last = run_grad(converter, x.movedim(1, -1), layer="2", channels_first=False)
    assert last.get_result().shape == (3, 2, 2, 3, 3)
    assert last.data[0].shape == (3, 2, 2, 3)
    thawed = pickle.loads(pickle.dumps(found))  # noqa: S301  (our own)
    assert torch.equal(thawed.result[0][0], found.result[0][0])


def test_keras_layers_by_name():
    keras = pytest.importorskip("keras")
    inputs = keras.Input((6, 6, 2))
    relu = keras.layers.ReLU(name="relu")
    x = keras.layers.Conv2D(3, 3, name="conv")(inputs)
    y = relu(keras.layers.Conv2D(3, 3, padding="same", activation="relu", name="conv_2")(relu(x)))
    inner = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.AveragePooling2D(2, name="pool")], name="inner")
    outputs = keras.layers.Dense(2, "softmax", name="out")(keras.layers.Flatten(name="flat")(inner(y)))
    model = keras.Model(inputs, outputs)
    converter = Converter(model)
    assert converter.layer_names == [
        "conv", "relu#1", "conv_2", "relu", "relu#2", "inner", "inner/pool", "flat", "out"
    ]  # fmt: skip
    data = np.random.default_rng(0).standard_normal((2, 6, 6, 2)).astype(np.float32)
    for name in ("conv", "conv_2", "inner", "flat"):
        layer = model.get_layer(name)
        value = keras.ops.convert_to_numpy(keras.Model(inputs, layer.output)(data))
        found = run_deeplift(converter, data, layer=name)
        np.testing.assert_allclose(found.data[0], value, atol=1e-5)
        assert found.get_result().shape == (*value.shape, 2)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"layer": "nine"}, ValueError, "'layer': the model has no layer 'nine'.*Layers: 0, 1, 2.*layer_names"),
        ({"layer": 3}, TypeError, "'layer': expected the name of a layer or a list of names, got 3"),
        ({"layer": []}, ValueError, "'layer': expected names that differ, at least one"),
        ({"layer": ["1", "1"]}, ValueError, "'layer': expected names that differ"),
        ({"neuron": "1"}, TypeError, "'neuron': expected a pair"),
        ({"neuron": ("nine", 0)}, ValueError, "'neuron': the model has no layer 'nine'"),
        ({"neuron": ("1", 7)}, ValueError, r"'neuron': the value of '1' has the shape \(\*, 7\).*such as 0, got 7"),
        ({"neuron": ("1", (0, 1))}, ValueError, "expected an index of 1 number"),
        ({"neuron": ("1", "a")}, TypeError, "'neuron': expected whole numbers"),
        ({"neuron": ("1", [])}, ValueError, "'neuron': expected indices that differ, at least one"),
        ({"neuron": ("1", 0), "output_idx": 1}, ValueError, "'neuron' and 'output_idx' both say what is explained"),
        ({"neuron": ("1", 0), "target": "predicted"}, ValueError, "'neuron' and 'target' both say"),
    ],
)
def test_what_is_no_place(cuts, keys, error, message):
    with pytest.raises(error, match=message):
        run_grad(cuts["mlp"][1], np.ones((1, 5)), **keys)


@pytest.mark.parametrize("name", [name for name, method in INSIDE.items() if not method.data_free])
def test_targets_of_each_row_with_layers(cuts, name):
    """They are the diagonal of all outputs."""
    cut, converter = cuts["cnn"]
    (x, refs), method = cut.data(), INSIDE[name]
    whole = arrays(call(method, converter, x, refs, layer="2"))[0]
    found = call(method, converter, x, refs, layer="2", target=[2, 0, 1])
    near([arrays(found)[0][..., 0]], [np.stack([whole[row, ..., node] for row, node in enumerate([2, 0, 1])])])


def test_global_connection_weights_inside(cuts):
    cut, converter = cuts["mlp"]
    weights = [m.weight.detach().numpy() for m in cut.model if isinstance(m, nn.Linear)]
    np.testing.assert_allclose(
        run_cw(converter, layer="1", dtype="double").get_result()[0], (weights[3] @ weights[2] @ weights[1]).T
    )


def test_noise_is_a_part_of_the_range_of_the_layer(cuts):
    cut, converter = cuts["mlp"]
    x, _ = cut.data()
    none = run_smoothgrad(converter, x, layer="3", noise_level=0, n=2, seed=1, dtype="double")
    near(arrays(none), arrays(run_grad(converter, x, layer="3", dtype="double")))
