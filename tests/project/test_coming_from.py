"""The calls of ``docs/coming-from.md`` run as they stand there, and those of a row give the same numbers."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import innsight_py
from innsight_py import Converter

TEXT = (Path(__file__).parents[2] / "docs" / "coming-from.md").read_text()
#: How far rows may be apart, relative to the largest value, where something is drawn (more often than the page says).
DRAWN = {
    "NoiseTunnel": 0.05,
    "GradientShap": 0.1,
    "ShapleyValueSampling": 0.05,
    "GradientExplainer": 0.1,
    "Permutation": 0.2,
}
MORE = {
    "nt_samples=50": "nt_samples=5000",
    "n_samples=50": "n_samples=5000",
    "n=50": "n=5000",
    "n=200": "n=5000",
    "nsim=25": "nsim=200",
}
OURS = {name: getattr(innsight_py, name) for name in innsight_py.__all__}


def rows(section):
    """Return the code in both cells of each row of a section's table."""
    (part,) = re.findall(rf"^## {section}\n(.*?)^## ", TEXT, re.DOTALL | re.MULTILINE)
    lines = [line.strip("|").split(" | ") for line in part.splitlines() if line.startswith("| `")]
    return [tuple(re.findall(r"`([^`]+)`", cell) for cell in line) for line in lines]


def calls(section, mark):
    return [(left[0], right[0]) for left, right in rows(section) if re.search(mark, left[0])]


CAPTUM = calls("captum", r"\.attribute\(")
SHAP = calls("shap", "Explainer")


@pytest.fixture
def names():
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002 (shap draws from it)
    model = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3)).eval()
    x, background = torch.randn(5, 4), torch.randn(6, 4)
    level = 0.1

    def f(data):
        with torch.no_grad():
            return model(torch.as_tensor(data, dtype=torch.float32)).numpy()

    return OURS | {
        "model": model, "converter": Converter(model, input_dim=(4,)), "x": x, "b": background[:1], "B": background,
        "k": 1, "f": f, "level": level, "s": level * float(x.max() - x.min()), "torch": torch,
    }  # fmt: skip


def evaluate(code, left, names):
    """Run a call; one that draws does so often enough to be compared."""
    if any(name in left for name in ("NoiseTunnel", "GradientShap", "GradientExplainer", "ShapleyValueSampling")):
        for few, many in MORE.items():
            code = re.sub(rf"\b{few}\b", many, code)
        code = code.replace(".shap_values(x)", ".shap_values(x, nsamples=5000)")
        code = code.replace("ShapleyValueSampling", "ShapleyValues")  # those that both draw for
    return eval(code, names)  # noqa: S307


def compare(left, found, expected):
    expected = np.asarray(expected.detach() if isinstance(expected, torch.Tensor) else expected)
    found = found.get_result().reshape(expected.shape)
    allowed = next((relative for name, relative in DRAWN.items() if name in left), 1e-4)
    assert np.abs(found - expected).max() < allowed * np.abs(expected).max()


def test_nothing_is_left_out():
    assert len(CAPTUM) == 13
    assert len(SHAP) == 3


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks:UserWarning")
@pytest.mark.filterwarnings("ignore:Input Tensor .* did not already require gradients:UserWarning")
@pytest.mark.parametrize(("left", "right"), CAPTUM, ids=lambda code: code.partition("(")[0])
def test_captum(left, right, names):
    captum = pytest.importorskip("captum.attr")
    names |= {name: getattr(captum, name) for name in captum.__all__}
    compare(left, evaluate(right, left, names), evaluate(left, left, names))


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks:UserWarning")
@pytest.mark.filterwarnings("ignore:Input Tensor .* did not already require gradients:UserWarning")
def test_captum_epsilon(names):
    """The row that needs a loop."""
    pytest.importorskip("captum")
    from captum.attr import LRP
    from captum.attr._utils.lrp_rules import EpsilonRule

    (right,) = re.findall(r"`EpsilonRule\(0.01\)`|EpsilonRule\(0.01\)` for each module \| `([^`]+)`", TEXT)
    for module in names["model"]:
        if isinstance(module, nn.Linear):
            module.rule = EpsilonRule(0.01)
    compare("LRP", eval(right, names), LRP(names["model"]).attribute(names["x"], target=1))  # noqa: S307


@pytest.mark.filterwarnings("ignore:.*scalar:DeprecationWarning")  # shap's own, with numpy 2.4
@pytest.mark.parametrize(("left", "right"), SHAP, ids=lambda code: code.partition("(")[0])
def test_shap(left, right, names):
    names["shap"] = pytest.importorskip("shap")
    if "Permutation" in left:
        names |= {"x": names["x"].numpy(), "B": names["B"].numpy()}
    compare(left, evaluate(right, left, names), evaluate(left, left, names))


def test_base_values(names):
    shap = pytest.importorskip("shap")
    x, background = names["x"].numpy(), names["B"].numpy()
    names["explanation"] = shap.PermutationExplainer(names["f"], background)(x)
    names["result"] = innsight_py.run_shap(names["f"], x, background)
    ((left, right),) = [(left[0], right[0]) for left, right in rows("shap") if "base_values" in left[0]]
    np.testing.assert_allclose(eval(right, names), eval(left, names), atol=1e-5)  # noqa: S307


def test_base_values_before_a_last_activation():
    """The trap: predictions are probabilities there, and goals differences of scores."""
    shap = pytest.importorskip("shap")
    torch.manual_seed(5)
    scores = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    converter = Converter(nn.Sequential(scores, nn.Softmax(1)), input_dim=(4,))
    background, x = torch.randn(8, 4), torch.randn(3, 4)

    def f(rows):
        with torch.no_grad():
            return scores(torch.as_tensor(rows, dtype=torch.float32)).numpy()

    base = shap.PermutationExplainer(f, background.numpy())(x.numpy()).base_values
    ((right,),) = [right[:1] for left, right in rows("shap") if "base_values" in left[0]]
    for run in (innsight_py.run_deepshap, innsight_py.run_expgrad):
        names = {"result": run(converter, x, data_ref=background)}
        np.testing.assert_allclose(eval(right, names), base, atol=1e-5)  # noqa: S307


@pytest.mark.parametrize("section", ["captum", "shap"])
def test_what_is_said_of_results(section, names):
    """Every line that begins with a result can be called."""
    found = [code for _, right in rows(section) for code in right if code.startswith("result.")]
    assert found
    images = Converter(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)), input_dim=(1, 4, 4))
    for code in found:
        is_image = "image=True" in code
        data = torch.rand(2, 1, 4, 4) if is_image else names["x"]
        names["result"] = innsight_py.run_deeplift(images if is_image else names["converter"], data)
        assert eval(code, names) is not None  # noqa: S307


@pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")
def test_innvestigate_rows_run_on_a_keras_model(names):
    """Those of innvestigate were read in its sources; ours are run."""
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, "relu"), keras.layers.Dense(3, "softmax")])
    names["converter"] = Converter(model)
    calls = [code for _, right in rows("innvestigate") for code in right if code.startswith("run_")]
    assert len(calls) == 7
    for call in calls:
        assert eval(call, names).get_result().shape == (5, 4, 3)  # noqa: S307


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 12), nn.Linear(12, 1)

    def forward(self, x):
        return self.last(nn.functional.relu(self.first(x)))


@pytest.mark.filterwarnings("ignore:.*scalar:DeprecationWarning")  # shap's own, with numpy 2.4
def test_what_the_readme_says_of_shap():
    """Its check stops DeepExplainer at a function, and at windows that overlap."""
    shap = pytest.importorskip("shap")
    torch.manual_seed(4)
    images = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, 1), nn.Flatten(), nn.Linear(32, 1)).eval()
    for model, dim in ((Functional().eval(), (4,)), (images, (1, 8, 8))):
        x, background = torch.randn(3, *dim), torch.randn(1, *dim)
        with pytest.raises(AssertionError, match="do not sum up to the model's output"):
            shap.DeepExplainer(model, background).shap_values(x)
        result = innsight_py.run_deepshap(
            Converter(model, input_dim=dim), x, data_ref=background, winner_takes_all=False
        )
        assert result.residual.relative[0].abs().max() < 1e-4


@pytest.mark.filterwarnings("ignore:Setting forward, backward hooks:UserWarning")
@pytest.mark.filterwarnings("ignore:Input Tensor .* did not already require gradients:UserWarning")
def test_what_the_readme_says_of_captum():
    """A layer without a rule: its LRP stops, its DeepLift gives what a plain gradient gives, without a word."""
    captum = pytest.importorskip("captum.attr")
    torch.manual_seed(4)
    model = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 1)).eval()
    x = torch.randn(3, 4)
    with pytest.raises(TypeError, match="GELU"):
        captum.LRP(model).attribute(x, target=0)
    gradient = captum.InputXGradient(model).attribute(x, target=0)
    torch.testing.assert_close(captum.DeepLift(model).attribute(x, torch.zeros(1, 4), 0), gradient)


def test_no_other_has_a_command():
    scripts = {entry.dist.name for entry in importlib.metadata.entry_points(group="console_scripts") if entry.dist}
    assert "innsight_py" in {name.replace("-", "_") for name in scripts}
    assert not scripts & {"captum", "shap"}
