"""The shapes of inputs, and whether a model takes pictures with their channels last, as TensorFlow's do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from innsight_py.spec import SpecError

#: Operators that leave every entry where it is, if their other inputs are constants.
_IN_PLACE = ("Identity", "Cast", "Add", "Sub", "Mul", "Div", "Clip", "Relu", "Dropout")


def channels_last(
    names: Sequence[str], shapes: Sequence[tuple[int | None, ...] | None], nodes: Sequence[Any],
    constants: Mapping[str, np.ndarray],
) -> list[bool]:  # fmt: skip
    """Tell for each input whether it has its channels last: whether all that it goes to turns them to the front.

    All inputs with positions must agree, since data of several inputs are laid out alike.
    """
    users: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            users.setdefault(name, []).append(node)
    pictures = [shape is not None and len(shape) > 2 for shape in shapes]
    turned = [
        picture and _turns(name, shape or (), users, constants)
        for name, shape, picture in zip(names, shapes, pictures, strict=True)
    ]
    return turned if turned == pictures else [False] * len(names)


def _turns(
    name: str, shape: Sequence[int | None], users: dict[str, list[Any]], constants: Mapping[str, np.ndarray]
) -> bool:
    """Tell whether a value goes to nothing but transposes that bring its last axis behind the batch."""
    rank, waiting, found = len(shape), [name], False
    while waiting:
        for node in users.get(waiting.pop(), []):
            if node.op_type == "Transpose":
                order = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
                if order != [0, rank - 1, *range(1, rank - 1)]:
                    return False
                found = True
            elif node.op_type == "Reshape" and _turns_one_channel(node, shape, constants):
                found = True
            elif node.op_type in _IN_PLACE and all(i in constants for i in node.input[1:] if i):
                waiting.append(node.output[0])
            else:
                return False
    return found


def _turns_one_channel(node: Any, shape: Sequence[int | None], constants: Mapping[str, np.ndarray]) -> bool:
    """Tell whether a new shape only brings the one channel to the front, which is how some exporters turn it."""
    target = constants.get(node.input[1]) if len(node.input) > 1 else None
    return bool(shape[-1] == 1 and target is not None and target.tolist()[1:] == [1, *shape[1:-1]])


def own_shape(info: Any) -> tuple[int | None, ...] | None:
    """Return the shape that an input has in the file, None for a size (or for all of it) that is open."""
    if not info.type.tensor_type.HasField("shape"):
        return None
    shape = tuple(
        int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else None
        for d in info.type.tensor_type.shape.dim
    )
    if not shape or shape[0] not in (None, 1):
        what = f"has the shape {list(shape)}" if shape else "has no axes"
        raise SpecError(
            f"The input '{info.name}' of the ONNX model {what}: its first axis must be that of the batch, open or 1. "
            "Export the model with an open batch axis (dynamic_axes or dynamic_shapes in torch.onnx.export)."
        )
    return shape


def completed(
    names: Sequence[str], own: Sequence[tuple[int | None, ...] | None], input_dim: tuple[tuple[int, ...], ...] | None,
    last: Sequence[bool],
) -> list[tuple[int, ...]]:  # fmt: skip
    """Return the shape of each input for one row, completed by what the user says."""
    if input_dim is not None and len(input_dim) == len(own):
        given = [
            (1, *dim[1:], dim[0]) if m and len(dim) > 1 else (1, *dim) for dim, m in zip(input_dim, last, strict=True)
        ]
        given = [
            (1,) if shape is not None and len(shape) == 1 and dim == (1, 1) else dim
            for shape, dim in zip(own, given, strict=True)
        ]
        fits = [
            shape is None or (len(shape) == len(dim) and all(n in (None, m) for n, m in zip(shape, dim, strict=True)))
            for shape, dim in zip(own, given, strict=True)
        ]
        if all(fits):
            return given
    if any(shape is None or None in shape[1:] for shape in own):
        told = "" if input_dim is None else f"; {list(map(list, input_dim))} does not fit"
        shown = ", ".join(f"'{n}': {'unknown' if s is None else list(s[1:])}" for n, s in zip(names, own, strict=True))
        raise ValueError(
            f"Argument 'input_dim': the ONNX model leaves sizes of its inputs open ({shown}, None is open); give the "
            f"shape of each without the batch, channels first{told}."
        )
    return [(1, *(int(n) for n in shape[1:] if n is not None)) for shape in own if shape is not None]
