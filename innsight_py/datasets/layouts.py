"""How parts hold blocks: a column a feature, a list a line, or a line a value; and back."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from innsight_py.datasets.arrow import Column, Table
from innsight_py.datasets.block import Block
from innsight_py.datasets.form import ERROR, HEAD, OK, Form
from innsight_py.inputs.data import channels_last
from innsight_py.results.tables import feature_column

#: Columns of the long layout, named as in R's frames.
_LONG = ("model_input", "channel", "feature", "feature_2", "value")


def schema_of(form: Form, id_type: Any) -> Any:
    """Return the schema of Arrow of a form's parts, without metadata."""
    import pyarrow as pa

    labels = pa.dictionary(pa.int32(), pa.string())
    kinds = (id_type, labels, labels, pa.float64(), pa.float64(), pa.float64(), labels, pa.string())
    head = [pa.field(name, kind) for name, kind in zip(HEAD, kinds, strict=True)]
    value = pa.float64() if form.dtype == "double" else pa.float32()
    if form.layout == "wide":
        return pa.schema([*head, *(pa.field(name, value) for name in wide_names(form))])
    if form.layout == "dense":
        sizes = zip(dense_names(form), form.sizes, strict=True)
        return pa.schema([*head, *(pa.field(name, pa.list_(value, size)) for name, size in sizes)])
    long = zip(_LONG, (labels, labels, labels, labels, value), strict=True)
    return pa.schema([*head, *(pa.field(name, kind) for name, kind in long)])


def wide_names(form: Form) -> list[str]:
    """Name the columns of features: as the features are, after their input's name where a name would be there twice."""
    plain = [str(label) for port in form.inputs for label in port.names[0]]
    if len(set(plain) | set(HEAD)) == len(plain) + len(HEAD):
        return plain
    named = [f"{port.key}.{label}" for port in form.inputs for label in port.names[0]]
    if len(set(named) | set(HEAD)) == len(named) + len(HEAD):
        return named
    return [f"{port.key}.{n + 1}" for port in form.inputs for n in range(len(port.names[0]))]


def dense_names(form: Form) -> list[str]:
    """Name the columns of lists."""
    return ["values"] if len(form.inputs) == 1 else [f"values.{port.key}" for port in form.inputs]


def to_table(block: Block, form: Form, schema: Any) -> Table:
    """Write a block as a table of the schema."""
    import pyarrow as pa

    if form.layout == "long":
        return _long_table(block, form, schema)
    columns, lines = _head(block, form), len(block)
    good = block.good
    for j, x in enumerate(block.values):
        if form.layout == "wide":
            turned = np.ascontiguousarray(x.T)
            missing = None if good.all() and not np.isnan(x[:1]).any() else np.isnan(turned)
            columns += [
                pa.array(values, mask=None if missing is None else missing[n]) for n, values in enumerate(turned)
            ]
            continue
        column = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(x).ravel()), form.sizes[j])
        if not good.all():
            column = pa.FixedSizeListArray.from_arrays(
                pa.array(np.ascontiguousarray(x).ravel()), form.sizes[j], mask=pa.array(~good)
            )
        columns.append(column)
    assert all(len(column) == lines for column in columns)
    return pa.Table.from_arrays(columns, schema=schema)


def _head(block: Block, form: Form) -> list[Column]:
    """Return the columns that every layout begins with."""
    import pyarrow as pa

    good = block.good
    outputs = [port.key for port in form.outputs]
    starts = np.cumsum([0, *map(len, form.labels)])
    labels = [label for of_layer in form.labels for label in of_layer]
    bad = None if good.all() else ~good
    return [
        block.ids,
        _labelled(block.layers, outputs, bad),
        _labelled(np.where(good, starts[block.layers] + block.nodes, 0).astype(np.int32), labels, bad),
        *(pa.array(numbers, mask=_nan(numbers)) for numbers in np.ascontiguousarray(block.numbers.T)),
        _labelled((~good).astype(np.int32), [OK, ERROR], None),
        pa.nulls(len(block), pa.string()) if bad is None else pa.array(block.errors, pa.string()),
    ]


def _nan(numbers: np.ndarray) -> np.ndarray | None:
    missing = np.isnan(numbers)
    return missing if missing.any() else None


def _labelled(codes: np.ndarray, labels: list[str], missing: np.ndarray | None) -> Column:
    """Return a column of labels, each written once."""
    import pyarrow as pa

    indices = pa.array(codes if missing is None else np.maximum(codes, 0), pa.int32(), mask=missing)
    return pa.DictionaryArray.from_arrays(indices, pa.array(labels, pa.string()))


def _long_table(block: Block, form: Form, schema: Any) -> Table:
    """Write a line for each value; one for a row that went wrong."""
    import pyarrow as pa

    total, good = sum(form.sizes), block.good
    counts = np.where(good, total, 1)
    which = np.repeat(np.arange(len(block)), counts)
    head = [column.take(which) for column in _head(block, form)]
    values = np.concatenate(block.values, 1) if len(block.values) > 1 else block.values[0]
    first = np.cumsum(counts) - counts
    place = np.arange(len(which)) - first[which]
    flat, missing = values[which, place], ~good[which]
    labels = [_labelled_long(codes, names, place, missing) for codes, names in _places(form)]
    return pa.Table.from_arrays([*head, *labels, pa.array(flat, mask=missing | np.isnan(flat))], schema=schema)


def _labelled_long(codes: np.ndarray, names: list[str], place: np.ndarray, missing: np.ndarray) -> Column:
    own = codes[place]
    return _labelled(own.astype(np.int32), names, missing | (own < 0))


def _places(form: Form) -> list[tuple[np.ndarray, list[str]]]:
    """Return for each column of labels of the long layout which label each value has, -1 for none, and the labels."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in _LONG[:-1]}
    labels: dict[str, list[str]] = {name: [] for name in _LONG[:-1]}
    labels["model_input"] = [f"Input_{j + 1}" for j in range(len(form.inputs))]
    for j, port in enumerate(form.inputs):
        dim = port.dim if form.channels_first else channels_last(port.dim)
        index = np.indices(dim).reshape(len(dim), -1)
        index = index if form.channels_first or len(dim) == 1 else np.roll(index, 1, axis=0)
        size = index.shape[1]
        own = dict.fromkeys(columns, np.full(size, -1)) | {"model_input": np.full(size, j)}
        axes = zip(index, port.names, strict=True)
        for a, (codes, names) in enumerate(axes):
            column = "channel" if port.has_channels and a == 0 else feature_column(a - port.has_channels)
            if column in columns:
                own[column] = codes + len(labels[column])
                labels[column] += [str(name) for name in names]
        for name, codes in own.items():
            columns[name].append(codes)
    return [(np.concatenate(columns[name]), labels[name]) for name in columns]


# -- reading ------------------------------------------------------------------------------------------------------


def from_table(table: Table, form: Form) -> Block:
    """Read a table that `to_table` wrote; its lines may be some of them, those of a row together."""
    import pyarrow as pa

    table = table.combine_chunks()
    value = np.dtype(np.float64 if form.dtype == "double" else np.float32)
    status = np.asarray(_plain(table["status"]).to_pylist(), object)
    good = status == OK
    kept = _firsts(good, sum(form.sizes)) if form.layout == "long" else np.arange(len(table))
    ids = table["id"].combine_chunks()
    ids = (ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids).take(kept)
    good = good[kept]
    keys = {port.key: i for i, port in enumerate(form.outputs)}
    outputs, targets = (_plain(table[name]).take(kept).to_pylist() for name in ("output", "target"))
    layers = np.array([-1 if key is None else keys[key] for key in outputs], np.int32)
    codes = [{label: code for code, label in enumerate(labels)} for labels in form.labels]
    nodes = [-1 if i < 0 else codes[i][label] for i, label in zip(layers, targets, strict=True)]
    numbers = np.stack([_floats(table[name])[kept] for name in HEAD[3:6]], -1)
    return Block(
        ids, layers, np.array(nodes, np.int32), numbers, _values(table, form, kept, good, value),
        np.array(_plain(table["error"]).take(kept).to_pylist(), object),
    )  # fmt: skip


def _firsts(good: np.ndarray, total: int) -> np.ndarray:
    """Return the first of the lines that the long layout has for each line of a block."""
    firsts, at = [], 0
    while at < len(good):
        firsts.append(at)
        at += total if good[at] else 1
    return np.array(firsts, np.int64)


def _values(table: Table, form: Form, kept: np.ndarray, good: np.ndarray, value: np.dtype) -> list[np.ndarray]:
    if form.layout == "wide":
        names, starts = wide_names(form), np.cumsum([0, *form.sizes])
        pairs = itertools.pairwise(starts)
        return [np.stack([_floats(table[name]) for name in names[a:b]], -1).astype(value) for a, b in pairs]
    found = [np.full((len(kept), size), np.nan, value) for size in form.sizes]
    if form.layout == "dense":
        for name, x in zip(dense_names(form), found, strict=True):
            column = _plain(table[name]).filter(_mask(good))
            x[good] = np.asarray(column.flatten().to_numpy(zero_copy_only=False), value).reshape(-1, x.shape[1])
        return found
    flat, total = _floats(table["value"]), sum(form.sizes)
    lines = flat[(kept[good][:, None] + np.arange(total)).ravel()].reshape(-1, total)
    for x, part in zip(found, np.split(lines, np.cumsum(form.sizes)[:-1], axis=1), strict=True):
        x[good] = part
    return found


def _mask(good: np.ndarray) -> Column:
    import pyarrow as pa

    return pa.array(good)


def _plain(column: Column) -> Column:
    """Return a column in one piece."""
    import pyarrow as pa

    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _floats(column: Column) -> np.ndarray:
    """Return numbers, NaN where there are none."""
    plain: np.ndarray = _plain(column).to_numpy(zero_copy_only=False)
    return plain
