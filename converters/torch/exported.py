"""The door for exported PyTorch programs: what ``torch.export.export`` returns, and files of ``torch.export.save``.

torch's own reader of such files unpickles, imports and evaluates what it finds in them. It is not used: a file is read
into plain values and tensors (`archive`), each of which is checked, and a program is built of these (`program`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map, tree_unflatten

from innsight_py.converters.reading import Reading, Run
from innsight_py.converters.torch import door as torch_door
from innsight_py.converters.torch.archive import UnfitError, read_archive
from innsight_py.converters.torch.calling import Called, channels_to_front, is_beside
from innsight_py.converters.torch.copies import independent_copy
from innsight_py.converters.torch.outline import check_needs
from innsight_py.converters.torch.program import Program
from innsight_py.converters.torch.tracing import as_module, precision_of
from innsight_py.converters.use import Use, dims_of, named_inputs
from innsight_py.spec import SpecError

_TRUSTED = "If you trust the file, load it with torch yourself and give Converter the program."


@dataclass(frozen=True)
class FileProgram:
    """A program that was read from a file.

    Attributes
    ----------
    program : Program
        The program.
    path : Path
        The file.
    """

    program: Program
    path: Path


def load(path: Path) -> FileProgram:
    """Load a program that ``torch.export.save`` has written.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If the file is damaged or holds something else, or more than tensors and operators that are known.
    """
    try:
        return FileProgram(Program(read_archive(path)), path)
    except UnfitError as error:
        raise _refused(path, error) from None
    except (OSError, SpecError):
        raise
    except Exception as error:  # whatever comes of a damaged file
        first = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(
            f"'{path}' is damaged or no program that torch.export.save has written: {type(error).__name__}: {first}"
        ) from error


def _refused(path: Path, error: UnfitError) -> SpecError:
    return SpecError(f"'{path}' is refused: it has {error} in it. {_TRUSTED}")


class _Program(nn.Module):
    """A program as a module with one tensor an input; one made for a single row goes through them one by one."""

    def __init__(
        self, program: ExportedProgram | Program, one_row: bool, kinds: Sequence[torch.dtype], shapes: Sequence[Any]
    ) -> None:  # fmt: skip
        super().__init__()
        self.structure: TreeSpec | None = None
        self.inner: nn.Module
        if isinstance(program, ExportedProgram):
            self.inner = as_module(program)
            self.structure = program.call_spec.in_spec
        else:
            self.inner = program
        self.one_row, self.kinds, self.ranks = one_row, tuple(kinds), [len(shape) for shape in shapes]

    def forward(self, *inputs: Tensor) -> Any:
        """Run the program on inputs ``(B, *dims)``."""
        inputs = tuple(_as_taken(*each) for each in zip(inputs, self.ranks, self.kinds, strict=True))
        if not self.one_row or inputs[0].shape[0] == 1:
            return self._call(*inputs)
        rows = [self._call(*(x[i : i + 1] for x in inputs)) for i in range(inputs[0].shape[0])]
        return tree_map(lambda *parts: torch.cat(parts), *rows)

    def _call(self, *inputs: Tensor) -> Any:
        if self.structure is None:
            return self.inner.forward(*inputs)  # no module of its own in the names of layers
        args, kwargs = tree_unflatten(list(inputs), self.structure)
        return self.inner(*args, **kwargs)


def _as_taken(x: Tensor, rank: int, kind: torch.dtype) -> Tensor:
    """Return an input as the program takes it: with its axes, and whole numbers where these are meant."""
    x = x.reshape(x.shape[0]) if rank == 1 else x
    return x if kind.is_floating_point else x.to(kind)


def read(
    program: ExportedProgram | FileProgram, input_dim: tuple[tuple[int, ...], ...] | None, use: Use | None = None
) -> Reading:
    """Read an exported program and write its model spec, as `innsight_py.converters.torch.door.read` does.

    Parameters
    ----------
    program : torch.export.ExportedProgram or FileProgram
        Exported in evaluation mode, for a single row or for any number of rows.
    input_dim : tuple of tuple of int, optional
        Shapes without the batch axis. Needed where the program leaves a size open, without an example.
    use : Use, optional
        How it is called, and what of it is explained. Inputs of whole numbers and truth values are fixed.

    Raises
    ------
    ValueError
        If the program takes something else than tensors, is fixed to several rows, or cannot be translated.
    """
    use = use or Use()
    found = _inputs_of_file(program.program) if isinstance(program, FileProgram) else _inputs(program)
    keys, shapes, kinds = found
    batches = {shape[0] for shape in shapes}
    one_row = batches == {1}
    if any(isinstance(batch, int) and batch != 1 for batch in batches):
        raise SpecError(
            f"The exported program is fixed to {next(iter(batches))} rows at once. Export it for one row, or with "
            'dynamic_shapes=({0: torch.export.Dim("batch")},).'
        )
    given, last = use.rows(keys), not use.channels_first
    if given is not None:
        input_dim = dims_of(given, [last] * len(given))
    if input_dim is None:
        if any(not isinstance(n, int) for shape in shapes for n in shape[1:]):
            raise ValueError(
                "Argument 'input_dim': the exported program leaves a size open; give it, channels first, or what the "
                "program is called with: Converter(program, example=x)."
            )
        input_dim = tuple(channels_to_front(dim) if last and len(dim) > 1 else dim
                          for dim in (tuple(shape[1:]) or (1,) for shape in shapes))  # fmt: skip
    if isinstance(program, FileProgram):
        called = tuple((*dim[1:], dim[0]) if last and len(dim) > 1 else dim for dim in input_dim)
        module: nn.Module = _Program(_checked(program, called), one_row, kinds, shapes)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what torch itself copies
            module = independent_copy(_Program(program, one_row, kinds, shapes))
    if last or use.output is not None:
        module = Called(module, None, use.output, last)
    named, whole = named_inputs(use.fixed, keys), [i for i, kind in enumerate(kinds) if not kind.is_floating_point]
    ids = [i for i in whole if i not in named and kinds[i] != torch.bool and not is_beside(keys[i])]
    fixed = sorted({*named, *whole} - set(ids))
    rows = None
    if given is not None:
        rows = [x.unsqueeze(-1) if x.dim() == 1 else x.movedim(-1, 1) if last and x.dim() > 2 else x for x in given]
    elif whole:
        rows = [torch.ones(1, *dim) for dim in input_dim]
    reading = torch_door.read_private(module, input_dim, None, rows, fixed, ids)
    if isinstance(program, FileProgram):
        reading = replace(reading, run=_told(reading.run, program.path))
    spec = reading.spec | {"input_keys": keys} | ({"channels_first": False} if last else {})
    return torch_door.with_kinds(replace(reading, spec=spec), input_dim, rows, fixed, ids, use.fixed)


def _checked(read: FileProgram, input_dim: Sequence[tuple[int, ...]]) -> Program:
    """Return the program of a file, which can run on one row and does not need too much for it."""
    if len(input_dim) != len(read.program.shapes):
        raise ValueError(
            f"Argument 'input_dim': expected {len(read.program.shapes)} shape(s), one for each input of the program, "
            f"got {len(input_dim)}."
        )
    try:
        check_needs(read.program, input_dim, precision_of(read.program))
    except UnfitError as error:
        raise _refused(read.path, error) from None
    return read.program


def _told(run: Run | None, path: Path) -> Run:
    """Let whatever stops a program of a file be a RuntimeError, for which the comparison is prepared."""
    assert run is not None

    def told(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        try:
            return run(inputs)
        except RuntimeError:
            raise
        except Exception as error:  # torch raises whatever it runs into
            first = (str(error).strip().splitlines() or [""])[0]
            raise RuntimeError(f"the program in '{path}' cannot run: {type(error).__name__}: {first}") from error

    return told


#: The name, the shape and the kind of numbers of each input.
_Inputs = tuple[list[str], list[tuple[Any, ...]], list[torch.dtype]]


def _inputs_of_file(program: Program) -> _Inputs:
    if not program.shapes or not all(program.shapes) or any(kind.is_complex for kind in program.kinds):
        raise _no_tensors()
    return list(program.inputs), list(program.shapes), list(program.kinds)


def _inputs(program: ExportedProgram) -> _Inputs:
    """Return the name, shape and kind of each input, where a size is open something else than an int."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    names = program.graph_signature.user_inputs
    given = [values.get(name) if isinstance(name, str) else name for name in names]
    inputs = [x for x in given if isinstance(x, Tensor) and x.dim() and not x.is_complex()]
    if not inputs or len(inputs) < len(given):
        raise _no_tensors()
    assert len(tree_flatten(tree_unflatten(given, program.call_spec.in_spec))[0]) == len(inputs)
    shapes = [tuple(n if isinstance(n, int) else None for n in x.shape) for x in inputs]
    return [str(name) for name in names], shapes, [x.dtype for x in inputs]


def _no_tensors() -> SpecError:
    return SpecError("The exported program must take tensors of real numbers, batch first, and nothing else.")
