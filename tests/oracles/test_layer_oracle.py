"""Every backward rule of every layer type against dense matrices and autograd's Jacobian (`oracle.py`).

The numbers come in three settings. In "double" they are normal draws. In "double-grid" and "float-grid" weights and
data are small multiples of powers of two, so that sums are exact in both precisions and the cases that need exact
equality really occur, and occur on both sides: preactivations of 0, features that equal their reference, ties in a
window, parts of a difference that vanish.

Errors are measured feature by feature, against what rounding may cost there on any machine (`rounding.py`): in
proportion to the sizes of the terms that meet in the feature's value, and to what these were made of.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import zlib
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from oracle import ACTIVATIONS, Oracle
from rules_of_r import rule_for

from innsight_py.functions import activations
from innsight_py.layers import DeepLiftRule, Record, UnsupportedLayerError
from innsight_py.layers.activation import sparsemax_multiplier
from innsight_py.model.converted import ConvertedModel
from innsight_py.spec import check_spec

SETTINGS = ("double", "double-grid", "float-grid")
#: Explained outputs and rows.
SIZES = ((1, 1), (1, 3), (3, 3))
USUAL = ("linear", "relu", "tanh", "sigmoid", "leaky_relu", "softplus", "softmax")
#: Every rule with the parameters to try; None is the default.
LRP_RULES = {"simple": (None,), "epsilon": (None, 1e-6, 0.25), "alpha_beta": (None, 1.0, 0.0, 2.0, -1.0)}
DEEPLIFT_RULES = ("rescale", "reveal_cancel")


# -- cases: a layer without its weights, and the shapes that come to it ------------------------------------------


@dataclass(frozen=True)
class Case:
    """A layer of the spec, without numbers that are drawn."""

    kind: str
    dims: tuple[tuple[int, ...], ...]
    keys: tuple[tuple[str, object], ...] = ()

    def __str__(self) -> str:
        shapes = " ".join("x".join(map(str, dim)) for dim in self.dims)
        keys = ",".join(f"{key}={value}" for key, value in self.keys)
        return f"{self.kind}[{shapes}{' ' if keys else ''}{keys}]".replace(" ", "_")

    def __getitem__(self, key):
        return dict(self.keys)[key]


def case(kind, *dims, **keys) -> Case:
    return Case(kind, dims, tuple((key, value) for key, value in keys.items() if value is not None))


DENSE = [case("Dense", (n,), out=out, bias=bias) for n, out, bias in ((3, 1, True), (4, 3, True), (6, 5, False))]
CONV1D = [
    case("Conv1D", (2, 7), out=3, kernel=(k,), stride=s, dilation=d, padding=p, bias=p != (2, 1))
    for k, s, d, p in itertools.product((1, 2, 3), (1, 2, 3), (1, 2), ((0, 0), (2, 1)))
    if k > 1 or d == 1
]
CONV2D = [
    case("Conv2D", (2, 4, 5), out=2, kernel=k, stride=s, dilation=d, padding=p, bias=s != (2, 1))
    for k, s, d, p in itertools.product(
        ((1, 1), (2, 3), (3, 2)), (1, (2, 1), (1, 3)), (1, (1, 2)), ((0, 0, 0, 0), (1, 2, 0, 1))
    )
    if k != (1, 1) or d == 1
    if k != (2, 3) or d == 1 or p != (0, 0, 0, 0) or s == 1
]
WITH_WEIGHT = [*DENSE, *CONV1D, *CONV2D]
POOLING = [
    *(
        case(f"{kind}Pooling1D", (2, 7), kernel_size=k, strides=s)
        for kind, k, s in itertools.product(("Average", "Max"), (1, 2, 3), (None, 1, 2, 4))
    ),
    *(
        case(f"{kind}Pooling2D", (2, 4, 5), kernel_size=k, strides=s)
        for kind, k, s in itertools.product(("Average", "Max"), (2, (1, 3), (3, 2)), (None, 1, (1, 2), (3, 1)))
    ),
    *(
        case("GlobalPooling", dim, method=method, keepdims=keepdims)
        for dim, method, keepdims in itertools.product(((3, 5), (2, 3, 4)), ("average", "max"), (False, True))
    ),
]
NORMALIZATION = [
    case("BatchNorm", dim, with_beta=beta) for dim, beta in itertools.product(((5,), (3, 4), (3, 2, 3)), (True, False))
]
STRUCTURE = [
    case("Padding", (2, 4), padding=(1, 2)),
    case("Padding", (2, 4), padding=(3, 0), value=1.5),
    case("Padding", (2, 3, 4), padding=(1, 0, 2, 1)),
    case("Padding", (2, 3, 4), padding=(2, 1), value=-0.5),
    *(case("Padding", (2, 3), padding=(2, 1), mode=mode) for mode in ("reflect", "replicate", "circular")),
    *(case("Padding", (2, 3, 4), padding=(1, 3, 2, 1), mode=mode) for mode in ("reflect", "replicate", "circular")),
    *(
        case("Flatten", dim, order=order)
        for dim, order in itertools.product(((4,), (2, 3), (2, 3, 4)), ("channels_first", "channels_last"))
    ),
    case("Flatten", (2, 3, 4), start_dim=2),
    case("Flatten", (2, 3, 4), start_dim=1, end_dim=2),
    case("Flatten", (2, 3, 4), start_dim=-2, end_dim=-1),
    case("Concatenate", (3,), (2,), axis=1),
    case("Concatenate", (3,), (2,), (4,), axis=-1),
    case("Concatenate", (1, 4), (3, 4), axis=1),
    case("Concatenate", (2, 4), (2, 3), axis=2),
    case("Concatenate", (2, 3, 2), (1, 3, 2), (2, 3, 2), axis=1),
    case("Concatenate", (2, 1, 2), (2, 3, 2), axis=-2),
    case("Concatenate", (2, 2, 3), (2, 2, 2), axis=-1),
    *(case("Add", *[(4,)] * m) for m in (2, 3, 5)),
    case("Add", (2, 3), (2, 3)),
    case("Add", (2, 2, 3), (2, 2, 3), (2, 2, 3)),
    case("Skipping", (4,)),
    case("Skipping", (2, 3, 2)),
]
STANDALONE = [
    *(case("Activation", dim, act_name=name) for dim, name in itertools.product(((5,), (2, 4), (2, 3, 3)), USUAL)),
    *(case("Activation", (6,), act_name=name) for name in ACTIVATIONS if name not in USUAL),
    case("Activation", (2, 4), act_name="softmax", act_params=(("dim", 1),)),
    case("Activation", (5,), act_name="leaky_relu", act_params=(("negative_slope", 0.4),)),
    case("Activation", (5,), act_name="softplus", act_params=(("beta", 3.0), ("threshold", 1.0))),
]
WITHOUT_ACTIVATION = [*POOLING, *NORMALIZATION, *STRUCTURE, *STANDALONE]
MAXIMA = [c for c in POOLING if "Max" in c.kind or c == case(c.kind, *c.dims, **dict(c.keys) | {"method": "max"})]
#: Pairs of a layer with weights and its activation: one of each kind everywhere, the others on fewer shapes.
WITH_ACTIVATION = [
    *itertools.product(WITH_WEIGHT, ("relu", "tanh", "softmax")),
    *itertools.product(WITH_WEIGHT[::3], [name for name in USUAL if name not in ("relu", "tanh", "softmax")]),
    *((c, name) for c in (DENSE[1], CONV2D[0]) for name in ACTIVATIONS if name not in USUAL),
]
EVERYTHING = [*WITH_ACTIVATION, *((c, "linear") for c in WITHOUT_ACTIVATION)]


def label(value) -> str:
    return str(value) if isinstance(value, Case) else repr(value)


# -- numbers -----------------------------------------------------------------------------------------------------


class Numbers:
    """Draws for one case and setting, always the same."""

    def __init__(self, setting: str, name: str) -> None:
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.name = name
        self.grid = setting.endswith("grid")

    def weights(self, *shape):
        """Draw weights."""
        return self.rng.integers(-4, 5, shape) / 8 if self.grid else 0.5 * self.rng.standard_normal(shape)

    def data(self, *shape, most=3):
        """Draw data; on the grid at most half of `most` in size."""
        return self.rng.integers(-most, most + 1, shape) / 2 if self.grid else self.rng.standard_normal(shape)


def full_layer(case: Case, activation: str, numbers: Numbers) -> dict:
    """Return the layer's dict with weights."""
    keys = {key: dict(value) if key == "act_params" else value for key, value in case.keys}
    layer = {"type": case.kind, "name": "L", "inputs": [f"input_{i + 1}" for i in range(len(case.dims))]}
    if case.kind in ("Dense", "Conv1D", "Conv2D"):
        out, kernel, has_bias = keys.pop("out"), keys.pop("kernel", ()), keys.pop("bias")
        weight = numbers.weights(out, case.dims[0][0], *kernel)
        bias = numbers.weights(out) if has_bias else np.zeros(out)
        return layer | keys | {"weight": weight, "bias": bias, "activation_name": activation}
    if case.kind == "BatchNorm":
        n = case.dims[0][0]
        # Roots of 1/4, 1, 4, ... leave the grid a grid.
        layer |= {"gamma": numbers.data(n), "run_mean": numbers.data(n), "eps": 0.125}
        layer["run_var"] = 4.0 ** numbers.rng.integers(-1, 2, n) - 0.125
        if not numbers.grid:
            layer |= {"run_var": numbers.rng.uniform(0.2, 3, n), "eps": 1e-3}
        return layer | ({"beta": numbers.data(n)} if keys["with_beta"] else {})
    return layer | keys


@dataclass
class Bench:
    """A model of one layer, its oracle, and data for both. Traces are made once."""

    model: ConvertedModel
    oracle: Oracle
    dtype: torch.dtype
    xs: list[np.ndarray]  # three rows, flat
    ref: list[np.ndarray]  # one row
    numbers: Numbers

    def tensors(self, values: list[np.ndarray]) -> list[torch.Tensor]:
        """Bring flat data into the shapes and the precision of the layer."""
        return [
            torch.tensor(x, dtype=self.dtype).reshape(-1, *dim) for x, dim in zip(values, self.oracle.dims, strict=True)
        ]

    @functools.cache  # noqa: B019 (benches live as long as the tests)
    def record(self, rows: int, reference: bool = False):
        """Return what a pass over the first rows, or the reference, saw."""
        values = self.ref if reference else self.xs
        return self.model.trace(self.tensors([x[:rows] for x in values]))["L"]

    @property
    def layer(self):
        """Return the layer under test."""
        return self.model.layer("L")

    def upper(self, outputs: int, rows: int) -> tuple[np.ndarray, torch.Tensor]:
        """Draw what comes to the layer from above: flat for the oracle, shaped for the layer.

        A bench serves several tests, in an order that no test knows. So draws depend on the shape alone.
        """
        rng = np.random.default_rng(zlib.crc32(f"{self.numbers.name} {outputs} {rows}".encode()))
        values = rng.standard_normal((outputs, rows, *self.oracle.out_dim))
        values = torch.tensor(values, dtype=self.dtype)
        return values.double().flatten(2).numpy(), values

    __hash__ = object.__hash__


@functools.cache
def bench(case: Case, activation: str, setting: str) -> Bench:
    dtype = torch.float32 if setting.startswith("float") else torch.float64
    numbers = Numbers(setting, f"{case} {activation}")
    layer = full_layer(case, activation, numbers)
    oracle = Oracle(layer, list(case.dims), double=dtype == torch.float64, grid=numbers.grid)
    layers = [layer] if len(oracle.out_dim) == 1 else [layer, {"type": "Flatten"}]
    model = ConvertedModel(check_spec({"input_dim": list(case.dims), "layers": layers}), dtype)
    # A maximum over many small numbers would be the same everywhere.
    most = 8 if case in MAXIMA else 3
    xs = [numbers.data(3, size, most=most) for size in oracle.sizes]
    ref = [numbers.data(1, size, most=most) for size in oracle.sizes]
    if not numbers.grid:  # draws never meet, and what is exactly equal or 0 has branches of its own
        for x, x_ref in zip(xs, ref, strict=True):
            x[:, ::3] = x_ref[:, ::3]
            x[1, 1::4] = 0.0
    return Bench(model, oracle, dtype, xs, ref, numbers)


# -- comparing ---------------------------------------------------------------------------------------------------


def compare(b: Bench, found, expected, outputs: int, rows: int, what: str) -> None:
    """Compare the tensors that a layer gave with the oracle's numbers."""
    assert len(found) == len(expected) == len(b.oracle.dims)
    for ours, theirs, dim in zip(found, expected, b.oracle.dims, strict=True):
        assert ours.dtype == b.dtype
        assert ours.shape in ((outputs, rows, *dim), (outputs, 1, *dim)), what
        flat = np.broadcast_to(ours.double().flatten(2).numpy(), (outputs, rows, int(np.prod(dim))))
        excess = np.abs(flat - theirs.value) - theirs.error
        assert (excess <= 0).all(), f"{what}: {excess.max():.3g} beyond rounding in {np.abs(theirs.value).max():.3g}"


def assert_same_sum(b: Bench, found: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare two sums of terms, which may be large and cancel."""
    error = (found.sum(-1) - expected.sum(-1)).abs()
    assert (error <= b.oracle.unit * (found.abs().sum(-1) + expected.abs().sum(-1))).all()


def something(*expected) -> bool:
    return any(np.any(numbers.value != 0) for layer in expected for numbers in layer)


# -- forward and gradient ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ["double", "float-grid"])
@pytest.mark.parametrize(("case", "activation"), EVERYTHING, ids=label)
def test_forward(case, activation, setting):
    b = bench(case, activation, setting)
    record = b.record(3)
    for found, expected in (
        (record.preactivation, b.oracle.preactivation(b.xs)),
        (record.output, b.oracle.output(b.xs)),
        (b.layer(*b.tensors(b.xs)), b.oracle.output(b.xs)),
    ):
        assert tuple(found.shape) == (3, *b.oracle.out_dim)
        assert (np.abs(found.double().flatten(1).numpy() - expected.value) <= expected.error).all()


@pytest.mark.parametrize("setting", ["double", "float-grid"])
@pytest.mark.parametrize(("case", "activation"), EVERYTHING, ids=label)
def test_gradient(case, activation, setting):
    b = bench(case, activation, setting)
    seen = []
    after, before = b.oracle.jacobians(b.xs)
    for skip in (False, True) if activation != "linear" else (False,):
        for outputs, rows, upper_rows in ((1, 1, 1), (3, 3, 3), (1, 3, 1), (3, 3, 1))[:: 2 if skip else 1]:
            flat, upper = b.upper(outputs, upper_rows)
            found = b.layer.gradient(upper, b.record(rows), skip_activation=skip)
            expected = b.oracle.gradient((after[:rows], [jacobian[:rows] for jacobian in before]), flat, skip)
            compare(b, found, expected, outputs, rows, f"{outputs=} {rows=} {upper_rows=} {skip=}")
            seen.append(expected)
    assert something(*seen)


# -- connection weights ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("case", [*WITH_WEIGHT, *WITHOUT_ACTIVATION], ids=label)
def test_connection_weights(case, setting):
    b = bench(case, "tanh" if case in WITH_WEIGHT else "linear", setting)
    for outputs in (1, 3):
        flat, upper = b.upper(outputs, 1)
        expected = b.oracle.connection_weights(flat)
        assert something(expected)
        compare(b, b.layer.connection_weights(upper), expected, outputs, 1, f"{outputs=}")


# -- LRP ---------------------------------------------------------------------------------------------------------


SOFTMAX = [c for c in STANDALONE if "softmax" in c["act_name"]]
WITH_LRP = [*WITH_WEIGHT, *(c for c in WITHOUT_ACTIVATION if c not in SOFTMAX)]


def check_lrp(b: Bench, rule: str, winner_takes_all: bool) -> None:
    for param in LRP_RULES.get(rule, (None,)):
        seen = []
        for outputs, rows in SIZES:
            flat, upper = b.upper(outputs, rows)
            found = b.layer.lrp(upper, b.record(rows), rule_for(b.layer, rule, param, winner_takes_all))
            expected = b.oracle.lrp([x[:rows] for x in b.xs], flat, rule, param, winner_takes_all)
            compare(b, found, expected, outputs, rows, f"{param=} {outputs=} {rows=}")
            seen.append(expected)
        assert something(*seen), param


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("rule", LRP_RULES)
@pytest.mark.parametrize("case", WITH_LRP, ids=label)
def test_lrp(case, rule, setting):
    # The activation passes relevance as it is, so one that changes the values shows whether it is left alone.
    check_lrp(bench(case, "tanh" if case in WITH_WEIGHT else "linear", setting), rule, winner_takes_all=True)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("rule", LRP_RULES)
@pytest.mark.parametrize("case", MAXIMA, ids=label)
def test_lrp_where_the_winner_does_not_take_all(case, rule, setting):
    check_lrp(bench(case, "linear", setting), rule, winner_takes_all=False)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("case", NORMALIZATION, ids=label)
def test_lrp_pass(case, setting):
    check_lrp(bench(case, "linear", setting), "pass", winner_takes_all=True)


@pytest.mark.parametrize("activation", [name for name in USUAL if name != "tanh"])
@pytest.mark.parametrize("case", [DENSE[1], CONV1D[5], CONV2D[5]], ids=label)
def test_lrp_does_not_see_activations(case, activation):
    for rule in LRP_RULES:
        check_lrp(bench(case, activation, "double"), rule, winner_takes_all=True)


@pytest.mark.parametrize("case", SOFTMAX, ids=label)
def test_lrp_passes_a_softmax_only_at_the_end(case):
    """Relevance goes through an activation unchanged, which has no meaning where units change one another."""
    b = bench(case, "linear", "double")
    _, upper = b.upper(3, 3)
    assert torch.equal(b.layer.lrp(upper, b.record(3), rule_for(b.layer), is_output=True)[0], upper)
    with pytest.raises(UnsupportedLayerError, match=rf"LRP has no rule for {case['act_name']} \(layer 'L'\)"):
        b.layer.lrp(upper, b.record(3), rule_for(b.layer))


# -- DeepLift ----------------------------------------------------------------------------------------------------


def check_deeplift(b: Bench, rule: str, winner_takes_all: bool) -> None:
    calls = [
        # explained outputs, rows (the other side has one), rows of the upper tensor, whether the references are the
        # many, which DeepSHAP also does, and whether the multiplier is one of the preactivation
        (1, 1, 1, False, False),
        (1, 3, 3, False, False),
        (3, 3, 1, False, False),
        (3, 3, 3, True, False),
        (1, 3, 1, True, False),
    ]
    if b.oracle.kind in ("Dense", "Conv1D", "Conv2D"):
        calls.append((3, 3, 1, False, True))
    seen = []
    for outputs, many, upper_rows, turned, skip in calls:
        data, refs, at, ref = [x[:many] for x in b.xs], b.ref, b.record(many), b.record(1, reference=True)
        if turned:
            data, refs, at, ref = refs, data, ref, at
        flat, upper = b.upper(outputs, upper_rows)
        found = b.layer.deeplift(upper, at, ref, DeepLiftRule(rule, winner_takes_all), skip_activation=skip)
        expected = b.oracle.deeplift(data, refs, flat, rule, winner_takes_all, skip)
        what = f"{outputs=} {many=} {upper_rows=} {turned=} {skip=}"
        compare(b, found, expected, outputs, many, what)
        seen.append(expected)
    assert something(*seen)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("rule", DEEPLIFT_RULES)
@pytest.mark.parametrize(("case", "activation"), EVERYTHING, ids=label)
def test_deeplift(case, activation, rule, setting):
    check_deeplift(bench(case, activation, setting), rule, winner_takes_all=True)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("rule", DEEPLIFT_RULES)
@pytest.mark.parametrize("case", MAXIMA, ids=label)
def test_deeplift_where_the_winner_does_not_take_all(case, rule, setting):
    check_deeplift(bench(case, "linear", setting), rule, winner_takes_all=False)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("case", SOFTMAX, ids=label)
def test_softmax_rule_is_a_decomposition(case, setting):
    """R has no rule for a softmax on its own. Ours keeps the sum, and is the gradient where nothing differs."""
    b = bench(case, "linear", setting)
    at, ref = b.record(3), b.record(1, reference=True)
    _, upper = b.upper(3, 3)
    found = (b.layer.deeplift(upper, at, ref, DeepLiftRule())[0] * (at.inputs[0] - ref.inputs[0])).flatten(2)
    expected = (upper * (at.output - ref.output)).flatten(2)
    assert expected.sum(-1).abs().min() > 1e-3
    assert_same_sum(b, found, expected)
    here = b.layer.deeplift(upper, at, at, DeepLiftRule())[0]
    largest = b.oracle.unit * float(upper.abs().max()) * b.oracle.sizes[0]  # all multipliers meet in a softmax
    torch.testing.assert_close(here, b.layer.gradient(upper, at)[0], rtol=0, atol=largest)


@pytest.mark.parametrize("rule", DEEPLIFT_RULES)
@pytest.mark.parametrize("case", MAXIMA, ids=label)
def test_maxima_keep_the_sum_where_the_winner_does_not_take_all(case, rule):
    """Also where the differences in a window cancel, for which R has no answer."""
    b = bench(case, "linear", "double-grid")
    at, ref = b.record(3), b.record(1, reference=True)
    _, upper = b.upper(3, 3)
    multiplier = b.layer.deeplift(upper, at, ref, DeepLiftRule(rule, winner_takes_all=False))[0]
    found = (multiplier * (at.inputs[0] - ref.inputs[0])).flatten(2)
    assert_same_sum(b, found, (upper * (at.output - ref.output)).flatten(2))


# -- what the comparison notices, and what it does not ------------------------------------------------------------


ANY_RULE = [
    *((c, "tanh", "lrp", rule) for c in (DENSE[1], CONV1D[5], CONV2D[5]) for rule in LRP_RULES),
    *((c, a, "deeplift", rule) for c in (DENSE[1], CONV1D[5]) for a in USUAL[1:] for rule in DEEPLIFT_RULES),
    *((c, a, "gradient", "") for c in (DENSE[1], CONV2D[5]) for a in USUAL[1:]),
    *((c, "linear", "lrp", "simple") for c in (POOLING[3], NORMALIZATION[0])),
]


@pytest.mark.parametrize(("case", "activation", "method", "rule"), ANY_RULE, ids=label)
def test_a_mistake_of_a_millionth_is_noticed(case, activation, method, rule, monkeypatch):
    """In double precision, in all numbers but those few that rounding may change as much."""
    compared = []
    monkeypatch.setitem(globals(), "compare", lambda *args: compared.append(args))
    if method == "gradient":
        test_gradient(case, activation, "double")
    elif method == "lrp":
        check_lrp(bench(case, activation, "double"), rule, winner_takes_all=True)
    else:
        check_deeplift(bench(case, activation, "double"), rule, winner_takes_all=True)
    monkeypatch.undo()
    sharp, count = 0, 0
    for b, found, expected, outputs, rows, what in compared:
        compare(b, found, expected, outputs, rows, what)
        for i, numbers in enumerate(expected):
            noticed = np.broadcast_to(numbers.error < 0.9e-6 * np.abs(numbers.value), numbers.value.shape)
            sharp, count = sharp + noticed.sum(), count + (numbers.value != 0).sum()
            position = np.unravel_index(np.flatnonzero(noticed)[0], noticed.shape)
            wrong = numbers.value.copy()
            wrong[position] *= 1 + 1e-6
            planted = torch.tensor(wrong).reshape(*wrong.shape[:2], *b.oracle.dims[i])
            with pytest.raises(AssertionError, match="beyond rounding"):
                compare(b, [*found[:i], planted, *found[i + 1 :]], expected, outputs, rows, what)
    assert sharp >= 0.99 * count > 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rule", DEEPLIFT_RULES)
@pytest.mark.parametrize("case", [c for c in CONV1D if c["padding"] == (2, 1)], ids=label)
def test_another_machine_ends_on_other_digits(case, rule, seed, monkeypatch):
    """A softmax that is off by a unit of its last place, as another processor's is: R's rule divides it by 1e-15."""
    rng = torch.Generator().manual_seed(seed)

    def other_softmax(z, dim):
        y = torch.softmax(z, dim)
        signs = torch.randint(-1, 2, y.shape, generator=rng, dtype=y.dtype)
        return torch.where(y == 1, y, y * (1 + signs * torch.finfo(y.dtype).eps))

    kind = dataclasses.replace(activations._KINDS["softmax"], function=other_softmax)
    monkeypatch.setitem(activations._KINDS, "softmax", kind)
    check_deeplift(bench.__wrapped__(case, "softmax", "double"), rule, winner_takes_all=True)


# -- what the cases cover ----------------------------------------------------------------------------------------


def test_the_grid_meets_the_branches_for_exact_equality():
    """Settings on the grid are of use only if they hit zeros that a rule treats on their own."""
    met = dict.fromkeys(("z", "dz", "dx", "plus", "minus", "tie", "y", "mean"), 0)
    for c in WITH_WEIGHT:
        b = bench(c, "relu", "double-grid")
        x, ref, (w,) = b.xs[0], b.ref[0], b.oracle.matrices
        dx = x - ref
        plus = np.maximum(dx, 0) @ np.maximum(w, 0).T + np.minimum(dx, 0) @ np.minimum(w, 0).T
        met["z"] += int((b.oracle.preactivation([x]) == 0).sum())
        met["dz"] += int(((dx @ w.T == 0) & (plus > 0)).sum())
        met["dx"] += int((dx == 0).sum())
        met["plus"] += int(((plus == 0) & (dx @ w.T != 0)).sum())
        met["minus"] += int(((plus == dx @ w.T) & (plus != 0)).sum())
    for c in MAXIMA:
        b = bench(c, "linear", "double-grid")
        values = [b.xs[0][:, window] for window in b.oracle.windows]
        met["tie"] += sum(int(((v == v.max(1, keepdims=True)).sum(1) > 1).sum()) for v in values)
        met["mean"] += int((b.oracle.means(b.xs[0] - b.ref[0]) == 0).sum())
    for c in NORMALIZATION:
        met["y"] += int(
            (bench(c, "linear", "double-grid").oracle.output(bench(c, "linear", "double-grid").xs) == 0).sum()
        )
    assert min(met.values()) >= 3, met


def sparse(rows: torch.Tensor) -> torch.Tensor:
    return activations.Activation("sparsemax")(rows)


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_sparsemax_keeps_the_sum_and_is_the_gradient_where_nothing_differs(scale):
    rng = torch.Generator().manual_seed(5)
    z, z_ref = (scale * torch.randn(50, 6, generator=rng, dtype=torch.float64) for _ in range(2))
    m = torch.randn(3, 1, 6, generator=rng, dtype=torch.float64).expand(3, 50, 6)
    found = sparsemax_multiplier(m, z, z_ref, -1)
    torch.testing.assert_close((found * (z - z_ref)).sum(-1), (m * (sparse(z) - sparse(z_ref))).sum(-1))
    near = sparsemax_multiplier(m, z, z.clone(), -1)
    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda v: sparse(v[None])[0], row) for row in z])
    torch.testing.assert_close(near, torch.einsum("kbo,boi->kbi", m, jacobians))
    vjp = activations.Activation("sparsemax").vjp(m, Record((z,), z, sparse(z)), lambda at: z)
    torch.testing.assert_close(vjp, near)
