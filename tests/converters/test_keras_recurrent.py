"""LSTM, GRU and SimpleRNN of Keras: one loop a direction, equal to what PyTorch traces of them step by step."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")

from innsight_py import Converter, rules, run_deeplift, run_grad, run_lrp  # noqa: E402
from innsight_py.converters.keras import writer  # noqa: E402
from innsight_py.layers.recurrent import Recurrent  # noqa: E402

L = keras.layers
TRACES = keras.backend.backend() == "torch"
STEPS, FEATURES = 3, 2


def one(build):
    x = L.Input((STEPS, FEATURES))
    return keras.Model(x, build()(x))


def head(y):
    """End a model with what both ways of conversion read as the same layers."""
    return L.Dense(2, use_bias=False)(L.Flatten()(y))


def headed(build):
    x = L.Input((STEPS, FEATURES))
    return keras.Model(x, head(build()(x)))


def stacked():
    y = L.GRU(3, return_sequences=True)(x := L.Input((STEPS, FEATURES)))
    y = L.Bidirectional(L.LSTM(2, return_sequences=True, dropout=0.5, recurrent_dropout=0.5))(L.Dropout(0.5)(y))
    return keras.Model(x, head(y))


def translated(kind):
    """Give the states of one layer to another."""
    x = L.Input((STEPS, FEATURES))
    y, *states = kind(3, return_state=True)(x)
    z = kind(3, go_backwards=True)(x, initial_state=states)
    return keras.Model(x, head(L.Concatenate()([y, z, *states])))


def both_with_states():
    x = L.Input((STEPS, FEATURES))
    first = L.Bidirectional(L.LSTM(2, return_state=True, return_sequences=True))
    y, *states = first(x)
    z = L.Bidirectional(L.LSTM(2))(y, initial_state=states)
    return keras.Model(x, L.Concatenate()([z, *states]))


def several_sequences():
    x = L.Input((STEPS, FEATURES))
    y, z = L.Bidirectional(L.GRU(2, return_sequences=True), merge_mode=None)(x)
    return keras.Model(x, head(L.Multiply()([y, z])))


def pair(layer, other):
    return L.Bidirectional(layer, backward_layer=other)


CASES = {
    "LSTM": lambda: headed(lambda: L.LSTM(2)),
    "LSTM backwards": lambda: one(lambda: L.LSTM(2, go_backwards=True, return_sequences=True)),
    "LSTM, sequence": lambda: one(lambda: L.LSTM(2, return_sequences=True, use_bias=False)),
    "LSTM, unrolled": lambda: headed(lambda: L.LSTM(2, unroll=True)),
    "LSTM, states": lambda: translated(L.LSTM),
    "GRU": lambda: headed(lambda: L.GRU(2)),
    "GRU, no biases": lambda: headed(lambda: L.GRU(2, use_bias=False, return_sequences=True)),
    "GRU, reset first": lambda: headed(lambda: L.GRU(2, reset_after=False)),
    "GRU, reset first, backwards": lambda: one(
        lambda: L.GRU(2, reset_after=False, go_backwards=True, return_sequences=True, use_bias=False)
    ),
    "GRU, states": lambda: translated(L.GRU),
    "SimpleRNN": lambda: headed(lambda: L.SimpleRNN(2)),
    "SimpleRNN, relu": lambda: headed(lambda: L.SimpleRNN(2, activation="relu", go_backwards=True)),
    "SimpleRNN, states": lambda: translated(L.SimpleRNN),
    "RNN of a cell": lambda: headed(lambda: L.RNN(L.GRUCell(2))),
    "both ways": lambda: headed(lambda: L.Bidirectional(L.LSTM(2))),
    "both ways, sequence": lambda: one(lambda: L.Bidirectional(L.GRU(2, return_sequences=True))),
    "both ways, sum": lambda: headed(lambda: L.Bidirectional(L.LSTM(2, return_sequences=True), merge_mode="sum")),
    "both ways, mean": lambda: one(lambda: L.Bidirectional(L.SimpleRNN(2), merge_mode="ave")),
    "both ways, product": lambda: one(lambda: L.Bidirectional(L.GRU(2, reset_after=False), merge_mode="mul")),
    "both ways, of two kinds": lambda: one(lambda: pair(L.LSTM(2), L.GRU(2, go_backwards=True))),
    "both ways, states": both_with_states,
    "both ways, apart": several_sequences,
    "stacked": stacked,
}
RULES = {
    **{name: name for name in ("simple", "epsilon", "alpha_beta", "z_plus", "attnlrp", "cp_lrp")},
    "biases share": [("family:dense", rules.epsilon(0.1, bias="share")), ("family:scale", rules.pass_())],
    "sums in proportion": [("sum", rules.proportional()), ("family:dense", rules.epsilon(0.01))],
}
_MADE: dict[str, tuple] = {}


def converted(model):
    return Converter(model, dtype="double")


def loops(converter):
    return [layer for layer in converter.model_in("double").layers if isinstance(layer, Recurrent)]


def step_by_step(model, monkeypatch):
    """Convert a model as PyTorch traces it, as if there were no translation."""
    with monkeypatch.context() as patch:
        for kind in ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional"):
            patch.delitem(writer.LAYERS, kind)
        return converted(model)


def model_of(case):
    """Build the model of a case, with biases that are not 0."""
    keras.utils.set_random_seed(4)
    model = CASES[case]()
    for weight in model.weights:
        if "bias" in weight.path:
            weight.assign(np.random.default_rng(7).normal(size=weight.shape) / 2)
    return model


@pytest.fixture(params=CASES)
def made(request, monkeypatch):
    """Return the conversion of a model, and what PyTorch traces of it."""
    if not TRACES:
        pytest.skip("only where Keras computes with PyTorch")
    if request.param not in _MADE:
        model = model_of(request.param)
        _MADE[request.param] = converted(model), step_by_step(model, monkeypatch)
    return _MADE[request.param]


def rows(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, STEPS, FEATURES))


def same(method, made, *given, **keys):
    """Compare what a method gives; of a sequence for the first states."""
    shape = made[0].output_dim[0]
    keys["output_idx"] = [(i, 1) for i in range(shape[0])] if len(shape) > 1 else None
    a, b = (method(c, *given, dtype="double", ignore_last_act=False, **keys) for c in made)
    for mine, other in zip(a.result[0], b.result[0], strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12 * float(other.abs().max()))


@pytest.mark.parametrize("case", CASES)
def test_on_every_backend_the_output_is_keras_own(case):
    model = model_of(case)
    converter = converted(model)
    assert loops(converter)
    x = rows(3)
    expected = np.asarray(model.predict(x, verbose=0)).reshape(3, -1)
    shape = converter.output_dim[0]
    found = run_grad(converter, x, dtype="double", ignore_last_act=False, output_idx=every_node(shape)).preds[0].numpy()
    if len(shape) > 1:  # a sequence has its features first
        found = np.moveaxis(found.reshape(3, *shape), 1, -1).reshape(3, -1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def every_node(shape):
    return list(np.ndindex(*shape)) if len(shape) > 1 else list(range(shape[0]))


def test_outputs_and_gradients(made):
    loop, steps = made
    assert len(loops(loop)) in (1, 2, 3, 4)
    assert not loops(steps)
    same(run_grad, made, rows(3))


@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
def test_deeplift(made, rule):
    same(run_deeplift, made, rows(3), x_ref=rows(1, 1), rule_name=rule)


@pytest.mark.filterwarnings("ignore")  # relevances that explode do so in both
@pytest.mark.parametrize("rule", RULES)
def test_lrp(made, rule):
    same(run_lrp, made, rows(2), rule_name=RULES[rule])


@pytest.mark.parametrize("name", CASES)
def test_conversions(name):
    keras.utils.set_random_seed(4)
    assert len(loops(converted(CASES[name]()))) in (1, 2, 3, 4)


def masked():
    x = L.Input((STEPS, FEATURES))
    return keras.Model(x, L.LSTM(2)(x, mask=x[:, :, 0] > 0))


@pytest.mark.parametrize(
    "build",
    [
        lambda: one(lambda: L.LSTM(2, activation="softsign")),
        lambda: one(lambda: L.GRU(2, recurrent_activation="hard_sigmoid")),
        lambda: one(lambda: L.SimpleRNN(2, activation="sigmoid")),
        lambda: one(lambda: pair(L.LSTM(2), L.LSTM(3, go_backwards=True))),
        lambda: one(lambda: L.RNN([L.LSTMCell(2), L.LSTMCell(3)])),
        lambda: keras.Sequential([L.Input((STEPS, FEATURES)), L.Masking(), L.LSTM(2)]),
        masked,
    ],
)
def test_what_no_loop_stands_for(build):
    if not TRACES:
        pytest.skip("only where Keras computes with PyTorch")
    assert not loops(converted(build()))


def test_no_layers_for_more_steps():
    def model(steps):
        return keras.Sequential([L.Input((steps, 2)), L.Bidirectional(L.GRU(2, return_sequences=True)), L.LSTM(2)])

    short, long = (Converter(model(steps)).model.layers for steps in (3, 40))
    assert [type(layer) for layer in long] == [type(layer) for layer in short]
