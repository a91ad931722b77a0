"""A PyTorch module taken as it is: a graph of one layer, which autograd differentiates."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from innsight_py._checks import describe
from innsight_py._errors import see
from innsight_py.converters.torch.copies import independent_copy, to_precision
from innsight_py.converters.torch.ends import BEHIND, wants_whole_numbers
from innsight_py.inputs.names import default_names
from innsight_py.inputs.ports import make_ports
from innsight_py.layers import Layer, Record
from innsight_py.model.explainable import DTYPES, Explainable
from innsight_py.model.graph import Graph, Node, Sizes
from innsight_py.spec.keys import default_keys


@dataclass(frozen=True)
class _Name:
    name: str
    place: str | None = None
    origin: str | None = None


class ModuleLayer(Layer):
    """A whole module. One forward pass, of which autograd keeps the graph, serves all explained outputs.

    Parameters
    ----------
    module : torch.nn.Module
        Takes one tensor ``(B, *dims)``, returns one tensor ``(B,)`` or ``(B, nodes)``.
    """

    r_class = "Module"

    def __init__(self, module: nn.Module) -> None:
        super().__init__(_Name("module"))
        self.module = module
        self._together = True  # whether autograd can take several outputs back at once

    @property
    def kind(self) -> str:
        """What error messages call the layer."""
        return f"a module that is not converted ({type(self.module).__name__})"

    def linear(self, *inputs: Tensor) -> Tensor:
        """Run the module; the output comes with an axis of nodes."""
        out = self.module(*inputs)
        if not isinstance(out, Tensor):
            raise TypeError(
                f"The module must return a single tensor, got {describe(out)}. Wrap it in a module that returns the "
                "output to be explained, or use Converter, which takes several outputs."
            )
        rows = inputs[0].shape[0]
        nodes = self.output_dim or tuple(out.shape[1:]) or (1,)
        if len(nodes) != 1 or out.numel() != rows * nodes[0] or not out.is_floating_point():
            raise ValueError(
                "The module must return real numbers of shape (B,) or (B, nodes), got "
                f"{tuple(out.shape)} ({out.dtype}) for {rows} rows.{_nodes_of(out, rows)}"
            )
        return out.reshape(rows, *nodes).to(inputs[0].dtype)  # a module may cast by itself

    def record(self, *inputs: Tensor) -> Record:
        """Run the module and keep autograd's graph."""
        with torch.enable_grad():
            leaves = tuple(x.detach().requires_grad_() for x in inputs)
            out = self.linear(*(x.clone() for x in leaves))  # a module may change its input in place
        return Record(leaves, out, out)

    def pullback(self, g: Tensor, at: Record | None) -> list[Tensor | None]:
        """Vector-Jacobian product, of all explained outputs at once where autograd can."""
        assert at is not None
        upper = g.expand(-1, *at.output.shape)
        if len(upper) > 1 and self._together:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of operators for which the batched walk loops
                try:
                    return list(_vjp(at, upper, is_grads_batched=True))
                except RuntimeError:  # an operator without a batched walk
                    self._together = False
        try:
            rows = [_vjp(at, row) for row in upper]
        except RuntimeError as error:
            if "is not implemented" not in str(error):
                raise
            raise ValueError(
                f"The module has an operation without a gradient in torch: {(str(error).splitlines() or [''])[0]}. "
                "Convert the part of the module behind it, or write it with operations that have one."
            ) from error
        return [torch.stack(column) for column in zip(*rows, strict=True)]

    def measure(self, sample: Tensor) -> tuple[int, int]:
        """Run a sample to find out the shapes, and how many numbers one row keeps: in all, and at the widest place.

        Raises
        ------
        TypeError, ValueError
            If the module does not return one differentiable tensor of nodes.
        """
        saved: dict[int, int] = {}
        weights = {x.data_ptr() for x in (*self.parameters(), *self.buffers())}

        def note(x: Tensor) -> Tensor:
            if x.data_ptr() not in weights:
                saved[x.data_ptr()] = x.numel()
            return x

        with saved_tensors_hooks(note, lambda x: x):
            try:
                record = self.record(sample)
            except (RuntimeError, ValueError, IndexError) as error:
                if wants_whole_numbers(error):
                    first = (str(error).splitlines() or [""])[0]
                    raise ValueError(
                        see("whole-number-inputs", f"The module cannot be run: {first}. {BEHIND}")
                    ) from error
                place = _failing_part(self.module, sample)
                other = isinstance(error, RuntimeError) and not re.search("shape|size|dimension|expected", str(error))
                if place is None or other:  # what we make of its answer, or an error of its own
                    raise
                raise ValueError(
                    f"Argument 'data': the module cannot be run for rows of shape {tuple(sample.shape[1:])}: "
                    f"{(str(error).splitlines() or [''])[0]}{place}"
                ) from error
        if not record.output.requires_grad:
            raise ValueError(
                "The module's output has no gradient with respect to its input: it does not depend on it, or passes "
                "through an operation that autograd does not follow (detach, no_grad, whole numbers)."
            )
        self.input_dims, self.output_dim = (tuple(sample.shape[1:]),), tuple(record.output.shape[1:])
        rows, ends = sample.shape[0], sample.numel() + record.output.numel()
        return -(-(ends + sum(saved.values())) // rows), -(-max(ends, *saved.values(), 0) // rows)


def _nodes_of(out: Tensor, rows: int) -> str:
    """Say how an output of another shape becomes one of nodes."""
    if not out.is_floating_point() or out.dim() < 3 or out.shape[0] != rows:
        return ""
    return " torch.nn.Sequential(model, torch.nn.Flatten()) makes nodes of all of them."


def _failing_part(module: nn.Module, sample: Tensor) -> str | None:
    """Say which part of a module cannot take what comes to it; None if the module can be run."""
    names = {part: name for name, part in module.named_modules()}
    entered: list[nn.Module] = []
    hooks = []
    for part in names:
        hooks.append(part.register_forward_pre_hook(lambda part, inputs: entered.append(part)))
        hooks.append(part.register_forward_hook(lambda part, inputs, out: entered.remove(part)))
    try:
        with torch.no_grad():
            module(sample.clone())
    except Exception:
        part = entered[-1] if entered else module
        known = part.extra_repr() and not list(part.children())  # what it says of itself has its sizes
        return f" (at {repr(names[part]) + ', ' if names[part] else ''}{part})" if known else ""
    finally:
        for hook in hooks:
            hook.remove()
    return None


def _vjp(at: Record, upper: Tensor, **options: Any) -> tuple[Tensor, ...]:
    return torch.autograd.grad(at.output, at.inputs, upper, retain_graph=True, materialize_grads=True, **options)


class ModuleGraph(Graph):
    """A graph whose only layer is a module."""

    def __init__(self, module: nn.Module, sample: Tensor) -> None:
        layer = ModuleLayer(module)
        trace, widest = layer.measure(sample)
        super().__init__(["input_1"], layer.input_dims, [layer.name], [Node(layer.name, ("input_1",))], [layer])
        self.sizes = Sizes(trace, widest, sum(x.numel() for x in module.parameters()))


class BareModule(Explainable):
    """A module that can be explained without conversion, by the gradient methods.

    A copy is explained, in evaluation mode and in the precision wanted: the module itself stays as it is.

    Parameters
    ----------
    module : torch.nn.Module
        Takes one tensor ``(B, *dims)``, returns one tensor ``(B,)`` or ``(B, nodes)``.
    sample : Tensor
        Some rows of data ``(B, *dims)``, to find out the shapes.

    Raises
    ------
    TypeError, ValueError
        If it is no module, cannot be copied, or does not return one differentiable tensor of nodes.
    """

    def __init__(self, module: Any, sample: Tensor) -> None:
        if not isinstance(module, nn.Module):
            converted = (
                " It is converted already: run_grad(converter, data)." if isinstance(module, Explainable) else ""
            )
            raise TypeError(f"Argument 'model': expected a torch.nn.Module, got {describe(module)}.{converted}")
        self._module = in_evaluation(independent_copy(module))
        # Two rows, because some modules lose the axis of a single one.
        self._sample = (sample if len(sample) > 1 else torch.cat([sample, sample]))[:2].clone()
        self._graphs: dict[torch.dtype, ModuleGraph] = {}
        graph = self._graph(sample.dtype)
        takes, gives = list(graph.input_dims), list(graph.output_dims)
        self.inputs = make_ports(default_keys("input", 1), takes, [default_names(dim) for dim in takes])
        self.outputs = make_ports(default_keys("output", 1), gives, [default_names(dim, ("Y",)) for dim in gives])
        self.channels_first = True

    def model_in(self, dtype: Literal["float", "double"]) -> ModuleGraph:
        """Return the graph in a precision."""
        return self._graph(DTYPES[dtype])

    def _graph(self, dtype: torch.dtype) -> ModuleGraph:
        if dtype not in self._graphs:
            module = in_precision(self._module, dtype)
            self._graphs[dtype] = ModuleGraph(module, self._sample.to(device_of(module), dtype))
        return self._graphs[dtype]


def in_evaluation(module: nn.Module) -> nn.Module:
    """Put a module into evaluation mode, without gradients of its parameters."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    try:
        return module.eval()
    except NotImplementedError:  # what torch.export gives back has its mode built in
        return module


def in_precision(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a module in a precision: itself where it has it, otherwise a copy."""
    if all(x.dtype == dtype for x in _floating(module)):
        return module
    copied = to_precision(independent_copy(module), dtype)
    for part in copied.modules():
        for name, value in vars(part).items():
            if isinstance(value, Tensor) and value.is_floating_point():  # an attribute, which `to` does not see
                setattr(part, name, value.to(dtype))
    return copied


def _floating(module: nn.Module) -> Iterator[Tensor]:
    attributes = (value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor))
    return (x for x in chain(module.parameters(), module.buffers(), attributes) if x.is_floating_point())


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's parameters."""
    return next((x.device for x in chain(module.parameters(), module.buffers())), torch.device("cpu"))
