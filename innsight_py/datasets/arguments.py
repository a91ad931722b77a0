"""Reading the arguments of data sets: the model, the method and what it takes, ids and pixels."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from innsight_py._checks import describe, is_whole, read_number, suggestion
from innsight_py.datasets.columns import Columns
from innsight_py.inputs.names import default_names
from innsight_py.methods.registry import METHODS
from innsight_py.model.converter import Converter, with_names
from innsight_py.model.explainable import Explainable

#: Arguments of the methods that data sets see to themselves.
_OWN = {"converter", "model", "data", "data_names", "verbose", "batch_size"}


def read_converter(model: Any) -> Explainable:
    """Return the converter that was given, or make one of what `Converter` takes."""
    return model if isinstance(model, Explainable) else Converter(model)


def read_arguments(method: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Check the name of a method, and the names of its arguments.

    Raises
    ------
    TypeError, ValueError
        If there is no such method or argument.
    """
    if method not in METHODS:
        raise ValueError(f"Argument 'method': there is no method '{method}'{suggestion(method, METHODS)}")
    known = [name for name in inspect.signature(METHODS[method]).parameters if name not in _OWN]
    for name in arguments:
        if name not in known:
            raise TypeError(
                f"There is no argument '{name}' of '{method}' in a data set{suggestion(name, known)} "
                f"Its arguments: {', '.join(known)}."
            )
    target = arguments.get("target")
    if target is not None and not isinstance(target, str | int | Mapping):
        raise ValueError(
            f"Argument 'target': expected 'predicted', or one node or label for all rows of the data set, got "
            f"{describe(target)}."
        )
    seed = arguments.get("seed")
    if seed is not None and not is_whole(seed):
        raise TypeError(f"Argument 'seed': expected a whole number, got {describe(seed)}.")
    return dict(arguments)


def takes_seed(method: str) -> bool:
    """Tell whether a method draws random numbers."""
    return method in METHODS and "seed" in inspect.signature(METHODS[method]).parameters


def read_pixels(value: Any) -> tuple[float, float]:
    """Read what black and white become.

    Raises
    ------
    TypeError
        If it is no pair of numbers.
    """
    wrong = TypeError(f"Argument 'pixels': expected two numbers, such as (0, 1) or (-1, 1), got {describe(value)}.")
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise wrong
    try:
        return read_number(value[0]), read_number(value[1])
    except ValueError:
        raise wrong from None


def with_own_names(converter: Explainable, columns: Columns) -> Explainable:
    """Return a converter whose features are named by the columns, where the model has no names of its own."""
    names = [
        [list(own)] if len(own) == len(port.names[0]) and len(port.dim) == 1 and len(own) > 1 and
        [str(label) for label in port.names[0]] == default_names(port.dim)[0] else port.names
        for own, port in zip(columns.names, converter.inputs, strict=True)
    ]  # fmt: skip
    return with_names(converter, names) if isinstance(converter, Converter) else converter


def read_id_type(schema: Any, id_column: str | None) -> Any:
    """Return the type of the ids, whole numbers where rows have only their number.

    Raises
    ------
    ValueError
        If there is no such column.
    """
    import pyarrow as pa

    if id_column is None:
        return pa.int64()
    if id_column not in schema.names:
        raise ValueError(
            f"Argument 'id_column': there is no column '{id_column}'{suggestion(id_column, schema.names)} "
            f"Columns: {', '.join(schema.names[:8])}."
        )
    return without_codes(schema.field(id_column).type)


def without_codes(kind: Any) -> Any:
    """Return the type of Arrow that a column has when its words are written out."""
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind
