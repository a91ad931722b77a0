"""Every method on every layer type and on models through every door: see `laws.py` for the laws."""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from goldens import FOLDER
from laws import INNER, METHODS, Method, Subject, Trial, in_the_middle, refuses
from one_of_each import LAYERS, LOOKUPS
from torch import nn

import innsight_py
from innsight_py import Converter, InterpretingMethod, UnsupportedLayerError, composites, from_r, rules
from innsight_py.converters import _DOORS
from innsight_py.converters.files import READERS
from innsight_py.spec.layers import LAYER_SPECS

# Warnings (of a residual, say) are the subject of other tests.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

CONVERTED = [name for name, method in METHODS.items() if method.kind == "converter"]


# -- layers ------------------------------------------------------------------------------------------------------


#: A detached value gives 0 throughout.
PASSED = [kind for kind in LAYERS if kind != "Detach"]


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in PASSED for n in CONVERTED if not refuses(k, n)])
def test_layers(kind, name):
    Trial(METHODS[name], in_the_middle(kind)).check()


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in LAYERS for n in CONVERTED if refuses(k, n)])
def test_layers_without_a_rule(kind, name):
    with pytest.raises((UnsupportedLayerError, ValueError), match="'it'"):
        Trial(METHODS[name], in_the_middle(kind)).run()


#: The same rule with the small number that single precision has by default. A product of values keeps LRP-0 and the
#: default, which rounding alone does not explain: hence no smaller bound.
SMALL = Method("run_lrp", {"rule_name": composites.excitation_backprop(stabilizer=1e-6)}, single=1e-4)


@pytest.mark.parametrize("kind", [k for k in PASSED if not refuses(k, "LRP, excitation")])
def test_single_precision_differs_by_the_small_number(kind):
    """What single precision's bound for this rule allows is the small number's, as in R: rounding is far below."""
    trial = Trial(SMALL, in_the_middle(kind))
    trial.whole = trial.answer()
    trial.check_precisions()


def test_no_layer_is_forgotten():
    assert {*LAYERS, *LOOKUPS} == set(LAYER_SPECS)


def test_no_method_is_forgotten():
    functions = {name for name in innsight_py.__all__ if name.startswith(("run_", "torch_"))}
    assert {method.function for method in METHODS.values()} | INNER == functions
    classes = {
        cls
        for cls in (getattr(innsight_py, name) for name in innsight_py.__all__)
        if inspect.isclass(cls) and issubclass(cls, InterpretingMethod)
    } - {InterpretingMethod, innsight_py.AgnosticWrapper}
    assert len(classes) == len([name for name in functions if name.startswith("run_")])


# -- doors -------------------------------------------------------------------------------------------------------


def torch_door(folder: Path) -> Subject:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.Softmax(-1))
    with torch.no_grad():
        module[2].weight[2], module[2].bias[2] = module[2].weight[0], module[2].bias[0]
    return Subject.of(Converter(module, (4,), dtype="double"), module=module, twins=((0, 2),))


def signal_door(folder: Path) -> Subject:
    torch.manual_seed(2)
    module = nn.Sequential(
        nn.Conv1d(2, 3, 3, padding=1), nn.Tanh(), nn.MaxPool1d(2), nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(9, 2)
    )
    return Subject.of(Converter(module.eval(), (2, 6), dtype="double"), module=module)


def keras_door(folder: Path) -> Subject:
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(1)
    image, table = keras.Input((5, 4, 2)), keras.Input((3,))
    x = keras.layers.Conv2D(3, 2, activation="relu", padding="same")(image)
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(2)(x))
    x = keras.layers.Concatenate()([x, keras.layers.Dense(3, activation="tanh")(table)])
    outs = [keras.layers.Dense(2, activation="softmax")(x), keras.layers.Dense(1)(x)]
    converter = Converter(keras.Model([image, table], outs), dtype="double")
    converter.channels_first = True  # the default of the methods, as for the other subjects
    return Subject.of(converter)


def sklearn_door(folder: Path) -> Subject:
    network = pytest.importorskip("sklearn.neural_network")
    pipeline, preprocessing = pytest.importorskip("sklearn.pipeline"), pytest.importorskip("sklearn.preprocessing")
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((60, 3)), rng.integers(0, 3, 60)
    model = pipeline.make_pipeline(
        preprocessing.StandardScaler(), network.MLPClassifier((5,), solver="lbfgs", max_iter=15, random_state=1)
    )
    return Subject.of(Converter(model.fit(x, y), dtype="double"))


def skorch_door(folder: Path) -> Subject:
    skorch = pytest.importorskip("skorch")
    torch.manual_seed(3)
    net = skorch.NeuralNetRegressor(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), verbose=0)
    return Subject.of(Converter(net.initialize(), (3,), dtype="double"))


def onnx_door(folder: Path) -> Subject:
    pytest.importorskip("onnx")
    from onnx_models import mlp

    return Subject.of(Converter(mlp(sizes=(4, 6, 3)), dtype="double"))


def exported_door(folder: Path) -> Subject:
    torch.manual_seed(4)
    module = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(6, 3))
    rows = {"input": {0: torch.export.Dim("rows")}}
    torch.export.save(torch.export.export(module, (torch.zeros(2, 2, 6),), dynamic_shapes=rows), folder / "net.pt2")
    return Subject.of(Converter(folder / "net.pt2", dtype="double"))


def rds_door(folder: Path) -> Subject:
    return Subject.of(Converter(FOLDER / "r_files" / "two_in_two_out.rds", dtype="double"))


def neuralnet_door(folder: Path) -> Subject:
    return Subject.of(Converter(FOLDER / "neuralnet" / "iris_tanh.rds", dtype="double"))


def json_door(folder: Path) -> Subject:
    return Subject.of(Converter(FOLDER / "r_files" / "conv2d_batchnorm.json", dtype="double"))


def safetensors_door(folder: Path) -> Subject:
    converter = in_the_middle("Conv2D").converter
    converter.save(folder / "model.safetensors")
    return Subject.of(Converter(folder / "model.safetensors", dtype="double"), twins=((1, 3),))


def dict_door(folder: Path) -> Subject:
    return in_the_middle("Dense")


def from_r_door(folder: Path) -> Subject:
    model = json.loads((FOLDER / "r_files" / "two_in_two_out.json").read_bytes())
    return Subject.of(Converter(from_r(model), dtype="double"))


DOORS: dict[str, Callable[[Path], Subject]] = {
    "torch": torch_door, "torch, signal": signal_door, "keras": keras_door, "sklearn": sklearn_door,
    "skorch": skorch_door, "onnx": onnx_door, ".pt2": exported_door,
    ".rds": rds_door, ".rds of neuralnet": neuralnet_door, ".json": json_door,
    ".safetensors": safetensors_door, "dict": dict_door, "from_r": from_r_door,
}  # fmt: skip


#: Doors of models that are modules of PyTorch, which every method explains.
MODULES = ("torch", "torch, signal")


@pytest.fixture(scope="module")
def subjects(tmp_path_factory) -> dict[str, Subject]:
    return {}


@pytest.fixture
def door(request, subjects, tmp_path) -> Subject:
    if request.param not in subjects:
        subjects[request.param] = DOORS[request.param](tmp_path)
    return subjects[request.param]


@pytest.mark.parametrize("name", CONVERTED)
@pytest.mark.parametrize("door", DOORS, indirect=True)
def test_doors(door, name):
    Trial(METHODS[name], door).check()


#: Doors with several inputs or outputs, which LIME and SHAP do not take.
SEVERAL = ("keras", ".rds", "from_r")


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].kind == "agnostic"])
@pytest.mark.parametrize("door", [name for name in DOORS if name not in SEVERAL], indirect=True)
def test_doors_of_one_input_and_output(door, name):
    Trial(METHODS[name], door).check()


@pytest.mark.parametrize("name", ["LIME", "SHAP"])
@pytest.mark.parametrize("door", SEVERAL, indirect=True)
def test_doors_of_several_inputs_or_outputs(door, name):
    with pytest.raises(ValueError, match="one input"):
        Trial(METHODS[name], door).run()


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].kind == "module"])
@pytest.mark.parametrize("door", MODULES, indirect=True)
def test_modules(door, name):
    Trial(METHODS[name], door).check()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("door", MODULES, indirect=True)
def test_threads(door, name):
    Trial(METHODS[name], door).check_threads()


def test_no_door_is_forgotten():
    assert set(READERS) <= set(DOORS)
    others = {
        "tf_keras",  # needs TensorFlow
        "innsight_py",  # what a file .pt2 holds, which is among the doors
    }
    assert {framework.partition(".")[0] for framework, _, _ in _DOORS} - others <= set(DOORS)


# -- laws of the features ----------------------------------------------------------------------------------------


def network(kind: str, weight: np.ndarray) -> Subject:
    """Return a net whose features (or channels, if there are positions) have a weight of their own each."""
    rng = np.random.default_rng(11)
    if kind == "table":
        first = {"type": "Dense", "weight": weight[:, :, 0], "bias": rng.standard_normal(5), "activation_name": "relu"}
        dim, width = (4,), 5
    else:
        first = {"type": "Conv1D", "weight": weight, "bias": rng.standard_normal(5), "activation_name": "softplus"}
        dim, width = (4, 6), 20
    layers = [
        first, {"type": "Flatten"},
        {"type": "Dense", "weight": rng.standard_normal((4, width)) / 3, "activation_name": "tanh"},
        {"type": "Dense", "weight": rng.standard_normal((3, 4)), "bias": rng.standard_normal(3)},
    ]  # fmt: skip
    converter = Converter({"input_dim": [dim], "layers": layers}, dtype="double")
    module = None
    if kind == "table":
        module = nn.Sequential(
            nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Linear(4, 3)
        ).double()
        with torch.no_grad():
            for linear, layer in zip(module[::2], [layers[0], *layers[2:]], strict=True):
                linear.weight.copy_(torch.tensor(layer["weight"]))
                if "bias" in layer:
                    linear.bias.copy_(torch.tensor(layer["bias"]))
    return Subject.of(converter, module=module)


WEIGHT = np.random.default_rng(12).standard_normal((5, 4, 3))
FEATURES = [(kind, name) for kind, name in itertools.product(("table", "signal"), METHODS)
            if kind == "table" or METHODS[name].kind == "converter"]  # fmt: skip


def both(kind: str, name: str, weight: np.ndarray) -> tuple[Trial, Trial]:
    """Return the net with the usual weight, and with another."""
    return Trial(METHODS[name], network(kind, WEIGHT)), Trial(METHODS[name], network(kind, weight))


@pytest.mark.parametrize(("kind", "name"), FEATURES)
def test_scaled_features(kind, name):
    method = METHODS[name]
    # Powers of 2 are exact. The noise of SmoothGrad comes out of the range of all features: one scale for all.
    scales = np.full(4, 4.0) if method.function.endswith("smoothgrad") else np.array([0.5, 2.0, 4.0, 0.25])
    trial, other = both(kind, name, WEIGHT / scales[:, None])
    along = scales.reshape(1, 4, *[1] * (other.subject.data[0].ndim - 2))
    changed = other.answer(
        data=[x * along for x in trial.subject.data], references=[x * along for x in trial.subject.references]
    )
    trial.near(changed, [x * along[..., None] ** method.power for x in trial.answer()])


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, n in FEATURES if not METHODS[n].noisy])
def test_permuted_features(kind, name):
    order = [2, 0, 3, 1]
    trial, other = both(kind, name, WEIGHT[:, order])
    changed = other.answer(
        data=[x[:, order] for x in trial.subject.data], references=[x[:, order] for x in trial.subject.references]
    )
    trial.near(changed, [x[:, order] for x in trial.answer()])


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, n in FEATURES if not METHODS[n].idle])
def test_features_without_weight(kind, name):
    weight = WEIGHT.copy()
    weight[:, 1] = 0
    (found,) = Trial(METHODS[name], network(kind, weight)).answer()
    assert np.abs(found[:, 0]).max() > 0
    assert np.abs(found[:, 1]).max() <= (1e-6 if METHODS[name].samples else 0)


@pytest.mark.parametrize("kind", ["table", "signal"])
@pytest.mark.parametrize(
    "rule",
    [
        rules.gamma(0.5),
        rules.gamma(0.5, bias="zero"),
        rules.alpha_beta(2.0, bias="zero"),
        rules.w_square(),
        rules.z_plus(),
    ],
)
def test_rules_by_weights_give_features_without_weight_nothing(kind, rule):
    """The exemptions of `idle` are the shared bias's and the flat rule's, not those of LRP's other rules."""
    weight = WEIGHT.copy()
    weight[:, 1] = 0
    (found,) = Trial(Method("run_lrp", {"rule_name": rule}), network(kind, weight)).answer()
    assert np.abs(found[:, 0]).max() > 0
    assert np.abs(found[:, 1]).max() == 0


@pytest.mark.parametrize("rule", [rules.gamma(0.5, bias="share"), rules.flat()])
def test_equal_shares_go_to_features_without_weight_too(rule):
    """One layer's relevance of its bias, or all of it, in equal shares: exact arithmetic."""
    weight, bias = [[2.0, 0.0, 1.0]], [3.0]
    layer = {"type": "Dense", "weight": weight, "bias": bias, "activation_name": "linear"}
    converter = Converter({"input_dim": [3], "layers": [layer]}, dtype="double")
    result = innsight_py.run_lrp(converter, np.ones((1, 3)), rule_name=rule, dtype="double", verbose=False)
    # gamma: (1 + 0.5) times 2, 0, 1 and 3 of 9, times the output 6; the bias's 3 of 6 in three parts of 1
    expected = [2.0, 2.0, 2.0] if isinstance(rule, rules.flat) else [3.0, 1.0, 2.0]
    np.testing.assert_allclose(result.result[0][0][0, :, 0], expected, rtol=1e-12)


def is_fair(method: Method) -> bool:
    """Tell whether equal features have equal answers: no estimate, not multiplied with the feature's own noise."""
    return not method.samples and not (method.noisy and method.power == 0)


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, n in FEATURES if is_fair(METHODS[n])])
def test_equal_features(kind, name):
    """Features that no value and no weight tells apart have equal answers."""
    weight = WEIGHT.copy()
    weight[:, 3] = weight[:, 0]
    trial = Trial(METHODS[name], network(kind, weight))
    for x in (*trial.subject.data, *trial.subject.references):
        x[:, 3] = x[:, 0]
    (found,) = trial.answer()
    trial.near([found[:, 3]], [found[:, 0]])


def test_sampling_methods_treat_equal_and_idle_features_alike():
    """LIME and SHAP on a sum: weights of equal features agree, those of an idle one are next to 0."""

    def model(rows):
        return 2 * rows[:, 0] + 2 * rows[:, 1]

    rng = np.random.default_rng(3)
    background = rng.uniform(-1, 1, (200, 3))
    row = np.array([[0.9, 0.9, 0.9]])
    lime = innsight_py.run_lime(model, row, background, n_permutations=20_000, seed=1, verbose=False).result[0][0]
    assert abs(float(lime[0, 0, 0] / lime[0, 1, 0]) - 1) < 0.2
    assert abs(float(lime[0, 2, 0])) < 0.1 * float(lime[0, 0, 0])
    background[:, 1] = background[:, 0]
    shap = innsight_py.run_shap(model, row, background, seed=1, verbose=False).result[0][0]
    torch.testing.assert_close(shap[0, 0], shap[0, 1])
    assert float(shap[0, 2, 0]) == 0


def test_the_noise_range_is_the_exception():
    """SmoothGrad's noise goes by the range of the whole batch, as in R: another row can change an answer."""
    trial = Trial(METHODS["SmoothGrad"], network("table", WEIGHT))
    other = [x.copy() for x in trial.subject.data]
    other[0][-1, 0] = 100.0
    (before,), (after,) = trial.answer(), trial.answer(data=other)
    assert not np.array_equal(before[0], after[0])


@pytest.mark.parametrize("kind", ["table", "signal"])
@pytest.mark.parametrize("name", ["DeepLift", "DeepLift, reveal-cancel", "DeepSHAP"])
def test_sums_are_goals(name, kind):
    """A mutant that started DeepSHAP's mean over the references at 1 went unnoticed."""
    result = Trial(METHODS[name], network(kind, WEIGHT)).run()
    torch.testing.assert_close(result.result[0][0].flatten(1, -2).sum(1), result.decomp_goal[0], rtol=1e-9, atol=1e-9)
