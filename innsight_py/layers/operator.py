"""An operator of torch without rules of its own: it runs, and the gradient methods work through it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from innsight_py._errors import see
from innsight_py.layers.base import UnsupportedLayerError
from innsight_py.layers.cast import Computing
from innsight_py.layers.record import Record

#: Operators that give fractions, but no gradient.
_JUMPING = ("round", "floor", "ceil", "trunc", "fix", "sgn", "sign", "heaviside", "floor_divide")
#: Operators that give fractions and are meant to have no gradient; so are those that begin with "new_".
_CONSTANT = ("detach", "_like", "zero", "fill")


class Operator(Computing):
    """Runs an ATen operator row by row, and differentiates it with autograd, through complex numbers as well."""

    r_class = "Operator"

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.operator, self.part = spec.operator, spec.part
        self.arguments, self.options, self.shapes = spec.arguments, spec.options, spec.shapes

    @property
    def jumps(self) -> bool:
        return self.plain_name in _JUMPING

    @property
    def plain_name(self) -> str:
        """The operator's name alone."""
        return str(self.operator).removeprefix("aten::").partition(".")[0]

    @property
    def kind(self) -> str:
        return f"the operator {self.operator}"

    def linear(self, *inputs: Tensor) -> Tensor:
        packet, _, overload = self.operator.removeprefix("aten::").partition(".")
        call = getattr(getattr(torch.ops.aten, packet), overload or "default")

        def one_row(*rows: Tensor) -> Tensor:
            def value(entry: Any) -> Any:
                if isinstance(entry, dict):
                    i = entry["input"]
                    return rows[i].reshape(self.shapes[i])
                if isinstance(entry, list | tuple):
                    return [value(e) for e in entry]
                if isinstance(entry, Tensor):
                    return entry.to(inputs[0].device, self.dtype_of(entry.dtype))
                return self.dtype_of(entry) if isinstance(entry, torch.dtype) else entry

            options = {key: value(entry) for key, entry in self.options.items()}
            found = call(*value(self.arguments), **options)
            out: Tensor = found if self.part is None else found[self.part]
            out = out.to(self.dtype_of(out.dtype))
            return out.reshape(out.shape[1:]) if out.dim() and out.shape[0] == 1 else out

        with _quiet():
            try:
                rows: Tensor = torch.vmap(one_row)(*inputs)
                return rows
            except RuntimeError:  # vmap does not know the operator
                return torch.stack([one_row(*rows) for rows in zip(*inputs, strict=True)])

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        assert at is not None
        smooth = [i for i, x in enumerate(at.inputs) if _is_smooth(x)]
        pulled: list[Tensor | None] = [None] * len(at.inputs)
        with torch.enable_grad():
            leaves = [x.detach().requires_grad_(_is_smooth(x)) for x in at.inputs]
            try:
                out = self.linear(*leaves)
            except RuntimeError as error:
                if "derivative for" not in str(error):
                    raise
                raise self._has_none() from None
            if not out.requires_grad:
                if self._is_taken_as_constant(out) and smooth:
                    raise self._has_none()
                return pulled
            sources = [leaves[i] for i in smooth]
            rows = [
                self._grad(out, sources, row.expand_as(out), retain_graph=True, materialize_grads=True) for row in g
            ]
        for i, column in zip(smooth, zip(*rows, strict=True), strict=True):
            pulled[i] = torch.stack(column)
        return pulled

    def _grad(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        try:
            gradients: tuple[Tensor, ...] = torch.autograd.grad(*args, **kwargs)
            return gradients
        except RuntimeError:
            raise self._has_none() from None

    def _has_none(self) -> UnsupportedLayerError:
        at = f" at {self.place}" if self.place else ""
        text = f"torch has no gradient of {self.kind} (layer '{self.name}'{at})"
        return UnsupportedLayerError(see("no-rule", text))

    def _is_taken_as_constant(self, out: Tensor) -> bool:
        """Tell whether torch takes for a constant what is none, and would say 0: Bessel functions, for example."""
        return _is_smooth(out) and not self.plain_name.endswith(_CONSTANT) and not self.plain_name.startswith("new_")


class Function(Operator):
    """A function of Python with a backward of its own, which autograd takes; it runs row by row."""

    r_class = "Function"

    def __init__(self, layer: Any) -> None:
        Computing.__init__(self, layer)
        self.operator, self.part = layer.operator, layer.part or 0
        self.arguments, self.shapes = layer.arguments, layer.shapes

    @property
    def plain_name(self) -> str:
        return ""

    def _is_taken_as_constant(self, out: Tensor) -> bool:
        return False  # its backward says what has a gradient

    @property
    def kind(self) -> str:
        return f"the function {self.operator.cls.__qualname__} with a backward of its own"

    def linear(self, *inputs: Tensor) -> Tensor:
        return torch.stack([self._row(rows) for rows in zip(*inputs, strict=True)])

    def _row(self, rows: tuple[Tensor, ...]) -> Tensor:
        def value(entry: Any) -> Tensor:
            if isinstance(entry, dict):
                return rows[entry["input"]].reshape(self.shapes[entry["input"]])
            return entry.to(rows[0].device, self.dtype_of(entry.dtype))  # type: ignore[no-any-return]

        out = self.operator([value(entry) for entry in self.arguments])[self.part]
        out = out.to(self.dtype_of(out.dtype))
        return out.reshape(out.shape[1:]) if out.dim() and out.shape[0] == 1 else out  # type: ignore[no-any-return]


def operator(layer: Any) -> Operator:
    """Build the layer of an ATen operator, or of a function."""
    return Operator(layer) if isinstance(layer.operator, str) else Function(layer)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what torch says of operators for which vmap loops, in Python and in C++."""
    functorch: Any = torch._C._functorch  # type: ignore[attr-defined, unused-ignore]
    functorch._set_vmap_fallback_warning_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        functorch._set_vmap_fallback_warning_enabled(True)


def _is_smooth(x: Tensor) -> bool:
    """Tell whether numbers can have a gradient."""
    return x.is_floating_point() or x.is_complex()
