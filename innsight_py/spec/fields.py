"""Readers of the values that a layer of the model spec may hold.

Each returns the value in one form, or raises a ValueError that says what was expected.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from pydantic import BeforeValidator, PlainValidator

from innsight_py._arrays import without_tensors
from innsight_py._checks import is_whole
from innsight_py.functions.activations import activation_names
from innsight_py.spec.operators import OPERATORS

#: The largest number of inputs of one layer: reading the model takes a call for each.
_INPUTS = 5000
#: Arrays of at least this many numbers stay in half precision if it holds them.
LARGE = 2**16
#: So many numbers tell of most arrays that it does not.
_FEW = 64


def as_tensor(value: Any, finite: bool = True) -> torch.Tensor:
    """Copy numbers into a tensor of our own: float64 stays, lower precisions become float32, the rest float64."""
    if isinstance(value, torch.Tensor):
        # In one order in memory, on which the last digits of a product depend: a loaded model has that order too.
        tensor = value.detach().clone(memory_format=torch.contiguous_format)
    else:
        try:
            array = np.asarray(without_tensors(value))
        except ValueError:
            raise ValueError("expected numbers in a rectangular array") from None
        if array.dtype.kind not in "iuf":
            raise ValueError("expected an array of numbers")
        wide = array.dtype.kind in "iu" or array.dtype.itemsize > 4
        tensor = torch.from_numpy(array.astype(np.float64 if wide else np.float32, order="C"))
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError("expected an array of real numbers")
    if tensor.dtype != torch.float64:
        tensor = tensor.to(torch.float32 if tensor.is_floating_point() else torch.float64)
    if math.isfinite(float(tensor.sum())):  # then all of them are
        return tensor
    if bool(tensor.isnan().any()) or (finite and bool(tensor.isinf().any())):
        raise ValueError("expected finite numbers")
    return tensor


def in_half(x: torch.Tensor) -> torch.Tensor:
    """Return a large array in half precision if that holds every number of it, as those of a module of half precision.

    A model then takes half the memory at rest, and computes with the same numbers.
    """
    if x.numel() < LARGE or x.dtype == torch.float64:
        return x
    for dtype in (torch.bfloat16, torch.float16):
        if all(torch.equal(part, part.to(dtype).to(x.dtype)) for part in (x.flatten()[:_FEW], x)):
            return x.to(dtype)
    return x


def in_order(x: torch.Tensor) -> torch.Tensor:
    """Undo what is done to arrays inside: at least single precision, and in one order in memory."""
    return (x.float() if x.dtype in (torch.bfloat16, torch.float16) else x).contiguous()


def read_array(ndim: int, axes: str) -> PlainValidator:
    """Return a reader of arrays with `ndim` axes."""

    def read(value: Any) -> torch.Tensor:
        tensor = as_tensor(value)
        if tensor.dim() != ndim:
            raise ValueError(f"expected an array with the axes {axes}")
        return in_half(tensor)

    return PlainValidator(read)


def read_any_array(value: Any) -> torch.Tensor:
    """Read an array of finite numbers."""
    return as_tensor(value)


def read_maybe_infinite(value: Any) -> torch.Tensor:
    """Read an array of numbers, infinite ones included."""
    return as_tensor(value, finite=False)  # a mask of attention is a shift by minus infinity


def read_whole_numbers(value: Any, least: int) -> tuple[int, ...]:
    """Read one or several whole numbers."""
    single = isinstance(value, str | Mapping) or not isinstance(value, Iterable) or is_whole(value)
    numbers = [value] if single else list(value)
    if not all(is_whole(number) for number in numbers):
        raise ValueError("expected whole numbers")
    numbers = [int(number) for number in numbers]
    if not numbers or min(numbers) < least:
        raise ValueError(f"expected whole numbers of at least {least}")
    return tuple(numbers)


def read_per_axis(axes: int, least: int = 1) -> BeforeValidator:
    """One number for all spatial axes, or one for each."""

    def read(value: Any) -> tuple[int, ...]:
        numbers = read_whole_numbers(value, least)
        if len(numbers) == 1:
            return numbers * axes
        if len(numbers) != axes:
            raise ValueError(f"expected 1 or {axes} numbers" if axes > 1 else "expected one number")
        return numbers

    return BeforeValidator(read)


def read_sides(axes: int) -> BeforeValidator:
    """Read padding in torch's order, last axis first: (left, right[, top, bottom[, front, back]])."""

    def read(value: Any) -> tuple[int, ...]:
        numbers = read_whole_numbers(value, 0)
        if len(numbers) == 1:
            return numbers * (2 * axes)
        if axes > 1 and len(numbers) == axes:  # (left and right, top and bottom, ...)
            return tuple(number for number in numbers for _ in range(2))
        if len(numbers) != 2 * axes:
            raise ValueError("expected 1 or 2 numbers" if axes == 1 else f"expected 1, {axes} or {2 * axes} numbers")
        return numbers

    return BeforeValidator(read)


def read_any_sides(value: Any) -> tuple[int, ...]:
    """Read padding of as many axes as are given; below 0 it cuts off."""
    numbers = read_whole_numbers(value, -(10**6))
    if len(numbers) != 1 and len(numbers) % 2:
        raise ValueError("expected 1 number, or two for each axis: (left, right[, top, bottom[, ...]])")
    return numbers


def read_dims(value: Any) -> Any:
    """One shape, or a list of shapes for a layer that merges several."""
    if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
        entries = list(value)
        if entries and all(isinstance(entry, Iterable) and not isinstance(entry, str) for entry in entries):
            return tuple(read_whole_numbers(entry, 1) for entry in entries)
        value = entries
    return read_whole_numbers(value, 1)


def read_activation_name(value: Any) -> str:
    """Read the name of an activation."""
    if not isinstance(value, str) or value not in activation_names():
        raise ValueError(f"expected one of {', '.join(activation_names())}")
    return value


def read_axis(value: Any) -> int:
    """Read an axis other than that of the batch."""
    numbers = read_whole_numbers(value, -(10**6))
    if len(numbers) != 1 or numbers[0] == 0:
        raise ValueError("expected one axis other than 0, which is the batch")
    return numbers[0]


def read_numbers(value: Any) -> tuple[float, ...]:
    """Read numbers above 0."""
    entries = value if isinstance(value, list | tuple) else [value]
    if not entries or not all(isinstance(entry, int | float) and entry > 0 for entry in entries):
        raise ValueError("expected numbers above 0")
    return tuple(float(entry) for entry in entries)


def read_axes(value: Any) -> tuple[int, ...]:
    """Read axes other than that of the batch."""
    entries = list(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else [value]
    if not entries:
        raise ValueError("expected at least one axis")
    return tuple(read_axis(entry) for entry in entries)


def read_names(value: Any) -> tuple[str, ...]:
    """Read names of layers or inputs."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("expected a list of names of layers or inputs")
    if len(names) > _INPUTS:
        raise ValueError(f"expected at most {_INPUTS} names of layers or inputs")
    return tuple(names)


def read_operator(value: Any) -> Any:
    """Read the name of an ATen operator that computes tensors from tensors and does nothing else, or a function."""
    if callable(value) and isinstance(getattr(value, "cls", None), type):  # of Python, with a backward of its own
        return value
    if not isinstance(value, str) or value not in OPERATORS:
        raise ValueError(
            "expected the name of an ATen operator that computes tensors from tensors, such as 'aten::sort' "
            "(innsight_py.spec.operators lists them)"
        )
    return value


def read_shapes(value: Any) -> list[tuple[int, ...]]:
    """Read the shapes of an operator's inputs; one may have no axes."""
    if not isinstance(value, list | tuple) or not all(isinstance(shape, list | tuple) for shape in value):
        raise ValueError("expected a list of shapes")
    return [read_whole_numbers(shape, 0) if shape else () for shape in value]


def read_arguments(value: Any) -> Any:
    """Read the arguments of an operator, arrays as tensors of our own."""
    if isinstance(value, list | tuple):
        return [read_arguments(entry) for entry in value]
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, Mapping) and not (list(value) == ["input"] and is_whole(value["input"])):
        raise ValueError("expected {'input': i} for the i-th input among the arguments")
    return value.clone() if isinstance(value, torch.Tensor) else value


def read_options(value: Any) -> dict[str, Any]:
    """Read the arguments of an operator that have names."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError("expected a dict of arguments by name")
    return {key: read_arguments(entry) for key, entry in value.items()}


def read_dtype(value: Any) -> str:
    """Read torch's name of a type of numbers."""
    name = str(value).removeprefix("torch.") if isinstance(value, str | torch.dtype) else ""
    if not isinstance(getattr(torch, name, None), torch.dtype) or "bits" in name or "float8" in name:
        raise ValueError("expected the name of a type of numbers of torch, such as 'int64' or 'bool'")
    return name
