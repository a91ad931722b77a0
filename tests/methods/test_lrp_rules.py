"""What `rule_name` takes: names, rules, lists, composites; what they mean on a model, and what is refused."""

from __future__ import annotations

import dataclasses
import pickle
import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from innsight_py import LRP, Converter, composites, rules, run_lrp
from innsight_py.functions.lrp import ABOVE, RULES, WHOLE, Side, Table, Term, Weighted
from innsight_py.model.composites import COMPOSITES, composite, needs


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x):
        return (self.norm(self.conv(x)) + x).relu()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), Block(), Block())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dense = nn.Linear(4, 6)
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.dense(self.pool(self.features(x)).flatten(1))))


X = np.random.default_rng(0).normal(size=(2, 3, 8, 8))


@pytest.fixture(scope="module")
def converter():
    torch.manual_seed(0)
    model = Net().double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias)
    return Converter(model, input_dim=(3, 8, 8), dtype="double")


def chosen(converter, rule_name, **keys):
    """Return which layers a rule was chosen for, by anything but a default."""
    return {(row.layer, row.rule) for row in converter.show_rules(rule_name, **keys) if row.why != "default"}


WANTED = {
    "first": ["features.0"],
    "last": ["out"],
    "first convolution": ["features.0"],
    "last convolution": ["features.0", "features.3.conv", "features.4.conv"],  # others reach the end through sums
    "first dense": ["dense"],
    "dense": None,
    "family:dense": ["dense", "out"],
    "module:dense": ["dense"],
    "convolution": ["features.0", "features.3.conv", "features.4.conv"],
    "Conv2D_Layer": ["features.0", "features.3.conv", "features.4.conv"],
    "class:Conv2D_Layer": ["features.0", "features.3.conv", "features.4.conv"],
    "features.0": ["features.0"],
    "*conv": ["features.3.conv", "features.4.conv"],
    "features.3": ["features.3.conv", "features.3.norm", "features.3"],
    "features.[34].conv": ["features.3.conv", "features.4.conv"],
    "batch_norm": ["features.3.norm", "features.4.norm"],
    "average_pooling": ["pool"],
    "sum": ["features.3", "features.4"],
}


@pytest.mark.parametrize("selector", [key for key, value in WANTED.items() if value])
def test_selectors(converter, selector):
    found = [layer for layer, _ in sorted(chosen(converter, [(selector, rules.flat())]))]
    assert found == sorted(WANTED[selector])


def test_a_name_stands_for_all_within(converter):
    inside = {layer for layer, _ in chosen(converter, [("features", rules.gamma())])}
    assert inside == {layer for layer, _ in chosen(converter, [("features.*", rules.gamma())])}
    assert inside == {
        "features.0", "features.3.conv", "features.3.norm", "features.3", "features.4.conv", "features.4.norm",
        "features.4",
    }  # fmt: skip


def test_the_first_that_means_a_layer_counts(converter):
    pairs = [
        ("first", rules.z_box(-4, 4)), ("features.4.*", rules.gamma(0.25)), ("sum", rules.proportional()),
        ("convolution", "z_plus"), ("family:dense", rules.epsilon(0.01)),
    ]  # fmt: skip
    assert chosen(converter, pairs) == {
        ("features.0", "z_box(-4, high=4)"), ("features.4.conv", "gamma(0.25)"), ("features.4.norm", "gamma(0.25)"),
        ("features.4", "gamma(0.25)"), ("features.3", "proportional()"), ("features.3.conv", "z_plus()"),
        ("dense", "epsilon(0.01)"), ("out", "epsilon(0.01)"),
    }  # fmt: skip
    assert LRP(converter, X, rule_name=pairs).get_result().shape == (2, 3, 8, 8, 3)


def test_activations_are_found_where_they_are_a_part_of_a_layer(converter):
    merged = [("activation", rules.gradient())]
    rows = [row for row in converter.show_rules(merged) if row.rule == "gradient()"]
    assert [(row.layer, row.kind) for row in rows if "(" in row.kind] == [
        ("features.0", "Conv2D_Layer (relu)"), ("dense", "Dense_Layer (tanh)"),
    ]  # fmt: skip
    assert len(rows) == 4  # and two ReLUs behind sums
    one = [row for row in converter.show_rules([("features.1", rules.gradient())]) if row.why != "default"]
    assert [row.kind for row in one] == ["Conv2D_Layer (relu)"]
    everything = [("activation", rules.gradient()), ("batch_norm", rules.gradient())]
    assert not np.allclose(
        run_lrp(converter, X, rule_name=everything).get_result(), run_lrp(converter, X).get_result(), rtol=1e-2
    )


REFUSED = [
    ([("dense", rules.flat())], "'dense' is a family of layers and a name in the model; write 'family:dense' or"),
    ([("features.9", rules.flat())], "no layer or module 'features.9'.*did you mean 'features"),
    ([("convolutions", rules.flat())], "did you mean 'convolution'"),
    ([("family:nothing", rules.flat())], "'nothing'"),
    ([("convolution", rules.pass_())], "'features.0'.*cannot use the rule 'pass'.*it takes simple, epsilon"),
    ([("convolution", rules.proportional())], "cannot use the rule 'proportional'"),
    ([("batch_norm", rules.equal())], "'features.3.norm' .BatchNorm_Layer.*cannot use the rule 'equal'"),
    ([("activation", rules.gamma())], "cannot use the rule 'gamma'"),
    ([("features.1", rules.gamma())], "the activation relu of the layer 'features.0' cannot use the rule 'gamma'"),
    ([("features.2", rules.gamma())], "'features.2'.*pass winner_takes_all=False"),
    ([("max_pooling", rules.equal())], "pass winner_takes_all=False"),
    ([("Flatten_Layer", rules.flat())], "no rule, since there is only one way"),
    (rules.proportional(), "cannot use the rule 'proportional'"),
    (rules.winner(), "cannot use the rule 'winner'"),
    ([("convolution", "epsilom")], "did you mean 'epsilon'"),
    ([("convolution", "z_box")], "got 'z_box'"),
    ("epsilon_gamma_box", r"needs low and high; pass composites.epsilon_gamma_box\(low=..., high=...\)"),
    ("epsilon_pluss", "did you mean 'epsilon_plus"),
    ([("first", rules.z_box(np.zeros((3, 7, 8)), 1))], r"gets values of shape \(3, 8, 8\)"),
]  # fmt: skip


@pytest.mark.parametrize(("rule_name", "said"), REFUSED)
def test_what_is_refused(converter, rule_name, said):
    for call in (lambda: converter.show_rules(rule_name), lambda: run_lrp(converter, X, rule_name=rule_name)):
        with pytest.raises(ValueError, match=f"'rule_name'.*{said}"):
            call()


@pytest.mark.parametrize("rule_name", [[], [("dense",)], [(5, rules.flat())], [["dense", "flat", 1]], ["flat"]])
def test_what_is_no_list_of_rules(converter, rule_name):
    with pytest.raises(TypeError, match="'rule_name'"):
        run_lrp(converter, X, rule_name=rule_name)


def test_parameters_go_with_names(converter):
    np.testing.assert_array_equal(
        run_lrp(converter, X, rule_name="gamma", rule_param=0.5, merge_batch_norm=True).get_result(),
        run_lrp(converter, X, rule_name=rules.gamma(0.5), merge_batch_norm=True).get_result(),
    )
    for rule_name in ("epsilon_plus", rules.epsilon(0.1), [("convolution", "epsilon")]):
        with pytest.raises(ValueError, match="'rule_param': it belongs to the name of a rule"):
            run_lrp(converter, X, rule_name=rule_name, rule_param=0.5)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: rules.epsilon("0.1"), TypeError, "'epsilon'"),
        (lambda: rules.epsilon(float("nan")), ValueError, "'epsilon'"),
        (lambda: rules.gamma(-1), ValueError, "'gamma': expected a number of at least 0"),
        (lambda: rules.epsilon(-1), ValueError, "'epsilon': expected a number of at least 0, got -1"),
        (lambda: composites.epsilon_plus(-0.1), ValueError, "'epsilon': expected a number of at least 0"),
        (lambda: rules.alpha_beta(2, beta=2), ValueError, r"'beta': expected alpha - 1 = 1"),
        (lambda: rules.alpha_beta(2, beta="1"), TypeError, "'beta'"),
        (lambda: rules.z_box(1, -1), ValueError, "'low'"),
        (lambda: rules.z_box("0", 1), TypeError, "'low'"),
        (lambda: rules.z_box(0, [1, float("inf")]), ValueError, "'high'"),
        (lambda: rules.z_box([0, 0], [1, 1, 1]), ValueError, "'high'"),
        (lambda: rules.z_plus(bias="drop"), ValueError, "'bias'.*'keep', 'zero', 'share'"),
        (lambda: rules.flat(stabilizer=-1), ValueError, "'stabilizer'"),
        (lambda: rules.flat(stabilizer="1e-6"), TypeError, "'stabilizer'"),
        (lambda: rules.flat(stabilizer=float), TypeError, "'stabilizer'"),
    ],
)
def test_parameters_of_rules(make, error, said):
    with pytest.raises(error, match=said):
        make()


@pytest.mark.parametrize("rule", ["epsilon", "gamma"])
def test_negative_parameters_by_name(converter, rule):
    """Below 0 the epsilon rule would bring preactivations nearer to 0, and beyond it."""
    said = f"'rule_param': for the rule '{rule}' expected a number of at least 0, got -0.1"
    for given in ({"rule_name": rule, "rule_param": -0.1}, {"rule_name": {"Dense_Layer": rule}, "rule_param": -0.1}):
        with pytest.raises(ValueError, match=said):
            run_lrp(converter, X, **given)


def test_rules_are_values():
    assert rules.alpha_beta(2, beta=1) == rules.alpha_beta(2) != rules.alpha_beta(1)
    assert rules.epsilon(0.1) != rules.epsilon(0.1, bias="zero")
    assert rules.epsilon(0.1).key != rules.epsilon(0.1 + 1e-12).key
    assert rules.z_box([0.0, 1.0], 2).key != rules.z_box([0.0, 0.5], 2).key
    assert repr([rules.epsilon(), rules.gamma(0.5, bias="share"), rules.flat(stabilizer=1e-6)]) == (
        "[epsilon(0.001), gamma(0.5, bias='share'), flat(stabilizer=1e-06)]"
    )
    for name in set(rules.__all__) - {"Rule", "z_box"}:
        rule = getattr(rules, name)()
        assert pickle.loads(pickle.dumps(rule)) == rule  # noqa: S301 (our own)


def test_a_result_with_rules_is_pickled(converter):
    found = run_lrp(converter, X, rule_name=composites.epsilon_gamma_box(-4, 4), merge_batch_norm=True)
    again = pickle.loads(pickle.dumps(found))  # noqa: S301 (our own)
    np.testing.assert_array_equal(again.get_result(), found.get_result())
    assert again.residual.reasons == found.residual.reasons
    assert "first convolution: z_box(-4, high=4)" in repr(again)


def test_bounds_in_the_layout_of_the_data(converter):
    """Arrays lie as the data do, may have an axis for the batch, and go where a flattening layer moves the input."""
    low, high = -np.abs(np.random.default_rng(1).normal(size=(3, 8, 8))) - 4, 5.0
    first = run_lrp(converter, X, rule_name=[("first", rules.z_box(low, high))]).get_result()
    with_batch = run_lrp(converter, X, rule_name=[("first", rules.z_box(low[None], high))]).get_result()
    np.testing.assert_array_equal(with_batch, first)
    for last in (np.moveaxis(low, 0, -1), np.moveaxis(low, 0, -1)[None]):
        moved = run_lrp(
            converter, np.moveaxis(X, 1, -1), rule_name=[("first", rules.z_box(last, high))], channels_first=False
        ).get_result()
        np.testing.assert_array_equal(np.moveaxis(moved, 3, 1), first)
    channels = run_lrp(converter, X, rule_name=[("first", rules.z_box(np.full((3, 1, 1), -5.0), high))]).get_result()
    np.testing.assert_array_equal(
        channels, run_lrp(converter, X, rule_name=[("first", rules.z_box(-5, high))]).get_result()
    )
    flat = Converter(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), input_dim=(3, 8, 8))
    np.testing.assert_array_equal(
        run_lrp(flat, X, rule_name=[("first", rules.z_box(low, high))]).get_result(),
        run_lrp(flat, X, rule_name=[("first", rules.z_box(low.ravel(), high))]).get_result(),
    )


def test_values_outside_of_the_bounds_warn(converter):
    with pytest.warns(
        UserWarning, match=r"'features.0' with the rule z_box\(-1, high=4\) gets values from -.* between"
    ):
        run_lrp(converter, X, rule_name=[("first", rules.z_box(-1, 4))])
    ends = rules.z_box(X.min() + 1e-9, X.max())  # rounding does not warn
    run_lrp(converter, X, rule_name=[("first", ends)], dtype="double")


def test_constants_are_not_first():
    """What is computed from constants alone comes from no input, also where it goes through a layer with weights."""

    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.place, self.out = nn.Linear(4, 3), nn.Linear(2, 3), nn.Linear(3, 1)

        def forward(self, x):
            return self.out(self.embed(x) + self.place(torch.ones(1, 2)))

    found = chosen(Converter(Positions(), input_dim=(4,)), [("first", rules.flat())])
    assert found == {("embed", "flat()")}


# -- composites --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", composites.__all__)
def test_composites_by_name(converter, name):
    given = dict.fromkeys(needs(name), 4.0) | ({"low": -4.0} if needs(name) else {})
    pairs = getattr(composites, name)(**given)
    assert set(composites.__all__) == set(COMPOSITES)
    expected = run_lrp(converter, X, rule_name=pairs, dtype="double").get_result()
    if not given:
        np.testing.assert_array_equal(run_lrp(converter, X, rule_name=name, dtype="double").get_result(), expected)
    parameters = getattr(composites, name)(**given, bias="zero", stabilizer=1e-6)
    assert {rule.bias for _, rule in parameters if hasattr(rule, "bias")} <= {"zero", "keep"}
    other = run_lrp(converter, X, rule_name=parameters, dtype="double").get_result()
    assert not np.allclose(other, expected, rtol=1e-3)


def test_own_rules_in_front_of_a_composite(converter):
    pairs = [("features.3", rules.gamma(1)), *composites.epsilon_plus()]
    assert ("features.3.conv", "gamma(1)") in chosen(converter, pairs)
    assert ("features.4.conv", "z_plus()") in chosen(converter, pairs)


def test_a_rule_and_a_composite_are_added_in_one_place(converter):
    """A rule is a class, a composite a function; both then have names, and every linear layer takes the rule."""

    @dataclass(frozen=True, repr=False)
    class Half(Weighted):
        """As alpha 1, beta 0, with half of the relevance."""

        part: float = 0.5
        name: ClassVar[str] = "half"

        def table(self) -> Table:
            terms = Term(ABOVE, ABOVE), Term(WHOLE, WHOLE, 1)
            return Table(terms, (Side(ABOVE, self.part), Side(factor=1 - self.part)))

    @composite
    def half_everywhere(part: float = 0.5):
        return [("family:dense", Half(part)), ("family:convolution", Half(part)), ("sum", Half(part))]

    try:
        found = chosen(converter, "half_everywhere")
        assert ("features.3", "half(0.5)") in found
        assert ("features.0", "half(0.5)") in found
        assert RULES["half"] is Half
        dense = Converter({"input_dim": [2], "layers": [{"type": "Dense", "weight": [[1.0, 3.0]]}]}, dtype="double")
        relevance = run_lrp(dense, [[2.0, -0.5]], rule_name=Half(0.25), dtype="double").get_result()[0, :, 0]
        np.testing.assert_allclose(relevance, 0.25 * np.array([0.5, 0]) + 0.75 * np.array([2, -1.5]), rtol=1e-6)
        assert run_lrp(converter, X, rule_name=[("convolution", "half")]).get_result().shape == (2, 3, 8, 8, 3)
    finally:
        del RULES["half"], COMPOSITES["half_everywhere"]


# -- showing -----------------------------------------------------------------------------------------------------


def test_shown_rules(converter):
    table = converter.show_rules("epsilon_plus", merge_batch_norm=True)
    lines = repr(table).splitlines()
    assert re.split(r"  +", lines[0]) == ["layer", "class", "rule", "why"]
    assert re.split(r"  +", lines[1]) == ["features.0", "Conv2D_Layer", "z_plus()", "family 'convolution'"]
    assert len(lines) == len(table) + 1 == len(list(table)) + 1
    assert "BatchNorm_Layer" not in repr(table)
    assert "<td>features.0</td>" in table._repr_html_()
    assert dataclasses.astuple(table[0])[2] == "z_plus()"
    default = {row.kind: row.rule for row in converter.show_rules()}
    assert default["Adding_Layer"] == "equal()"
    assert default["MaxPool2D_Layer"] == "winner()"
    assert {row.kind: row.rule for row in converter.show_rules(winner_takes_all=False)}["MaxPool2D_Layer"] == "simple()"


def test_layers_without_a_rule_are_shown():
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Softmax(1), nn.Linear(4, 1))
    said = {row.kind: row.rule for row in Converter(model, input_dim=(4,)).show_rules()}
    assert said["Standardize_Layer"] == "no rule: LRP stops here"
    assert said["Activation"].startswith("no rule")


def test_a_softmax_within_can_take_the_gradient():
    model = nn.Sequential(nn.Linear(4, 4), nn.Softmax(1), nn.Linear(4, 2)).double()
    converter, x = Converter(model, input_dim=(4,), dtype="double"), torch.randn(3, 4, dtype=torch.float64)
    p, jacobian = model[:2](x), torch.autograd.functional.jacobian(lambda z: z.softmax(1).sum(0), model[0](x))
    pre = model[0](x)
    upper = torch.einsum("boi->bio", p[:, None] * model[2].weight / model[2](x)[..., None] * model[2](x)[..., None])
    middle = torch.einsum("jbi,bjo->bio", jacobian, upper)
    expected = torch.einsum("bjo,bj,ji,bi->bio", middle, 1 / pre, model[0].weight, x)
    found = run_lrp(converter, x, rule_name=[("softmax", rules.gradient())], dtype="double").get_result()
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-8)
    with pytest.raises(ValueError, match=r"cannot use the rule 'pass'.*it takes gradient"):
        run_lrp(converter, x, rule_name=[("softmax", rules.pass_())])
