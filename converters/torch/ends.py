"""Messages about modules that cannot be traced or run, and about outputs that cannot be explained."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch.export.graph_signature import ConstantArgument, OutputKind, TensorArgument

from innsight_py._checks import describe
from innsight_py._errors import see
from innsight_py.spec import SpecError

_WRAP = (
    "Wrap the module in one whose 'forward' returns what is to be explained alone: a tensor (B, nodes), or several in "
    "a tuple or a dict."
)


def no_room(input_dim: Sequence[tuple[int, ...]]) -> SpecError:
    """Build the error for shapes that do not fit into memory."""
    return SpecError(
        see("input-shapes", f"Argument 'input_dim': there is no room for an input of shape {_shown(input_dim)}.")
    )


def no_dependence(program: torch.export.ExportedProgram, number: int) -> SpecError:
    """Build the error for an output (counted from 1) that is not computed from the inputs."""
    specs = [spec for spec in program.graph_signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
    arg = specs[number - 1].arg if number <= len(specs) else None
    if arg is None:
        what = "is missing: it returns no output"
    elif isinstance(arg, ConstantArgument):
        what = f"is {describe(arg.value)}, which is no tensor"
    elif isinstance(arg, TensorArgument):
        what = "does not depend on its inputs"
    else:
        what = "is a number of Python, made of a tensor ('item()' or a size), which has no gradient"
    others = [k for k, spec in enumerate(specs) if k != number - 1 and isinstance(spec.arg, TensorArgument)]
    choice = f"Choose another one: Converter(..., output={others[0]}), or its key. " if others else ""
    return SpecError(see("outputs-that-are-no-tensors", f"Output {number} of the module {what}. {choice}{_WRAP}"))


def no_gradient(kind: torch.dtype, number: int) -> SpecError:
    """Build the error for an output (counted from 1) that is not made of real numbers."""
    instead = "Return the values that it is made of, such as the logits of which 'argmax' takes the largest."
    if kind.is_complex:
        instead = "Return its real part, or its magnitude: 'y.real', 'y.abs()'."
    return SpecError(
        see(
            "outputs-that-are-no-tensors",
            f"Output {number} of the module is of {kind}: there is no gradient of it. {instead}",
        )
    )


def cannot_run(
    error: BaseException, input_dim: Sequence[tuple[int, ...]], line: str = "", by_example: bool = False
) -> SpecError:
    """Build the error for a module that fails for inputs of these shapes, traced or not.

    Parameters
    ----------
    error : Exception
        What the module raises.
    input_dim : sequence of tuple of int
        The shapes.
    line : str
        Where in the user's code, such as " at net.py:12".
    by_example : bool
        Whether the user gave what the module is called with, and not shapes.
    """
    what = f"The module cannot run on one instance of shape {_shown(input_dim)}: it raises "
    what += f"{type(error).__name__}{line}: {_first_line(error)}"
    if wants_whole_numbers(error):
        return SpecError(see("whole-number-inputs", f"{what} {BEHIND}"))
    shapes = "'input_dim' is channels first and without the batch axis."
    if by_example:
        shapes = (
            "Argument 'example' is what you call the module with, so that this call must work: module(x) for "
            "example=x, module(x, mask) for example=(x, mask), module(ids=x) for example={'ids': x}."
        )
    elif isinstance(error, NotImplementedError) and "forward" in str(error):
        shapes = "Give a module with a 'forward': torch.nn.Sequential, not a list or a dict of modules."
    elif isinstance(error, AttributeError | KeyError | NameError):
        shapes = "Its 'forward' must run on zeros of this shape."
    elif isinstance(error, TypeError) and "missing" in str(error):
        shapes = "'input_dim' has one shape for each input of 'forward', in a list: [(3, 32, 32), (5,)]."
    return SpecError(see("input-shapes", f"{what} {shapes}"))


def cannot_trace(error: BaseException, input_dim: Sequence[tuple[int, ...]]) -> SpecError:
    """Build the error for a module that runs, and that torch.export cannot trace."""
    by_data = "data-dependent" in str(error) or "Dynamic" in type(error).__name__
    why = "its path depends on the data" if by_data else "a value leaves its graph, or its path depends on the data"
    condition = "" if by_data else " if autograd can follow it"
    return SpecError(
        see(
            "control-flow",
            f"torch.export cannot trace the module for one instance of shape {_shown(input_dim)}: {why} "
            f"({type(error).__name__}: {_first_line(error)}) Explain it as it is{condition}, with "
            "torch_grad(model, data), torch_intgrad and the like; or convert the part of it behind that place.",
        )
    )


def depends_on_data(place: str, is_tensor: bool, input_dim: Sequence[tuple[int, ...]]) -> SpecError:
    """Build the error for a value whose shape depends on the data, or for a number that is made of them."""
    what = "the shape of a value" if is_tensor else "a number of Python ('item()', 'len()', a size)"
    return SpecError(
        see(
            "control-flow",
            f"torch.export cannot trace the module for one instance of shape {_shown(input_dim)}: {what} at {place} "
            "depends on the data. Explain it as it is, with torch_grad(model, data), torch_intgrad and the like; or "
            "convert the part of it behind that place.",
        )
    )


def wants_whole_numbers(error: BaseException) -> bool:
    """Tell whether a module fails because it takes whole numbers, and was given others."""
    return re.search(_WHOLE_NUMBERS, str(error)) is not None


#: How torch complains of a layer that looks up rows of a table.
_WHOLE_NUMBERS = r"scalar types: Long|scalar type Long|tensors used as indices|expected.*(Long|Int)\b"
#: What can be done with a module that takes whole numbers.
BEHIND = (
    "Say what it is called with: Converter(model, example=ids), one number a token is explained then. Or explain the "
    "part of the module behind the layer that takes whole numbers, which have no gradient."
)


def _shown(input_dim: Sequence[tuple[int, ...]]) -> str:
    return str(input_dim[0]) if len(input_dim) == 1 else str(list(input_dim))


def _first_line(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0].strip()
    return first if first.endswith((".", "!", "?")) else f"{first}."
