"""What a program in a file would need: it is run without numbers first, in which only shapes are computed.

A file of a few bytes can ask for values of any size, or for very many calls. One that asks for more than a file of its
size may is refused before anything is computed.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from innsight_py.converters.torch.archive import UnfitError
from innsight_py.converters.torch.program import Program, Step
from innsight_py.spec import SpecError

#: The values that a row needs at once may have this many numbers, and this many more for each byte of the file.
VALUES, VALUES_PER_BYTE = 2**26, 128
#: A program may make this many calls, and this many more for each call in the file (an LSTM makes a few a step).
CALLS, CALLS_PER_CALL = 30_000, 8
#: Recurrent operators, which make several calls for each step.
_RECURRENT = ("aten::lstm.input", "aten::gru.input", "aten::rnn_tanh.input", "aten::rnn_relu.input")
_CALLS_PER_STEP = 8
_DIFFERENCES = 100


def check_needs(program: Program, input_dim: Sequence[tuple[int, ...]], dtype: torch.dtype) -> None:
    """Run a program for one row without numbers.

    Parameters
    ----------
    program : Program
        The program.
    input_dim : sequence of tuple of int
        Shape of each input without the batch axis.
    dtype : torch.dtype
        Precision of the inputs of floating-point numbers.

    Raises
    ------
    SpecError
        If it cannot run on such inputs.
    UnfitError
        If it needs more than a file of its size may ask for.
    """
    count, mode = _Count(program), FakeTensorMode()
    stored = [mode.from_tensor(x.detach()) for x in program.stored()]
    count.origins.know(mode, stored, program.stored())
    with torch.no_grad(), mode, count:
        try:
            inputs = []
            for dim, shape, kind in zip(input_dim, program.shapes, program.kinds, strict=True):
                own = dtype if kind.is_floating_point else kind
                inputs.append(torch.empty((1,) if len(shape) == 1 else (1, *dim), dtype=own, device="cpu"))
            program.run(inputs, stored, count.call)
        except UnfitError:
            raise
        except Exception as error:  # torch raises whatever it runs into
            first = (str(error).strip().splitlines() or [""])[0]
            raise SpecError(
                f"The module cannot run on one instance of shape {list(input_dim)}: {type(error).__name__}: {first} "
                "'input_dim' is channels first and without the batch axis."
            ) from None


class _Count(TorchDispatchMode):
    """Counts calls, and the numbers in the values that are needed at once."""

    def __init__(self, program: Program) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.room = VALUES + VALUES_PER_BYTE * program.size
        self.left = CALLS + CALLS_PER_CALL * len(program.steps)
        self.held: dict[int, int] = {}
        self.sum = 0
        #: How each value without numbers has come about, for those that depend on the program's own numbers alone.
        self.origins = _Origins()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.left -= 1
        self._check(_numbers(result))
        return result

    def call(self, step: Step, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Check a step, run it without numbers and count what it gives."""
        self._before(step, args)
        try:
            result = step.function(*args, **kwargs)
        except DynamicOutputShapeException:  # a choice by a mask, which may be a part of the program
            result = self.origins.compute(step, args, kwargs)
        self.origins.add(result, step, args, kwargs)
        if step.parts is not None and (not isinstance(result, list | tuple) or len(result) != step.parts):
            raise UnfitError(f"{step.parts} results of a call that has others")
        if step.function is not operator.getitem:
            self.held[step.result] = _numbers(result)
            self.sum += self.held[step.result]
        for slot in step.done:
            self.sum -= self.held.pop(slot, 0)
        self._check(0)
        return result

    def _check(self, more: int) -> None:
        if self.left < 0:
            raise UnfitError("a program that makes more calls than a file of its size may ask for")
        if self.sum + more > self.room:
            raise UnfitError("a program that needs more memory than a file of its size may ask for")

    def _before(self, step: Step, args: Sequence[Any]) -> None:
        if not isinstance(step.function, torch._ops.OpOverload):
            return
        name = step.function.name()  # type: ignore[no-untyped-call]
        if name in _RECURRENT and isinstance(args[0], Tensor) and isinstance(args[4], int):
            longest = max(args[0].shape[:2], default=0)
            self.left -= longest * _CALLS_PER_STEP * max(args[4], 1) if longest > self.left else 0
            self._check(0)
        if name == "aten::diff" and args[1] > _DIFFERENCES:  # one call after the other
            raise UnfitError(f"differences of more than {_DIFFERENCES} orders")
        if name == "aten::as_strided" and not _lies_within(*args[:4]):
            raise UnfitError("a view of memory that a value does not have")
        if step.parts is not None and isinstance(args[0], Tensor) and _parts(name, args) > step.parts:
            raise UnfitError(f"{step.parts} results of a call that has more")


class _Origins:
    """Computes a few values with their numbers: those whose shape follows from the numbers of the program."""

    def __init__(self) -> None:
        self._known: dict[int, Tensor] = {}
        self._came: dict[int, tuple[Any, Step, list[Any], dict[str, Any]]] = {}
        self._mode: FakeTensorMode | None = None

    def know(self, mode: FakeTensorMode, empty: Sequence[Tensor], stored: Sequence[Tensor]) -> None:
        """Take in the tensors of the program, without and with their numbers."""
        self._mode, self._kept = mode, list(empty)
        self._known = {id(x): y.detach() for x, y in zip(empty, stored, strict=True)}

    def add(self, result: Any, step: Step, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Note how a value has come about."""
        if id(result) not in self._known:  # some operators give back what they are given
            self._came.setdefault(id(result), (result, step, args, kwargs))

    def compute(self, step: Step, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Run a step with numbers.

        Raises
        ------
        LookupError
            If it depends on the inputs of the program.
        """
        assert self._mode is not None
        if str(step.function) == "aten.index.Tensor":  # by a mask of the program, of whatever else
            return step.function(args[0], self._positions(args[1]))
        with _disable_current_modes():
            real = step.function(*self._real(args), **self._real(kwargs))
            return tree_map(lambda x: self._mode.from_tensor(x) if isinstance(x, Tensor) else x, real)  # type: ignore[union-attr]

    def _positions(self, indices: list[Any]) -> list[Any]:
        assert self._mode is not None
        found: list[Any] = []
        for index in indices:
            if isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8):
                with _disable_current_modes():
                    places = self._real(index).nonzero(as_tuple=True)
                    found += [self._mode.from_tensor(x) for x in places]
            else:
                found.append(index)
        return found

    def _real(self, value: Any) -> Any:
        if isinstance(value, list | tuple):
            if id(value) not in self._came:
                return [self._real(entry) for entry in value]
        elif isinstance(value, dict):
            return {key: self._real(entry) for key, entry in value.items()}
        elif not isinstance(value, Tensor):
            return value
        if id(value) in self._known:
            return self._known[id(value)]
        if id(value) not in self._came:
            raise LookupError("a shape depends on the data")
        _, step, args, kwargs = self._came[id(value)]
        found = step.function(*self._real(args), **self._real(kwargs))
        if isinstance(found, Tensor):
            self._known[id(value)] = found
        return found


def _lies_within(x: Tensor, size: Sequence[int], stride: Sequence[int], offset: int | None = None) -> bool:
    start = x.storage_offset() if offset is None else offset
    last = start + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    return min((start, *stride)) >= 0 and (last + 1) * x.itemsize <= x.untyped_storage().nbytes()


def _parts(name: str, args: Sequence[Any]) -> int:
    """Return how many parts an operator cuts a tensor into, where that is not in the program."""
    x = args[0]
    if name == "aten::unbind.int":
        return int(x.shape[args[1]])
    if name in ("aten::split.Tensor", "aten::unsafe_split.Tensor"):
        return -(-int(x.shape[args[2]]) // max(int(args[1]), 1))
    if name in ("aten::chunk", "aten::unsafe_chunk"):
        n = int(x.shape[args[2]])
        return -(-n // max(-(-n // max(int(args[1]), 1)), 1))
    return int(args[1]) if name == "aten::tensor_split.sections" else 0


def _numbers(value: Any) -> int:
    return sum(x.numel() for x in tree_leaves(value) if isinstance(x, Tensor))
