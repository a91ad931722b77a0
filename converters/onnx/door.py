"""The door for ONNX models: files and ``onnx.ModelProto``.

The nodes of the graph are read one after the other (`translation`), for one row: the batch has one entry, so that every
shape is known. A node whose inputs do not depend on the model's is computed (`folding`), and the chains that exporters
write to find shapes disappear with it. What each other operator becomes is in the table (`arithmetic`, `einsum`,
`activations`, `reductions`, `normalization`, `spatial`, `structure`, `resizing`, `recurrent`, `attention`, `choices`,
`learning`); operators that ONNX itself writes with others are written out first (`preparing`). Nothing in a model is
code, and nothing outside the model's folder is opened (`loading`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from innsight_py.converters.onnx import (  # noqa: F401 (fill the table)
    activations,
    arithmetic,
    attention,
    choices,
    einsum,
    learning,
    normalization,
    recurrent,
    reductions,
    resizing,
    spatial,
    structure,
)
from innsight_py.converters.onnx.preparing import prepared
from innsight_py.converters.onnx.translation import Translation
from innsight_py.converters.reading import Reading
from innsight_py.converters.use import Use, used


def read(model: Any, input_dim: tuple[tuple[int, ...], ...] | None, use: Use | None = None) -> Reading:
    """Read an ONNX model and write its model spec.

    Parameters
    ----------
    model : onnx.ModelProto
        The model, which is not changed. Its inputs have the batch first.
    input_dim : tuple of tuple of int, optional
        Shapes without the batch axis, channels first. Needed where the model leaves a size open, without an example.
    use : Use, optional
        How it is called, and what of it is explained. Inputs of whole numbers and truth values are fixed.

    Returns
    -------
    Reading
        The spec, and the model as it is, with onnxruntime or ONNX's own evaluator, to compare the converted one with.

    Raises
    ------
    ValueError
        If the model is not valid, leaves sizes open, or has an operator without a translation.
    """
    use = use or Use()
    translation = Translation(prepared(model), input_dim, use)
    original, double = translation.original(), translation.in_double()

    def values(inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        return original.values(inputs, translation.layers())

    whole = {i: torch.ones(1, *translation.dims[i]) for i in translation.whole}
    reading = Reading(
        translation.spec(), original.run, values, double=double, remark=original.remark, fixed=whole,
        tokens=frozenset(translation.tokens),
    )  # fmt: skip
    return used(reading, Use(example=use.example, fixed=use.fixed))
