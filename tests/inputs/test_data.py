"""Reading the user's data: every kind of array, tensor, frame and list, both layouts, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from innsight_py import Converter, Gradient
from innsight_py.inputs.data import read_data, read_references

X = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, -4.0]])
WHOLE = np.array([[1, 2, 3], [0, 4, 1]])
TABLE, SIGNAL, IMAGE = (3,), (2, 3), (2, 3, 4)


def read(data, *dims, channels_first=True, dtype=torch.float64, argument="data", keys=None):
    return read_data(data, dims or (TABLE,), channels_first, dtype, argument, keys=keys)


class ArrayLike:
    """Something that numpy can read."""

    def __array__(self, dtype=None, copy=None):
        return X.astype(dtype or X.dtype)


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


KINDS = {
    "array": (X, lambda v: v),
    "list": (X, lambda v: v.tolist()),
    "tuple": (X, lambda v: tuple(map(tuple, v.tolist()))),
    "list of arrays": (X, list),
    "list of tensors": (X, lambda v: list(torch.tensor(v))),
    "list of bfloat16 tensors": (X, lambda v: list(torch.tensor(v).bfloat16())),
    "list of tensors with gradient": (X, lambda v: list(torch.tensor(v, requires_grad=True))),
    "array-like": (X, lambda v: ArrayLike()),
    "frame": (X, pd.DataFrame),
    "one-element list": (X, lambda v: [v]),
    "one-element tuple": (X, lambda v: (v,)),
    "one-element list of a list": (X, lambda v: [v.tolist()]),
    "one-element list of a frame": (X, lambda v: [pd.DataFrame(v)]),
    "one-element list of a tensor": (X, lambda v: [torch.tensor(v)]),
    **{f"array {kind}": (X, lambda v, kind=kind: v.astype(kind)) for kind in ("f2", "f4", "f8", "g", ">f4", ">f8")},
    **{f"array {kind}": (WHOLE, lambda v, kind=kind: v.astype(kind)) for kind in ("i1", "i8", "u1", "u8", ">i4")},
    "array of truth values": (X > 0, lambda v: v),
    "Fortran array": (X, np.asfortranarray),
    "reversed array": (X, lambda v: v[::-1, ::-1].copy()[::-1, ::-1]),
    "strided array": (X, lambda v: np.repeat(v, 2, axis=1)[:, ::2]),
    "transposed array": (X, lambda v: v.T.copy().T),
    "read-only array": (X, read_only),
    "broadcast array": (np.ones((2, 3)), lambda v: np.broadcast_to(1.0, (2, 3))),
    **{
        f"tensor {dtype}": (X if dtype.is_floating_point else WHOLE, lambda v, dtype=dtype: torch.tensor(v).to(dtype))
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8)
    },
    "tensor of truth values": (X > 0, torch.tensor),
    "tensor with gradient": (X, lambda v: torch.tensor(v, requires_grad=True)),
    "parameter": (X, lambda v: torch.nn.Parameter(torch.tensor(v))),
    "computed tensor": (X, lambda v: torch.tensor(v, requires_grad=True) * 1),
    "transposed tensor": (X, lambda v: torch.tensor(v.T.copy()).T),
    "expanded tensor": (np.ones((2, 3)), lambda v: torch.ones(1, 1).expand(2, 3)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kinds(kind, dtype):
    values, make = KINDS[kind]
    given = make(values)
    (tensor,) = read(given, dtype=dtype)
    assert tensor.dtype == dtype
    assert not tensor.requires_grad
    np.testing.assert_array_equal(tensor.numpy(), values.astype(tensor.numpy().dtype))


@pytest.mark.parametrize("kind", ["array", "tensor torch.float64", "frame", "one-element list", "tensor with gradient"])
def test_data_are_copied(kind):
    """The method keeps them in a field: what the user does with theirs later must not show there, nor the reverse."""
    given = KINDS[kind][1](X.copy())
    (tensor,) = read(given)
    tensor += 1
    (again,) = read(given)
    np.testing.assert_array_equal(again.numpy(), X)


def test_double_keeps_every_digit():
    third = np.full((1, 3), 1 / 3)
    assert read(third)[0][0, 0].item() == 1 / 3
    assert read(third.tolist())[0][0, 0].item() == 1 / 3
    assert read(pd.DataFrame(third))[0][0, 0].item() == 1 / 3
    assert read(third, dtype=torch.float32)[0][0, 0].item() == np.float32(1 / 3)
    big = np.array([[2**53 - 1, 2**40, 1]])
    assert read(big)[0].tolist() == big.tolist()


def test_missing_values_pass_through():
    holes = np.array([[1.0, np.nan, np.inf]])
    np.testing.assert_array_equal(read(holes)[0].numpy(), holes)


# -- frames -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    ["int8", "int64", "uint16", "float32", "bool", "Int64", "UInt8", "Float32", "Float64", "boolean", "Sparse[float]"],
)
def test_columns_of_numbers(kind):
    frame = pd.DataFrame(X).assign(**{"1": pd.Series([1, 0]).astype(kind)})[[0, "1", 2]]
    np.testing.assert_array_equal(read(frame)[0].numpy(), np.c_[X[:, 0], [1.0, 0.0], X[:, 2]])


@pytest.mark.parametrize("kind", ["Int64", "Float64", "boolean"])
def test_missing_in_nullable_columns(kind):
    frame = pd.DataFrame({"a": [0.5, 1.5], "b": pd.array([1, None], dtype=kind), "c": pd.array([None, 0], dtype=kind)})
    np.testing.assert_array_equal(read(frame)[0].numpy(), [[0.5, 1.0, np.nan], [1.5, np.nan, 0.0]])


@pytest.mark.parametrize(
    "values",
    [
        ["x", "y"],
        pd.Series(["x", "y"], dtype="string"),
        pd.Categorical(["x", "y"]),
        pd.Categorical([1, 2]),
        pd.Series([1, "y"], dtype=object),
        pd.to_datetime(["2020-01-01", "2020-01-02"]),
        pd.to_timedelta([1, 2]),
        pd.Series([1j, 2j]),
    ],
    ids=["strings", "string", "categorical", "categorical numbers", "object", "dates", "durations", "complex"],
)
@pytest.mark.parametrize("wrap", [lambda frame: frame, lambda frame: [frame]], ids=["frame", "list"])
def test_a_column_that_is_no_number_is_named(values, wrap):
    frame = pd.DataFrame({"a": [1.0, 2.0], "species": values, "c": [1.0, 2.0]})
    with pytest.raises(TypeError, match=r"'data'.*'species'.*dtype"):
        read(wrap(frame))


def test_rows_keep_their_order_whatever_the_index_says():
    frame = pd.DataFrame(X, index=[5, 2], columns=["z", "z", "a"])  # even with columns of one name
    np.testing.assert_array_equal(read(frame)[0].numpy(), X)


# -- layouts ----------------------------------------------------------------------------------------------------


def batch(*dim: int, rows: int = 2) -> np.ndarray:
    return np.random.default_rng(len(dim)).normal(size=(rows, *dim))


@pytest.mark.parametrize("dim", [TABLE, SIGNAL, IMAGE])
@pytest.mark.parametrize("make", [np.asarray, torch.tensor, lambda x: x.tolist()], ids=["array", "tensor", "list"])
def test_layouts(dim, make):
    """Data stay in the layout they came in; for tables there is but one."""
    first = batch(*dim)
    last = np.moveaxis(first, 1, -1) if len(dim) > 1 else first
    np.testing.assert_array_equal(read(make(first), dim)[0].numpy(), first)
    np.testing.assert_array_equal(read(make(last), dim, channels_first=False)[0].numpy(), last)


@pytest.mark.parametrize("dim", [SIGNAL, IMAGE])
@pytest.mark.parametrize("channels_first", [True, False])
def test_the_other_layout_is_recognised(dim, channels_first):
    other = batch(*dim) if not channels_first else np.moveaxis(batch(*dim), 1, -1)
    with pytest.raises(ValueError, match=rf"'data'.*channels_first={not channels_first}") as caught:
        read(other, dim, channels_first=channels_first)
    expected = dim if channels_first else (*dim[1:], dim[0])
    assert f"(*, {', '.join(map(str, expected))})" in str(caught.value)
    assert str(other.shape) in str(caught.value)


@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize(
    ("dim", "found"),
    [
        (TABLE, (2,)), (TABLE, (3, 1)), (SIGNAL, (2, 4)), (SIGNAL, (6,)), (IMAGE, (3, 2, 4)), (IMAGE, (2, 3)),
        (IMAGE, (4, 4, 2)),
    ],
)  # fmt: skip
def test_other_wrong_shapes_get_no_such_hint(dim, found, channels_first):
    with pytest.raises(ValueError, match="'data'") as caught:
        read(batch(*found), dim, channels_first=channels_first)
    assert "channels_first" not in str(caught.value)
    assert str((2, *found)) in str(caught.value)


@pytest.mark.parametrize("data", [X[0], X[0].tolist(), 3.0, pd.Series(X[0]), np.float64(1.0), torch.tensor(1.0), []])
def test_no_batch_axis(data):
    with pytest.raises(ValueError, match="'data'"):
        read(data)


@pytest.mark.parametrize("dim", [TABLE, IMAGE])
@pytest.mark.parametrize("make", [np.asarray, torch.tensor])
def test_no_rows(dim, make):
    with pytest.raises(ValueError, match=r"'data'.*at least one row"):
        read(make(batch(*dim, rows=0)), dim)


def test_a_list_of_instances_is_a_batch():
    images = batch(*IMAGE, rows=3)
    np.testing.assert_array_equal(read(list(images), IMAGE)[0].numpy(), images)
    np.testing.assert_array_equal(read([images[0]], IMAGE)[0].numpy(), images[:1])
    np.testing.assert_array_equal(read([images], IMAGE)[0].numpy(), images)


# -- what is no number ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        None,
        "abc",
        b"abc",
        object(),
        {1: X},
        {1, 2},
        torch.nn.Linear(3, 2),
        X.astype(object),
        X.astype(str),
        X.astype(complex),
        X.astype("M8[s]"),
        X.astype("m8[s]"),
        np.array([{}, {}, {}]),
        [["a", "b", "c"]],
        [[1.0, "b", 2.0]],
        [[1.0, None, 2.0]],
        [[1j, 2.0, 3.0]],
        torch.tensor(X) + 1j,
        lambda: X,
        (row for row in X),
    ],
    ids=lambda v: type(v).__name__,
)
def test_not_numbers(data):
    with pytest.raises(TypeError, match="'data'"):
        read(data)


@pytest.mark.parametrize("data", [[[1.0, 2.0, 3.0], [1.0]], [X, X[:, :2]], [[1.0], [[2.0]]]])
def test_ragged(data):
    with pytest.raises(ValueError, match=r"'data'.*rectangular"):
        read(data)


# -- several inputs ---------------------------------------------------------------------------------------------

DIMS = (TABLE, SIGNAL)


def two(rows: tuple[int, int] = (2, 2)) -> list[np.ndarray]:
    return [batch(*dim, rows=n) for dim, n in zip(DIMS, rows, strict=True)]


@pytest.mark.parametrize("wrap", [list, tuple])
def test_several_inputs(wrap):
    found = read(wrap([pd.DataFrame(two()[0]), torch.tensor(two()[1]).float()]), *DIMS)
    np.testing.assert_array_equal(found[0].numpy(), two()[0])
    np.testing.assert_array_equal(found[1].numpy(), two()[1].astype(np.float32))
    assert [x.dtype for x in found] == [torch.float64] * 2


@pytest.mark.parametrize(
    "data",
    [two()[0], torch.tensor(two()[0]), pd.DataFrame(two()[0]), None, "ab", np.array([1, 2])],
    ids=lambda v: type(v).__name__,
)  # fmt: skip
def test_several_inputs_need_a_list(data):
    with pytest.raises(TypeError, match=r"'data'.*2 inputs"):
        read(data, *DIMS)


@pytest.mark.parametrize("keys", [None, ["image", "table"]])
def test_dict_by_the_names_of_inputs(keys):
    one, other = keys or ("input_1", "input_2")
    found = read({other: two()[1], one: pd.DataFrame(two()[0])}, *DIMS, keys=keys)
    for x, expected in zip(found, two(), strict=True):
        np.testing.assert_array_equal(x.numpy(), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tabel": 1}, r"the model has no input 'tabel'; did you mean 'table'\? It has 'image', 'table'"),
        ({"table": two()[0]}, r"input 2 \('table'\): expected the shape"),
        ({"table": [["a"]]}, r"input 2 \('table'\): expected numbers"),
        ({"table": two()[1][:1]}, "as many rows for each input"),
    ],
    ids=repr,
)
def test_wrong_dicts(change, message):
    with pytest.raises((TypeError, ValueError), match=f"'data'.*{message}"):
        read({"image": two()[0], "table": two()[1]} | change, *DIMS, keys=["image", "table"])


def test_dict_with_missing_inputs():
    with pytest.raises(ValueError, match=r"'data': .* \('image', 'table'\), got none for 'image'"):
        read({"table": two()[1]}, *DIMS, keys=["image", "table"])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_wrong_number_of_inputs(count):
    with pytest.raises(ValueError, match=rf"'data'.*2 inputs.*got {count}"):
        read((two() * 2)[:count], *DIMS)


@pytest.mark.parametrize(
    ("change", "error", "fragments"),
    [
        (lambda x: [x[0], x[1][:1]], ValueError, ["[2, 1]"]),
        (lambda x: [x[0][:1], x[1]], ValueError, ["[1, 2]"]),  # a single row is not repeated
        (lambda x: [x[0], x[1][:0]], ValueError, ["input 2", "at least one row"]),
        (lambda x: [x[0][:, :2], x[1]], ValueError, ["input 1", "(*, 3)", "(2, 2)"]),
        (lambda x: [x[0], x[1].swapaxes(1, 2)], ValueError, ["input 2", "(*, 2, 3)", "channels_first=False"]),
        (lambda x: [x[1], x[0]], ValueError, ["input 1"]),
        (lambda x: [x[0], None], TypeError, ["input 2", "None"]),
        (lambda x: [x[0].astype(str), x[1]], TypeError, ["input 1"]),
        (lambda x: [pd.DataFrame(x[0]).assign(b="x")[[0, 1, "b"]], x[1]], TypeError, ["input 1", "'b'"]),
    ],
)
def test_which_input_is_wrong(change, error, fragments):
    with pytest.raises(error, match="'data'") as caught:
        read(change(two()), *DIMS)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_the_argument_is_named():
    for argument in ("x_ref", "data_ref"):
        with pytest.raises(ValueError, match=f"'{argument}'"):
            read(X[:, :2], argument=argument)
        with pytest.raises(TypeError, match=f"'{argument}'"):
            read("abc", argument=argument)


# -- through a method -------------------------------------------------------------------------------------------


def test_a_method_keeps_the_data_in_the_users_layout():
    layers = [{"type": "Flatten"}, {"type": "Dense", "weight": np.random.default_rng(0).normal(size=(2, 24))}]
    converter = Converter({"input_dim": IMAGE, "layers": layers}, dtype="double")
    first = batch(*IMAGE)
    last = np.moveaxis(first, 1, -1)
    a = Gradient(converter, first, times_input=True, dtype="double")
    b = Gradient(converter, last, times_input=True, dtype="double", channels_first=False)
    np.testing.assert_array_equal(a.data[0].numpy(), first)
    np.testing.assert_array_equal(b.data[0].numpy(), last)
    np.testing.assert_array_equal(np.moveaxis(b.get_result(), 3, 1), a.get_result())
    assert a.data[0].dtype == torch.float64


def test_a_gradient_of_the_users_tensor_is_neither_used_nor_left():
    x = torch.tensor(X, requires_grad=True)
    converter = Converter({"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, 2.0, 3.0]]}]})
    found = Gradient(converter, x, times_input=True)
    assert x.grad is None
    assert not found.result[0][0].requires_grad


# -- ways on -----------------------------------------------------------------------------------------------------------

OBJECTS = {
    "array": X.astype(object),
    "array of texts": X.astype(str),
    "array of numbers of every kind": np.array([[np.float32(1), 2, True]], dtype=object),
    "array with a gap": np.array([[1.0, None, 3.0]], dtype=object),
    "frame": pd.DataFrame(X.astype(object), columns=list("abc")),
    "frame with one column": pd.DataFrame({"a": [1.0], "b": pd.Series(["2.5"]), "c": [3]}),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_numbers_as_objects_are_refused_with_the_way_on(kind):
    with pytest.raises(TypeError, match=r"expected numbers.*Make numbers of what it holds: x\.astype\(float\)\."):
        read(OBJECTS[kind])
    assert read(OBJECTS[kind].astype(float))[0].shape == (len(OBJECTS[kind]), 3)


@pytest.mark.parametrize(
    "value",
    [
        np.array([["a", "b", "c"]]),
        np.array([[1.0, {}, 3.0]], dtype=object),
        np.ones((1, 3), complex),
        np.zeros((1, 3), "M8[s]"),
        pd.DataFrame({"a": [1.0], "b": ["red"], "c": [3]}),
    ],
)
def test_no_numbers_are_not_said_to_be_some(value):
    with pytest.raises(TypeError, match="expected numbers") as error:
        read(value)
    assert "astype" not in str(error.value)


@pytest.mark.parametrize(
    ("dim", "shape", "whole", "channels_first"),
    [
        ((1,), (4, 3), (4, 3, 1), True),
        ((1, 5), (4, 3, 5), (4, 3, 1, 5), True),
        ((1, 5), (4, 3, 5), (4, 3, 5, 1), False),
        ((2, 1, 6), (4, 3, 2, 6), (4, 3, 2, 1, 6), True),
    ],
)
def test_references_of_each_row_that_lack_an_axis(dim, shape, whole, channels_first):
    def references(values):
        return read_references(values, [dim], channels_first, torch.float64, "data_ref", rows=4)

    values = np.arange(np.prod(shape, dtype=float)).reshape(shape)
    for given in (values, torch.tensor(values)):
        with pytest.raises(ValueError, match=rf"3 references for each row: x\.reshape\({', '.join(map(str, whole))}\)"):
            references(given)
    np.testing.assert_array_equal(references(values.reshape(whole))[0], values.reshape(whole))
    with pytest.raises(ValueError, match="expected the shape") as error:
        references(values[:3])  # for other rows
    assert "reshape" not in str(error.value)
