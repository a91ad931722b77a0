"""Labels of features and nodes: the forms they may come in, their defaults, and the order of their levels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from innsight_py import Converter, Gradient
from innsight_py.inputs.names import default_names, levels, read_names

ABC, DE, XYZ = ["a", "b", "c"], ["d", "e"], ["x", "y", "z"]


def plain(names) -> list:
    """Write names as lists, whatever holds the labels."""
    return [[list(map(str, axis)) for axis in layer] for layer in names]


def table(n: int = 3, outputs: int = 2, **keys) -> dict:
    rng = np.random.default_rng(n)
    return {"input_dim": [n], "layers": [{"type": "Dense", "weight": rng.normal(size=(outputs, n))}], **keys}


def image(*dim: int, **keys) -> dict:
    size = int(np.prod(dim))
    layers = [{"type": "Flatten"}, {"type": "Dense", "weight": np.arange(size)[None] / size}]
    return {"input_dim": list(dim), "layers": layers, **keys}


# -- forms ------------------------------------------------------------------------------------------------------

AXIS_KINDS = {
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "object array": lambda v: np.array(v, dtype=object),
    "index": pd.Index,
    "series": pd.Series,
    "string series": lambda v: pd.Series(v, dtype="string"),
    "object series": lambda v: pd.Series(v, dtype=object, index=range(5, 5 + len(v))),
    "categorical": pd.Categorical,
    "categorical series": lambda v: pd.Series(pd.Categorical(v)),
    "categorical index": pd.CategoricalIndex,
    "columns": lambda v: pd.DataFrame(columns=v).columns,
}


@pytest.mark.parametrize("kind", AXIS_KINDS)
@pytest.mark.parametrize(
    ("nest", "dims", "expected"),
    [
        # one table: the labels, the axes of the layer, or the layers
        (lambda k: k(ABC), [(3,)], [[ABC]]),
        (lambda k: [k(ABC)], [(3,)], [[ABC]]),
        (lambda k: [[k(ABC)]], [(3,)], [[ABC]]),
        # one signal or image: a list for each axis
        (lambda k: [k(DE), k(ABC)], [(2, 3)], [[DE, ABC]]),
        (lambda k: (k(DE), k(ABC)), [(2, 3)], [[DE, ABC]]),
        (lambda k: [[k(DE), k(ABC)]], [(2, 3)], [[DE, ABC]]),
        (lambda k: [k(DE), k(ABC), k(XYZ)], [(2, 3, 3)], [[DE, ABC, XYZ]]),
        # several layers: full nesting, and the flat form where each has one axis (quirk Q38)
        (lambda k: [[k(ABC)], [k(DE)]], [(3,), (2,)], [[ABC], [DE]]),
        (lambda k: [k(ABC), k(DE)], [(3,), (2,)], [[ABC], [DE]]),
        (lambda k: [k(DE), k(ABC), k(XYZ)], [(2,), (3,), (3,)], [[DE], [ABC], [XYZ]]),
        # layers of different rank, with and without brackets around the axes of a table
        (lambda k: [[k(DE), k(ABC)], [k(XYZ)]], [(2, 3), (3,)], [[DE, ABC], [XYZ]]),
        (lambda k: [[k(DE), k(ABC)], k(XYZ)], [(2, 3), (3,)], [[DE, ABC], [XYZ]]),
        (lambda k: [k(XYZ), [k(DE), k(ABC)]], [(3,), (2, 3)], [[XYZ], [DE, ABC]]),
        (lambda k: [[k(ABC)], [k(DE), k(ABC), k(XYZ)]], [(3,), (2, 3, 3)], [[ABC], [DE, ABC, XYZ]]),
        # two layers of two axes each are not the flat form
        (lambda k: [[k(DE), k(ABC)], [k(DE), k(ABC)]], [(2, 3), (2, 3)], [[DE, ABC], [DE, ABC]]),
    ],
)
def test_forms(kind, nest, dims, expected):
    assert plain(read_names(nest(AXIS_KINDS[kind]), dims, "names")) == expected


def test_converter_reads_both_arguments():
    model = {
        "input_dim": [[3], [2, 2]],
        "layers": [
            {"type": "Dense", "weight": np.ones((4, 3)), "name": "a"},
            {"type": "Flatten", "inputs": ["input_2"], "name": "b"},
            {"type": "Add", "inputs": ["a", "b"], "name": "sum"},
            {"type": "Dense", "weight": np.ones((2, 4)), "inputs": ["sum"], "name": "out"},
        ],
        "outputs": ["sum", "out"],
    }
    converter = Converter(model, input_names=[ABC, [DE, ["l", "m"]]], output_names=[["p", "q", "r", "s"], DE])
    assert converter.input_names == [[ABC], [DE, ["l", "m"]]]
    assert converter.output_names == [[["p", "q", "r", "s"]], [DE]]


def test_arguments_come_before_the_models_own():
    model = table(input_names=ABC, output_names=DE)
    assert Converter(model).input_names == [[ABC]]
    assert Converter(model, input_names=XYZ).input_names == [[XYZ]]
    assert Converter(model, output_names=["p", "q"]).output_names == [[["p", "q"]]]
    assert Converter(model, output_names=["p", "q"]).input_names == [[ABC]]


def test_the_users_lists_are_copied():
    names = ["a", "b", "c"]
    converter = Converter(table(), input_names=names)
    names[0] = "changed"
    assert converter.input_names == [[ABC]]


# -- defaults ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dim", "expected"),
    [
        ((2,), [["X1", "X2"]]),
        ((1, 3), [["C1"], ["L1", "L2", "L3"]]),
        ((2, 1, 3), [["C1", "C2"], ["H1"], ["W1", "W2", "W3"]]),
    ],
)
def test_defaults(dim, expected):
    assert default_names(dim) == expected
    model = table(2) if len(dim) == 1 else image(*dim)
    assert Converter(model).input_names == [expected]


def test_default_output_names():
    model = table(3, 2) | {"outputs": ["mid", "out"]}
    model["layers"][0]["name"] = "mid"
    model["layers"].append({"type": "Dense", "weight": np.ones((3, 2)), "name": "out"})
    assert Converter(model).output_names == [[["Y1", "Y2"]], [["Y1", "Y2", "Y3"]]]


# -- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "dims"),
    [
        (5, [(3,)]),
        ("abc", [(3,)]),
        ({"a": ABC}, [(3,)]),
        ({"a", "b", "c"}, [(3,)]),
        (pd.Series([1.0, 2.0, 3.0]), [(3,)]),
        (["a", "b", None], [(3,)]),
        (["a", "b", float("nan")], [(3,)]),
        (pd.Series(["a", "b", None], dtype="string"), [(3,)]),
        (pd.Categorical(["a", "b", None]), [(3,)]),  # a label that is missing has no name in a frame
        ([None, ABC], [(2, 3)]),
        ([3, ["a"]], [(3, 1)]),
        ([b"a", b"b", b"c"], [(3,)]),
    ],
)
def test_not_labels(names, dims):
    with pytest.raises(TypeError, match="'names'"):
        read_names(names, dims, "names")


@pytest.mark.parametrize(
    ("names", "dims", "shapes"),
    [
        (DE, [(3,)], ["(*, 3)", "(*, 2)"]),
        ([*ABC, "d"], [(3,)], ["(*, 3)", "(*, 4)"]),
        ([DE, DE], [(2, 3)], ["(*, 2, 3)", "(*, 2, 2)"]),
        ([ABC, DE], [(2, 3)], ["(*, 2, 3)", "(*, 3, 2)"]),  # channels last
        (ABC, [(3, 1)], ["(*, 3, 1)", "(*, 3)"]),
        ([DE, ABC], [(2,)], ["(*, 2)", "(*, 2, 3)"]),
        ([ABC, DE], [(2,), (3,)], ["(*, 2), (*, 3)", "(*, 3), (*, 2)"]),
        ([ABC], [(3,), (2,)], ["(*, 3), (*, 2)", "(*, 3)"]),
        ([[ABC], [DE], [DE]], [(3,), (2,)], ["(*, 3), (*, 2)", "(*, 3), (*, 2), (*, 2)"]),
        ([[ABC, DE]], [(3,), (2,)], ["(*, 3), (*, 2)", "(*, 3, 2)"]),
        (pd.Categorical(DE), [(3,)], ["(*, 3)", "(*, 2)"]),
    ],
)
def test_wrong_numbers_of_labels(names, dims, shapes):
    with pytest.raises(ValueError, match="'names'") as caught:
        read_names(names, dims, "names")
    for shape in shapes:
        assert shape in str(caught.value)


@pytest.mark.parametrize("names", [[], [[]], [[[]]]])
def test_no_labels_at_all(names):
    with pytest.raises((TypeError, ValueError), match="'names'"):
        read_names(names, [(3,)], "names")


@pytest.mark.parametrize("argument", ["input_names", "output_names"])
def test_converter_names_the_argument(argument):
    with pytest.raises(ValueError, match=f"'{argument}'"):
        Converter(table(), **{argument: ["only one"]})
    with pytest.raises(TypeError, match=f"'{argument}'"):
        Converter(table(), **{argument: [1.5] * (3 if argument == "input_names" else 2)})


# -- levels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (["b", "a", "c"], ["b", "a", "c"]),
        (["b", "a", "b"], ["b", "a"]),
        (pd.Categorical(["b", "a", "c"]), ["a", "b", "c"]),
        (pd.Categorical(["b", "a"], categories=["z", "b", "a"]), ["z", "b", "a"]),
        (pd.Categorical(["b", "a"], categories=["b", "a"], ordered=True), ["b", "a"]),
    ],
)
def test_levels(axis, expected):
    assert levels(axis) == expected


@pytest.mark.parametrize("ordered", [False, True])
def test_levels_of_features_and_nodes_in_frames(ordered):
    """A Categorical's order is R's level order: it is that of the frame's categories, not of its rows."""
    converter = Converter(
        table(),
        input_names=pd.Categorical(ABC, categories=["c", "unused", "a", "b"], ordered=ordered),
        output_names=pd.Series(pd.Categorical(DE, categories=["e", "d"], ordered=ordered)),
    )
    frame = Gradient(converter, np.ones((2, 3)), output_idx=[0, 1]).get_result("data.frame")
    assert list(frame["feature"].cat.categories) == ["c", "unused", "a", "b"]
    assert list(frame["output_node"].cat.categories) == ["e", "d"]
    assert list(frame["feature"]) == ["a", "a", "b", "b", "c", "c"] * 2
    assert list(frame["output_node"]) == ["d"] * 6 + ["e"] * 6
    assert list(Gradient(converter, np.ones((2, 3)), output_label="e").output_idx) == [[1]]


def test_levels_of_every_axis_of_an_image():
    names = [pd.Categorical(DE, ["e", "d"]), pd.Categorical(ABC, ["b", "c", "a"]), pd.Categorical(["p"], ["q", "p"])]
    frame = Gradient(Converter(image(2, 3, 1), input_names=names), np.ones((1, 2, 3, 1))).get_result("data.frame")
    for column, expected in (("channel", ["e", "d"]), ("feature", ["b", "c", "a"]), ("feature_2", ["q", "p"])):
        assert list(frame[column].cat.categories) == expected
    assert list(frame["channel"]) == ["d", "e"] * 3
    assert list(frame["feature"]) == ["a", "a", "b", "b", "c", "c"]


def test_columns_are_matched_by_name():
    """Unlike in R, which goes by position (tests/inputs/test_frames.py)."""
    converter = Converter(table(), input_names=ABC)
    data = np.arange(6.0).reshape(2, 3)
    frames = [
        Gradient(converter, x, times_input=True).get_result("data.frame")
        for x in (data, pd.DataFrame(data[:, ::-1], columns=list(ABC)[::-1]))
    ]
    pd.testing.assert_frame_equal(*frames)


@pytest.mark.parametrize(
    "names", [[1, 2, 3], np.array([1, 2, 3]), range(1, 4), pd.Index([1, 2, 3]), ["1", "2", 3], [["1", 2, 3]]]
)
def test_whole_numbers_are_taken_as_texts(names):
    assert read_names(names, [(3,)], "names") == [[["1", "2", "3"]]]
