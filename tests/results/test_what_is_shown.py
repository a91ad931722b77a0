"""What is shown belongs to the method: goals, labels, ranks in mixed units, gaps, activations, and why LRP explodes."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import innsight_py as ip
from innsight_py import Converter

RNG = np.random.default_rng(7)
UNITS = np.array([1.0, 1000.0, 0.01])


def units() -> tuple[Converter, np.ndarray]:
    """Make a linear model of features in units that lie far apart; what a standard deviation does is 1, 5 and 2."""
    weight = np.array([[1.0, 5.0, 2.0]]) / UNITS
    layers = [{"type": "Dense", "weight": weight}]
    return Converter({"input_dim": [3], "layers": layers, "input_names": ["mm", "grams", "metres"]}), (
        RNG.normal(size=(400, 3)) * UNITS
    )


@pytest.mark.parametrize("run", [ip.run_grad, lambda c, x: ip.run_smoothgrad(c, x, seed=1)], ids=["grad", "smooth"])
def test_gradients_are_ranked_by_what_a_typical_change_does(run):
    converter, x = units()
    summary = run(converter, x).summary()
    assert list(summary["feature"]) == ["grams", "metres", "mm"]
    np.testing.assert_allclose(summary["times_sd"], [5, 2, 1], rtol=0.1)
    np.testing.assert_allclose(summary["share"], [5 / 8, 2 / 8, 1 / 8], rtol=0.1)
    np.testing.assert_allclose(summary["mean_abs"], [0.005, 200, 1], rtol=1e-5)
    assert "standard deviation" in summary.attrs["note"]


def test_weights_of_each_rows_class_are_so_too():
    converter, x = units()
    assert list(ip.run_cw(converter, x, target="predicted").summary()["feature"]) == ["grams", "metres", "mm"]


def test_relevances_and_single_rows_are_ranked_as_they_are():
    converter, x = units()
    for result in (
        ip.run_grad(converter, x, times_input=True),
        ip.run_lrp(converter, x),
        ip.run_grad(converter, x[:1]),
    ):
        assert "times_sd" not in result.summary()
        assert not result.summary().attrs
    assert list(ip.run_grad(converter, x[:1]).summary()["feature"]) == ["metres", "mm", "grams"]


def test_images_have_one_unit():
    converter = Converter(nn.Sequential(nn.Conv2d(1, 1, 2), nn.Flatten()), input_dim=(1, 3, 3))
    assert "times_sd" not in ip.run_grad(converter, torch.randn(5, 1, 3, 3)).summary()


@pytest.mark.filterwarnings("ignore:.*hold NaN:UserWarning")
@pytest.mark.parametrize("activation", ["tanh", "relu"])  # the gradient of relu is finite where its value is NaN
@pytest.mark.parametrize("run", [ip.run_grad, ip.run_deeplift], ids=["grad", "deeplift"])
def test_rows_with_gaps_are_left_out_and_counted(run, activation):
    converter = Converter({"input_dim": [3], "layers": [
        {"type": "Dense", "weight": RNG.normal(size=(4, 3)), "activation_name": activation},
        {"type": "Dense", "weight": RNG.normal(size=(2, 4))},
    ]})  # fmt: skip
    x = RNG.normal(size=(6, 3))
    gaps = np.vstack([x, [[np.nan, 1.0, 1.0]]])
    found, expected = run(converter, gaps).summary(), run(converter, x).summary()
    assert set(found.pop("left_out")) == {1}
    assert "left_out" not in expected
    for column in expected.columns:
        if expected[column].dtype.kind == "f":
            np.testing.assert_allclose(found[column], expected[column], rtol=1e-5, atol=1e-12)
        else:
            assert list(found[column]) == list(expected[column])


# -- pictures -------------------------------------------------------------------------------------------------------


def test_a_goal_stands_only_where_there_is_one():
    converter, x = units()
    written = {
        name: dict(run(converter, x[:5]).plot().frame.info[0, 0].lines)
        for name, run in (
            ("grad", ip.run_grad), ("smooth", lambda c, x: ip.run_smoothgrad(c, x, seed=1)), ("lrp", ip.run_lrp),
            ("times", lambda c, x: ip.run_grad(c, x, times_input=True)),
            ("sensitivity", lambda c, x: ip.run_intgrad(c, x, times_input=False)),
        )
    }  # fmt: skip
    assert [name for name, lines in written.items() if "Goal" in lines] == ["lrp", "times"]
    assert ip.run_grad(converter, x).get_result("data.frame")["decomp_goal"].notna().all()  # R's columns stay


def test_magnitudes_are_called_so():
    converter, x = units()
    result = ip.run_deeplift(converter, x)
    assert result.plot_global().frame.panels[0, 0, 0].value_name == "|Contribution|"
    assert result.plot_global(preprocess_fun=lambda v: v).frame.panels[0, 0, 0].value_name == "Contribution"
    assert result.plot().frame.panels[0, 0, 0].value_name == "Contribution"
    assert result.plot_global().axes[0, 0, 0].get_ylabel() == "|Contribution|"
    image = Converter(nn.Sequential(nn.Conv2d(2, 1, 2), nn.Flatten()), input_dim=(2, 3, 3))
    norm = ip.run_grad(image, torch.randn(2, 2, 3, 3)).plot(aggr_channels="norm").frame.panels[0, 0, 0]
    assert (norm.value_name, norm.scale_title) == ("|Gradient|", "|Gradient|")


def test_a_converter_shows_its_activations():
    layers = [
        {"type": "Scale", "factor": 2.0, "preprocessing": True},
        {"type": "Dense", "weight": np.eye(2), "activation_name": "relu"}, {"type": "Dense", "weight": np.eye(2)},
    ]  # fmt: skip
    converter = Converter({"input_dim": [2], "layers": layers})
    for text in (repr(converter), converter._repr_html_()):
        assert "Scale_Layer (preparation)" in text
        assert "Dense_Layer + relu" in text
    assert "3. Dense_Layer: input_dim" in repr(converter)


# -- relevances that explode ----------------------------------------------------------------------------------------


def test_exploding_relevance_has_its_true_reason():
    """A sigmoid of 1e-6 is a half, of which the rule simple shares out 3 and -3 millionths."""
    first = {"type": "Dense", "weight": np.array([[1.0, -1.0]]), "activation_name": "sigmoid", "name": "first"}
    last = {"type": "Dense", "weight": np.array([[10.0]]), "bias": np.array([0.1])}
    converter, x = Converter({"input_dim": [2], "layers": [first, last]}), [[3.000001, 3.0]]
    with pytest.warns(UserWarning, match="relevances of") as caught:
        result = ip.run_lrp(converter, x, dtype="double")
    (said,) = [str(w.message) for w in caught]
    assert abs(result.get_result()).max() > 500 * 5
    assert "divides by preactivations near 0" in said
    assert "of the layer 'first' (Dense_Layer)" in said
    assert "the smallest has the magnitude 1e-06" in said
    assert 'with rule_name="' in said
    assert result.residual.reasons[0].startswith("the rule")
    name = said.split('rule_name="')[1].split('"')[0]
    calm = ip.run_lrp(converter, x, rule_name=name, dtype="double").get_result()
    assert abs(calm).max() < 500 * 5


def test_usual_relevances_are_not_warned_of():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ip.run_lrp(Converter(module, input_dim=(1, 6, 6)), torch.randn(4, 1, 6, 6))
    assert not caught
