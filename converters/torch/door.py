"""The door for PyTorch modules.

``torch.export`` turns a module, however it is written, into a flat list of ATen operators, one entry for each use. It
is given a single instance, so that every value is one row's and the place of the batch axis never matters (attention
layers move it about and merge it with others); the layers then run that program for many rows at once. A value whose
first axis has one entry loses it: there the batch goes.

Each operator that has an entry in the table (`operators`, `arithmetic`, `structure`) becomes a layer of the model spec,
or a few (`translation`). Those without one are decomposed into smaller ones first; what has no entry then becomes a
layer that the gradient methods alone can work through.

The user's module is never touched: a copy of it is put into evaluation mode and traced.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from innsight_py._checks import warn
from innsight_py._errors import see
from innsight_py.converters.reading import Reading
from innsight_py.converters.torch.calling import (
    INNER,
    Arguments,
    Called,
    Taken,
    as_module,
    channels_to_front,
    find_fixed,
    nothing_left,
    read_example,
)
from innsight_py.converters.torch.contexts import Custom
from innsight_py.converters.torch.copies import private_copy, to_precision, with_identities
from innsight_py.converters.torch.fused import as_defined
from innsight_py.converters.torch.tracing import precision_of, trace, without_fast_path
from innsight_py.converters.torch.translation import Translation
from innsight_py.converters.torch.vectors import at_vectors
from innsight_py.converters.use import Use
from innsight_py.spec import SpecError
from innsight_py.spec.keys import default_keys
from innsight_py.spec.ports import kind_of


def read(
    model: Any,
    input_dim: tuple[tuple[int, ...], ...] | None,
    custom_backward: str = "derivative",
    use: Use | None = None,
) -> Reading:
    """Trace a module and write its model spec.

    Parameters
    ----------
    model : torch.nn.Module or callable
        The user's module, of which a copy is read, or a function or bound method that calls modules.
    input_dim : tuple of tuple of int
        Shape of each input without the batch axis.
    custom_backward : {"derivative", "own"}
        What functions with a backward of their own have as their gradient: the derivative of their forward pass, or
        what their backward says.
    use : Use, optional
        How it is called, and what of its output is explained. Default: with one tensor an input by position, and all.

    Returns
    -------
    Reading
        The model spec; `run` runs the copy, `values` gives the value of every layer.

    Raises
    ------
    ValueError
        If `input_dim` is missing, or the module cannot be traced or translated.
    """
    use = use or Use()
    if use.is_plain and isinstance(model, nn.Module):
        module, taken, arguments = model, None, None
    else:
        arguments = None if use.example is None else read_example(use.example, model)
        taken = None if arguments is None else arguments.taken
        module = Called(as_module(model), arguments, use.output, not use.channels_first)
    if taken is not None:
        input_dim = tuple(x.dim if use.channels_first else channels_to_front(x.dim) for x in taken)
    if input_dim is None:
        raise ValueError(
            see(
                "input-shapes",
                "Argument 'input_dim': a PyTorch module does not know the shape of its inputs. Give that of one "
                "instance, without the batch, channels first: Converter(model, input_dim=(3, 32, 32)) for RGB images; "
                "or what you call it with: Converter(model, example=x).",
            )
        )
    _refuse_script(module)
    _warn_of_training(module)
    keys = _input_keys(model, len(input_dim)) if taken is None else [x.key for x in taken]
    private = with_identities(private_copy(module))
    reading = _read_copy(private, input_dim, keys, taken, use, custom_backward)
    if not reading.tokens or arguments is None:
        return reading
    dtype, inner = precision_of(private), private._modules[INNER]
    assert inner is not None
    given, before = arguments.structure, arguments.taken

    def again(rows: Sequence[Tensor]) -> Reading:
        """Read the same model for rows of other lengths."""
        others = tuple(Taken(x.key, row.to(x.row.dtype)) for x, row in zip(before, rows, strict=True))
        called = Called(to_precision(inner, dtype), Arguments(given, others), use.output, not use.channels_first)
        dims = tuple(x.dim if use.channels_first else channels_to_front(x.dim) for x in others)
        return _read_copy(called, dims, keys, others, use, custom_backward)

    return replace(reading, again=again)


def _read_copy(
    private: nn.Module, input_dim: tuple[tuple[int, ...], ...], keys: list[str] | None, taken: Sequence[Taken] | None,
    use: Use, custom_backward: str,
) -> Reading:  # fmt: skip
    """Trace a copy of a module, and say what each of its inputs is."""
    rows = None if taken is None else [_first(x.row, use.channels_first) for x in taken]
    known = keys or default_keys("input", len(input_dim))
    fixed, ids = find_fixed(use.fixed, known, taken)
    custom = Custom(keep=custom_backward == "own")
    reading = read_private(private, input_dim, custom, rows, fixed, ids)
    spec = reading.spec if keys is None else reading.spec | {"input_keys": keys}
    spec = spec if use.channels_first else spec | {"channels_first": False}
    return with_kinds(replace(reading, spec=spec), input_dim, rows, fixed, ids, use.fixed)


def with_kinds(
    reading: Reading, dims: Sequence[tuple[int, ...]], rows: Sequence[Tensor] | None, fixed: Sequence[int],
    ids: Sequence[int], named: Sequence[str],
) -> Reading:  # fmt: skip
    """Say which inputs are fixed, and which are made of tokens.

    Parameters
    ----------
    reading : Reading
        The model; its spec has the names of the inputs, if they have any.
    dims : sequence of tuple of int
        Shape of each input.
    rows : sequence of Tensor, optional
        One row of each input.
    fixed, ids : sequence of int
        The inputs that are fixed, and those of whole numbers, which are fixed if no embedding reads them.
    named : sequence of str
        The names that the user gave.

    Raises
    ------
    ValueError
        If no input is left to be explained.
    """
    if not fixed and not ids:
        return reading
    fixed = [i for i in range(len(dims)) if i in fixed or (i in ids and i not in reading.tokens)]
    if len(fixed) == len(dims):
        raise nothing_left(named, reading.spec.get("input_keys") or default_keys("input", len(dims)))
    given = {i: torch.zeros(1, *dims[i]) if rows is None else rows[i].double() for i in (*fixed, *reading.tokens)}
    kinds = ["fixed" if i in fixed else "tokens" if i in reading.tokens else kind_of(dim) for i, dim in enumerate(dims)]
    return replace(reading, spec=reading.spec | {"input_kinds": kinds}, fixed=given)


def _first(row: Tensor, channels_first: bool) -> Tensor:
    row = row.unsqueeze(-1) if row.dim() == 1 else row
    return row if channels_first or row.dim() < 3 else row.movedim(-1, 1)


def read_private(
    copied: nn.Module,
    input_dim: tuple[tuple[int, ...], ...],
    custom: Custom | None = None,
    rows: Sequence[Tensor] | None = None,
    fixed: Collection[int] = (),
    ids: Collection[int] = (),
) -> Reading:
    """Trace a module as `read` does, without a copy; `run` changes its precision. Inputs `ids` may be tokens."""
    custom = custom or Custom()
    with as_defined(copied):
        program = trace(copied, input_dim, custom, rows, {*fixed, *ids})
    translation = Translation(program, input_dim, fixed, ids)

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad(), without_fast_path(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how the module is run here, which is no matter of the user's
            out = to_precision(copied, inputs[0].dtype)(*inputs)
        leaves = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        return [leaf if leaf.dim() > 1 else leaf.unsqueeze(-1) for leaf in leaves]

    dtype = precision_of(copied)

    def values(inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        to_precision(copied, dtype)
        return translation.values([x.to(dtype) for x in inputs])

    def scalar(inputs: Sequence[Tensor], seeds: Sequence[Tensor]) -> Tensor | None:
        outs = tree_leaves(to_precision(copied, inputs[0].dtype)(*(x.clone() for x in inputs)))
        tensors = [out for out in outs if isinstance(out, Tensor)]
        total = sum((out.flatten() * seed).sum() for out, seed in zip(tensors, seeds, strict=True))
        return total if isinstance(total, Tensor) else None

    def vectors(inputs: Sequence[Tensor], seeds: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        with without_fast_path(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return at_vectors(lambda: scalar(inputs, seeds))

    def gradient(inputs: Sequence[Tensor], seeds: Sequence[Tensor]) -> list[Tensor | None]:
        with torch.enable_grad(), without_fast_path(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            leaves = [x.detach().clone().requires_grad_() for x in inputs]
            total = scalar(leaves, seeds)
            if total is None or not total.requires_grad:
                return [None] * len(leaves)
            found = torch.autograd.grad(total, leaves, allow_unused=True)
            return [None if i in fixed or i in ids else gradient for i, gradient in enumerate(found)]

    names = () if custom.keep else tuple(custom.names)
    found = frozenset(translation.tokens)
    return Reading(
        translation.spec(), run, values, gradient, names, tokens=found, vectors=vectors if found else None
    )  # fmt: skip


def _input_keys(model: nn.Module, n: int) -> list[str] | None:
    """Return the names of the arguments that a module takes its inputs in; None if they have none."""
    try:
        parameters = list(inspect.signature(getattr(model, "forward", model)).parameters.values())[:n]
    except (TypeError, ValueError):  # written in C
        return None
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return named if len(named) == n else None


def _refuse_script(model: nn.Module) -> None:
    for name, part in model.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            which = f"The module's part '{name}'" if name else "The module"
            raise SpecError(
                f"{which} is TorchScript ('torch.jit.trace' or 'torch.jit.script'), which torch.export cannot trace. "
                "Give the original torch.nn.Module, before it was scripted; or explain the scripted one as it is with "
                "the gradient functions, 'torch_grad(model, data)', which do not convert."
            )


def _warn_of_training(model: nn.Module) -> None:
    kinds = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
    found = sorted({type(m).__name__ for m in model.modules() if isinstance(m, kinds) and m.training})
    if found:
        warn(
            see(
                "training-mode",
                f"The module is in training mode and has {', '.join(found)}: it is converted as in 'eval()'. Call "
                "model.eval() first.",
            )
        )
