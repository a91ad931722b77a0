"""The door for exported PyTorch programs: what ``torch.export.export`` returns, and files of ``torch.export.save``.

``torch.export.load`` unpickles and evaluates what it finds in a file. So a file is looked through first, and one that
has anything but tensors, ATen operators and sizes in it is refused.
"""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from innsight_py.converters import torch as torch_door
from innsight_py.converters.reading import Run, Values
from innsight_py.converters.torch_tracing import quiet
from innsight_py.spec import SpecError

_TARGET = re.compile(r"torch\.ops\.aten\.\w+(\.\w+)?|_operator\.\w+|math\.\w+|torch\.sym_\w+")
#: Sizes are formulas such as ``Symbol('s31', positive=True, integer=True)``, ``2*s31 + 1`` or ``Max(1, s0)``.
_SIZE = re.compile(
    r"(Symbol\('[su]\d+'(, (positive|integer|nonnegative)=True)*\)|[su]\d+|\d+(\.\d+)?"
    r"|Integer|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|IntTrueDiv|[-+*/(), ])*"
)


def load(path: Path) -> ExportedProgram:
    """Load a program that ``torch.export.save`` has written.

    Raises
    ------
    OSError
        If there is no such file.
    ValueError
        If the file is damaged or holds something else, or more than tensors and operators.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _refuse_code(archive, path)
        with warnings.catch_warnings(), quiet():
            warnings.simplefilter("ignore")
            program = torch.export.load(path)
    except (OSError, SpecError):
        raise
    except Exception as error:  # whatever torch makes of a damaged file
        first = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(
            f"'{path}' is damaged or no program that torch.export.save has written: {type(error).__name__}: {first}"
        ) from error
    program._guards_code = []
    return program


def _refuse_code(archive: zipfile.ZipFile, path: Path) -> None:
    names = archive.namelist()
    inner = [name.partition("/")[2] for name in names]
    if len(set(names)) < len(names):
        raise _unsafe(path, "two entries of the same name")
    if any(name.endswith(".pt") and not name.startswith("data/sample_inputs/") for name in inner) or any(
        name.startswith("data/aotinductor/") for name in inner
    ):
        raise _unsafe(path, "pickled or compiled objects")
    if not any(re.fullmatch(r"models/[^/]+\.json", name) for name in inner):
        raise SpecError(f"'{path}' is no program that torch.export.save has written.")
    for whole, name in zip(names, inner, strict=True):
        if name.startswith("data/sample_inputs/"):
            try:
                torch.load(io.BytesIO(archive.read(whole)), weights_only=True)
            except Exception:
                raise _unsafe(path, "example inputs that are no tensors") from None
        elif name.endswith(".json"):
            for key, value in _entries(json.loads(archive.read(whole))):
                _refuse_entry(key, value, path)


def _refuse_entry(key: str, value: Any, path: Path) -> None:
    if key == "use_pickle" and value:
        raise _unsafe(path, "pickled weights")
    if key == "path_name" and not re.fullmatch(r"(weight|tensor)_\d+", str(value)):
        raise _unsafe(path, f"'{value}', which is no tensor")
    if key == "target" and isinstance(value, str) and not _TARGET.fullmatch(value):
        raise _unsafe(path, f"the operator '{value}', which is not one of ATen")
    if key == "expr_str" and not _SIZE.fullmatch(str(value)):
        raise _unsafe(path, f"the size '{value}'")


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Give all keys of nested dicts, with their values."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield key, entry
            yield from _entries(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _entries(entry)


def _unsafe(path: Path, what: str) -> SpecError:
    return SpecError(f"'{path}' is refused because loading it could run code: it has {what} in it.")


class _Program(nn.Module):
    """A program as a module with one tensor an input; one made for a single row goes through them one by one."""

    def __init__(self, program: ExportedProgram, one_row: bool) -> None:
        super().__init__()
        self.inner = program.module(check_guards=False)
        self.structure, self.one_row = program.call_spec.in_spec, one_row

    def forward(self, *inputs: Tensor) -> Any:
        """Run the program on inputs ``(B, *dims)``."""
        if not self.one_row or inputs[0].shape[0] == 1:
            return self._call(*inputs)
        rows = [self._call(*(x[i : i + 1] for x in inputs)) for i in range(inputs[0].shape[0])]
        return tree_map(lambda *parts: torch.cat(parts), *rows)

    def _call(self, *inputs: Tensor) -> Any:
        args, kwargs = tree_unflatten(list(inputs), self.structure)
        return self.inner(*args, **kwargs)


def read(program: ExportedProgram, input_dim: tuple[tuple[int, ...], ...] | None) -> tuple[dict[str, Any], Run, Values]:
    """Read an exported program and write its model spec, as `innsight_py.converters.torch.read` does.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        Exported in evaluation mode, for a single row or for any number of rows.
    input_dim : tuple of tuple of int, optional
        Shapes without the batch axis. Needed where the program leaves a size open.

    Raises
    ------
    ValueError
        If the program takes something else than floating-point tensors, is fixed to several rows, or cannot be
        translated.
    """
    shapes = _shapes(program)
    batches = {shape[0] for shape in shapes}
    one_row = batches == {1}
    if any(isinstance(batch, int) and batch != 1 for batch in batches):
        raise SpecError(
            f"The exported program is fixed to {next(iter(batches))} rows at once. Export it for one row, or with "
            'dynamic_shapes=({0: torch.export.Dim("batch")},).'
        )
    if input_dim is None:
        if any(not isinstance(n, int) for shape in shapes for n in shape[1:]):
            raise ValueError("Argument 'input_dim': the exported program leaves a size open; give it, channels first.")
        input_dim = tuple(tuple(shape[1:]) for shape in shapes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what torch itself copies
        copied = torch_door.independent_copy(_Program(program, one_row))
    spec, run, values = torch_door.read_private(copied, input_dim)
    return spec | {"input_keys": [str(name) for name in program.graph_signature.user_inputs]}, run, values


def _shapes(program: ExportedProgram) -> list[tuple[Any, ...]]:
    """Return the shape of each input, where a size is open something else than an int."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    names = program.graph_signature.user_inputs
    inputs = [values.get(name) if isinstance(name, str) else name for name in names]
    if not inputs or any(not isinstance(x, Tensor) or not x.is_floating_point() or not x.dim() for x in inputs):
        raise SpecError("The exported program must take floating-point tensors, batch first, and nothing else.")
    assert len(tree_flatten(tree_unflatten(inputs, program.call_spec.in_spec))[0]) == len(inputs)
    return [tuple(n if isinstance(n, int) else None for n in x.shape) for x in inputs]  # type: ignore[union-attr]
