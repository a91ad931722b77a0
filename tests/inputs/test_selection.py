"""Which output nodes are explained: `output_idx` and `output_label`, counted from 0, an entry for each output layer."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from ids import without_address

from innsight_py import ConnectionWeights, Converter, DeepLift, Gradient
from innsight_py.inputs.selection import select_outputs

ONE = ([(4,)], [[["a", "b", "c", "d"]]])
TWO = ([(3,), (2,)], [[["a", "b", "c"]], [["d", "e"]]])
THREE = ([(2,), (2,), (3,)], [[["a", "b"]], [["a", "b"]], [["x", "y", "z"]]])


def idx(output_idx=None, output_label=None, *, of=ONE) -> list:
    chosen = select_outputs(output_idx, output_label, *of).idx
    return [None if nodes is None else list(nodes) for nodes in chosen]


# -- indices ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0, [0]),
        (3, [3]),
        ([2], [2]),
        ([3, 0, 1], [3, 0, 1]),  # the order is kept
        ((1, 2), [1, 2]),
        (range(1, 3), [1, 2]),
        (np.int64(2), [2]),
        (np.array(2), [2]),
        (np.array([2, 0]), [2, 0]),
        (np.array([2], np.uint8), [2]),
        ([np.int32(1), 0], [1, 0]),
        (pd.Index([1, 3]), [1, 3]),
        (pd.Series([1, 3], index=[7, 8]), [1, 3]),
        (torch.tensor(2), [2]),
        ([torch.tensor(2)], [2]),
        (torch.tensor([2, 0]), [2, 0]),
        ([[1, 2]], [1, 2]),
        ([(1, 2)], [1, 2]),
        ([np.array([1, 2])], [1, 2]),
        ([range(2)], [0, 1]),
    ],
)
def test_nodes_of_one_layer(given, expected):
    assert idx(given) == [expected]
    assert idx(given, of=([(4,), (2,)], [*ONE[1], TWO[1][1]])) == [expected, None]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([[0], [1]], [[0], [1]]),
        ([[2, 0], [1, 0]], [[2, 0], [1, 0]]),
        ([None, [1]], [None, [1]]),
        ((None, (1,)), [None, [1]]),
        ([[0], None], [[0], None]),
        ([[2, 1]], [[2, 1], None]),  # a shorter list is filled up
        ([None, 1], [None, [1]]),
        ([2, None], [[2], None]),
        ([1, [1]], [[1], [1]]),
        ([np.array([1]), range(2)], [[1], [0, 1]]),
        ([2, 1], [[2, 1], None]),  # numbers alone are nodes of the first layer
        (2, [[2], None]),
    ],
)
def test_nodes_of_several_layers(given, expected):
    assert idx(given, of=TWO) == expected


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([4], [range(4)]),
        ([10], [range(10)]),
        ([11], [range(10)]),
        ([25, 3], [range(10), None]),
        ([2, 30], [range(2), None]),
    ],
)
def test_default_is_the_first_ten_nodes_of_the_first_layer(sizes, expected):
    names = [[[f"Y{i + 1}" for i in range(n)]] for n in sizes]
    found = idx(of=([(n,) for n in sizes], names))
    assert found == [None if nodes is None else list(nodes) for nodes in expected]


@pytest.mark.parametrize(
    ("given", "fragments"),
    [
        (4, ["0 to 3", "4"]),
        (-1, ["0 to 3", "-1"]),  # as an index from the end it would hide a mistake
        ([0, 4], ["0 to 3", "4"]),
        (np.array([9]), ["0 to 3", "9"]),
        ([[0, -2]], ["0 to 3", "-2"]),
        ([0, 0], ["twice"]),
        ([[1, 2, 1]], ["twice"]),
        ([], ["no output node"]),
        (np.array([], int), ["no output node"]),
        (range(0), ["no output node"]),
        ([[]], ["empty"]),
        ([None], ["no output node"]),
        ([None, None], []),
        ([[0], [1]], ["at most 1"]),
        ([None, [0]], ["at most 1"]),
    ],
)
def test_wrong_nodes(given, fragments):
    with pytest.raises(ValueError, match="'output_idx'") as caught:
        idx(given)
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("given", "fragments"),
    [
        ([None, [2]], ["output layer 2", "0 to 1", "2"]),
        ([[3], [0]], ["output layer 1", "0 to 2", "3"]),
        ([0, 3], ["output layer 1", "3"]),
        ([[0], []], ["empty"]),
        ([[0], [1, 1]], ["twice"]),
        ([None, None], ["no output node"]),
        ([[0], [0], [0]], ["at most 2", "3"]),
    ],
)
def test_wrong_nodes_of_several_layers(given, fragments):
    with pytest.raises(ValueError, match="'output_idx'") as caught:
        idx(given, of=TWO)
    for fragment in fragments:
        assert fragment in str(caught.value)


NOT_INDICES = [
    True, np.True_, 1.0, 0.5, "a", "1", b"1", {0}, {"output_1": "a"}, slice(2), object(),
    [True], [True, False], [1.0], [0.5, 1.5],
    ["a"], ["a", "b"], [0, "b"], [0, 1.0], np.array([1.0]), np.array([True, False]), np.array(["a"]), [["a"]], [[0.5]],
    [[True]], [[0, None]], float("nan"), [[[0]]],
]  # fmt: skip


@pytest.mark.parametrize("given", NOT_INDICES, ids=without_address)
@pytest.mark.parametrize("of", [ONE, TWO], ids=["one layer", "two layers"])
def test_not_indices(given, of):
    """A wrong kind is a TypeError, however many entries there are."""
    with pytest.raises(TypeError, match=r"'output_idx'.*whole numbers"):
        idx(given, of=of)


# -- labels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a", [0]),
        (["d", "a"], [3, 0]),
        (("b",), [1]),
        (np.array(["c", "a"]), [2, 0]),
        (np.array(["c"], dtype=object), [2]),
        (np.str_("b"), [1]),
        (pd.Index(["b"]), [1]),
        (pd.Series(["d", "b"]), [3, 1]),
        (pd.Series(["d"], dtype="string"), [3]),
        (pd.Categorical(["d", "b"], categories=["b", "d"]), [3, 1]),
        ([["d", "b"]], [3, 1]),
        ([np.array(["d"])], [3]),
        ([pd.Categorical(["d"])], [3]),
    ],
)
def test_labels_of_one_layer(given, expected):
    assert idx(None, given) == [expected]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([["y"]], None),
        (["a"], [[0], None, None]),
        ([["b"], ["b", "a"]], [[1], [1, 0], None]),
        ([None, None, ["z", "x"]], [None, None, [2, 0]]),
        ([None, "b"], [None, [1], None]),
        ([None, np.array(["a"]), ("y",)], [None, [0], [1]]),
    ],
)
def test_labels_of_several_layers(given, expected):
    """The same label in two layers means the layer whose place it has."""
    if expected is None:
        with pytest.raises(ValueError, match=r"'output_label'.*'y'"):
            idx(None, given, of=THREE)
    else:
        assert idx(None, given, of=THREE) == expected


@pytest.mark.parametrize(
    ("given", "fragments"),
    [
        ("e", ["'e'", "a, b, c, d"]),
        (["a", "A"], ["'A'"]),
        ("", ["''"]),
        ([], ["no output node"]),
        ([[]], ["empty"]),
        ([None], ["no output node"]),
        (["a", "a"], ["twice"]),
        ([["a"], ["b"]], ["at most 1"]),
    ],
)
def test_wrong_labels(given, fragments):
    """Messages speak of the argument that was given."""
    with pytest.raises(ValueError, match="'output_label'") as caught:
        idx(None, given)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_a_typo_gets_a_suggestion():
    with pytest.raises(ValueError, match=r"'setossa'.*did you mean 'setosa'"):
        idx(None, "setossa", of=([(2,)], [[["setosa", "virginica"]]]))


@pytest.mark.parametrize(
    "given",
    [0, 1.5, True, [0], [0, 1], [1, 2, 3], ["a", 1], {"output_1": 1}, {"a"}, b"a", np.array([0, 1]), [[0]], [["a", 0]]],
    ids=repr,
)
@pytest.mark.parametrize("of", [ONE, TWO], ids=["one layer", "two layers"])
def test_not_labels(given, of):
    with pytest.raises(TypeError, match=r"'output_label'.*labels"):
        idx(None, given, of=of)


# -- dicts by the names of output layers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"first": 0}, [[0], None]),
        ({"second": 1}, [None, [1]]),
        ({"second": 1, "first": 2}, [[2], [1]]),
        ({"second": [1, 0], "first": np.array([2, 0])}, [[2, 0], [1, 0]]),
        ({"first": None, "second": range(2)}, [None, [0, 1]]),
    ],
    ids=repr,
)
def test_dict_of_nodes(given, expected):
    assert select_outputs(given, None, *TWO, ["first", "second"]).idx == tuple(
        None if nodes is None else tuple(nodes) for nodes in expected
    )
    labels = {
        key: None if nodes is None else [TWO[1][key == "second"][0][int(node)] for node in np.atleast_1d(nodes)]
        for key, nodes in given.items()
    }
    assert [
        None if x is None else list(x) for x in select_outputs(None, labels, *TWO, ["first", "second"]).idx
    ] == expected


def test_dict_without_names_of_its_own():
    assert idx({"output_2": 1}, of=TWO) == [None, [1]]
    assert idx(None, {"output_1": "b"}) == [[1]]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"frist": 0}, ValueError, r"no output layer 'frist'; did you mean 'first'\? It has 'first', 'second'"),
        ({"output_1": 0}, ValueError, "no output layer 'output_1'"),
        ({0: [1]}, TypeError, r"names of output layers \('first', 'second'\), got 0"),
        ({"first": 1.5}, TypeError, "whole numbers"),
        ({"second": 2}, ValueError, r"output layer 2 \('second'\) has the nodes 0 to 1, got 2"),
        ({"first": []}, ValueError, "at least one node"),
        ({}, ValueError, "no output node is chosen"),
        ({"first": None}, ValueError, "no output node is chosen"),
    ],
    ids=repr,
)
def test_wrong_dicts(given, error, message):
    with pytest.raises(error, match=f"'output_idx': .*{message}"):
        select_outputs(given, None, *TWO, ["first", "second"])


# -- both -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output_idx", "output_label", "of", "expected"),
    [
        (0, "a", ONE, [[0]]),
        ([2, 0], ["a", "c"], ONE, [[2, 0]]),  # the order of the indices counts
        ([[2, 0]], ["c", "a"], ONE, [[2, 0]]),
        ([None, [1]], [None, ["e"]], TWO, [None, [1]]),
        ([[1, 2], [0]], [["c", "b"], "d"], TWO, [[1, 2], [0]]),
        ([1], [["b"], None], TWO, [[1], None]),
    ],
)
def test_both_arguments_agree(output_idx, output_label, of, expected):
    assert idx(output_idx, output_label, of=of) == expected
    labels = select_outputs(output_idx, output_label, *of).labels
    assert [None if nodes is None else list(nodes) for nodes in labels] == [
        None if nodes is None else [of[1][i][0][node] for node in nodes] for i, nodes in enumerate(expected)
    ]


@pytest.mark.parametrize(
    ("output_idx", "output_label", "of"),
    [
        (0, "b", ONE),
        ([0, 1], ["a", "c"], ONE),
        ([0, 1], ["a"], ONE),
        ([0], ["a", "b"], ONE),
        ([0, 1], ["a", "b", "a"], ONE),
        ([[0], [0]], [["a"], ["e"]], TWO),
        ([[0], [0]], ["a"], TWO),
        ([0], [["a"], ["d"]], TWO),
        ([None, [0]], [["a"], None], TWO),
    ],
)
def test_both_arguments_differ(output_idx, output_label, of):
    with pytest.raises(ValueError, match="output_label"):
        idx(output_idx, output_label, of=of)


# -- through a method -------------------------------------------------------------------------------------------


def converter() -> Converter:
    rng = np.random.default_rng(3)
    dense = {"type": "Dense", "activation_name": "tanh"}
    layers = [
        dense | {"weight": rng.normal(size=(5, 4)), "name": "hidden"},
        dense | {"weight": rng.normal(size=(12, 5)), "name": "twelve"},
        dense | {"weight": rng.normal(size=(2, 5)), "name": "two", "inputs": ["hidden"]},
    ]
    return Converter({"input_dim": [4], "layers": layers, "outputs": ["twelve", "two"]}, dtype="double")


@pytest.mark.parametrize("method", [Gradient, DeepLift, ConnectionWeights])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [range(10), None]),
        ({"output_idx": [11, 3]}, [[11, 3], None]),
        ({"output_idx": [None, 1]}, [None, [1]]),
        ({"output_idx": [[7], [1, 0]]}, [[7], [1, 0]]),
        ({"output_label": [["Y12", "Y1"], None]}, [[11, 0], None]),
    ],
)
def test_a_method_explains_the_chosen_nodes(method, arguments, expected):
    """Each column is what the method says of that node alone, in the order of the choice."""
    conv, x = converter(), np.random.default_rng(4).normal(size=(3, 4))
    data = () if method is ConnectionWeights else (x,)
    found = method(conv, *data, dtype="double", **arguments)
    assert found.output_idx == [None if nodes is None else list(nodes) for nodes in expected]
    assert found.output_label == [None if nodes is None else [f"Y{node + 1}" for node in nodes] for nodes in expected]
    for i, nodes in enumerate(expected):
        if nodes is None:
            assert found.result[i] is None
            continue
        for k, node in enumerate(nodes):
            alone = method(conv, *data, output_idx=[None] * i + [[node]], dtype="double")
            torch.testing.assert_close(found.result[i][0][..., k], alone.result[i][0][..., 0], rtol=1e-12, atol=1e-14)
            if method is not ConnectionWeights:
                torch.testing.assert_close(found.preds[i][:, k], conv.model(torch.tensor(x))[i][:, node])


@pytest.mark.parametrize("label", [7, [7], np.array([7]), "7"])
def test_labels_that_are_whole_numbers_are_taken_as_texts(label):
    assert select_outputs(None, label, [(2,)], [[["5", "7"]]]).idx == ((1,),)
    with pytest.raises(TypeError, match="'output_idx' takes the numbers"):
        select_outputs(None, 1, [(2,)], [[["5", "7"]]])
