"""The door for PyTorch modules.

``torch.export`` turns a module, however it is written, into a flat list of ATen operators. Each operator that has an
entry in the table below becomes a layer of the model spec. A re-used module appears once for each use, functional and
module style look the same, and in-place operators have become plain ones.

The user's module is never touched: a copy of it is put into evaluation mode and traced.
"""

from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from innsight_py.spec import SpecError

#: Builds the keys of a layer from an operator's arguments.
Reader = Callable[["Operator"], dict[str, Any]]
Run = Callable[[Sequence[Tensor]], Sequence[Tensor]]
_TABLE: dict[str, Reader] = {}
#: Layers that an activation after them can become a part of.
_WITH_ACTIVATION = ("Dense", "Conv1D", "Conv2D")
#: Rows of the example that is traced. A number that stands in few models, so that it tells the batch axis.
_BATCH = 3


class Operator:
    """One call of an ATen operator: its arguments by name, with parameters as tensors and values as `fx.Node`."""

    def __init__(self, node: fx.Node, constants: dict[str, Tensor], place: str) -> None:
        assert isinstance(node.target, torch._ops.OpOverload)
        self.node = node
        self.name = node.target.name()  # "aten::conv2d"
        self.place = place
        self.arguments: dict[str, Any] = {}
        for i, argument in enumerate(node.target._schema.arguments):
            value = node.args[i] if i < len(node.args) else node.kwargs.get(argument.name, argument.default_value)
            self.arguments[argument.name] = self._resolve(value, constants)

    def _resolve(self, value: Any, constants: dict[str, Tensor]) -> Any:
        if isinstance(value, fx.Node):
            return constants.get(value.name, value)
        if isinstance(value, list | tuple):
            return [self._resolve(entry, constants) for entry in value]
        return value

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def dim_of(self, name: str) -> tuple[int, ...]:
        """Shape of an argument without the batch axis."""
        return _dim(self.arguments[name])

    @property
    def output_dim(self) -> tuple[int, ...]:
        """Shape of the result without the batch axis."""
        return _dim(self.node)

    def refuse(self, why: str) -> SpecError:
        """Build the error for a call that has no translation."""
        return SpecError(f"The operator {self.name} at {self.place} cannot be converted: {why}.")

    def needs(self, condition: bool, why: str) -> None:
        """Refuse the call unless the condition holds."""
        if not condition:
            raise self.refuse(why)


def _dim(node: fx.Node) -> tuple[int, ...]:
    shape = node.meta["val"].shape
    return tuple(int(n) for n in shape[1:])


def translates(*operators: str) -> Callable[[Reader], Reader]:
    """Enter a reader into the table, once for each operator."""

    def enter(reader: Reader) -> Reader:
        for operator in operators:
            if operator in _TABLE:
                raise ValueError(f"The operator {operator} has two entries.")
            _TABLE[operator] = reader
        return reader

    return enter


def supported_operators() -> tuple[str, ...]:
    """Return the names of all ATen operators with an entry in the table."""
    return tuple(sorted(_TABLE))


# -- reading a module -------------------------------------------------------------------------------------------


def read(model: nn.Module, input_dim: tuple[tuple[int, ...], ...] | None) -> tuple[dict[str, Any], Run]:
    """Trace a module and write its model spec.

    Parameters
    ----------
    model : torch.nn.Module
        The user's module, of which a copy is read; it takes one tensor an input, batch first, and returns a tensor or several.
    input_dim : tuple of tuple of int
        Shape of each input without the batch axis.

    Returns
    -------
    spec : dict
        A model spec.
    run : callable
        Runs the copy, to compare the converted model with.

    Raises
    ------
    ValueError
        If `input_dim` is missing, or the module cannot be traced or translated.
    """
    if input_dim is None:
        raise ValueError("Argument 'input_dim': a PyTorch module does not know the shape of its inputs; give it.")
    copied = private_copy(model)
    spec = _Translation(_trace(copied, input_dim), input_dim).spec()

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            out = copied.to(inputs[0].dtype)(*inputs)
        return [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]

    return spec, run


def private_copy(model: nn.Module) -> nn.Module:
    """Copy a module onto the CPU, in evaluation mode and at least single precision."""
    try:
        copied = copy.deepcopy(model)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise SpecError(f"The module cannot be copied: {error}") from error
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in copied.parameters())
    copied = copied.cpu().eval().requires_grad_(False)
    return copied.float() if half else copied


def model_dtype(model: nn.Module) -> torch.dtype:
    """Precision of a module's parameters, single for one without."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _trace(model: nn.Module, input_dim: Sequence[tuple[int, ...]]) -> torch.export.ExportedProgram:
    """Export a module, for any batch size if its code allows that."""
    examples = tuple(torch.zeros(_BATCH, *dim, dtype=model_dtype(model)) for dim in input_dim)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export warns of its own deprecations
        try:
            program = torch.export.export(
                model, examples, dynamic_shapes=tuple({0: torch.export.Dim.AUTO} for _ in examples), strict=False
            )
            return program.run_decompositions({})  # nothing is decomposed, but in-place operators become plain ones
        except Exception as error:  # torch.export raises whatever the module's code runs into
            raise SpecError(
                f"torch.export cannot trace the module for inputs of shape {list(input_dim)}: "
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            ) from error


class _Translation:
    """Goes through the operators of an exported program and writes a layer for each."""

    def __init__(self, program: torch.export.ExportedProgram, input_dim: Sequence[tuple[int, ...]]) -> None:
        self.input_dim = input_dim
        self.constants: dict[str, Tensor] = {}
        self.names: dict[str, str] = {}  # of fx node: the layer or input with its value
        self.layers: list[dict[str, Any]] = []
        self._by_name: dict[str, dict[str, Any]] = {}
        signature = program.graph_signature
        stored = {**program.state_dict, **program.constants}
        targets = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        for node in program.graph.nodes:
            if node.op == "placeholder" and node.name in targets:
                self.constants[node.name] = stored[targets[node.name]].detach()
        for i, name in enumerate(signature.user_inputs, start=1):
            self.names[str(name)] = f"input_{i}"
        self.outputs = [str(name) for name in signature.user_outputs]
        for node in program.graph.nodes:
            if node.op == "call_function":
                self._read(node)

    def spec(self) -> dict[str, Any]:
        """Return the model spec."""
        outputs = []
        for number, node in enumerate(self.outputs, start=1):
            if node not in self.names:
                raise SpecError(f"Output {number} of the module does not depend on its inputs.")
            outputs.append(self._as_layer(self.names[node], outputs))
        return {"input_dim": list(self.input_dim), "layers": self.layers, "outputs": outputs}

    def _as_layer(self, name: str, taken: Sequence[str]) -> str:
        """Put an identity after an input, or after a layer that already is an output: an output is a layer of its own."""
        if name in self._by_name and name not in taken:
            return name
        return self._add({"type": "Skipping", "inputs": [name]}, "output")

    # -- one operator -------------------------------------------------------------------------------------------

    def _read(self, node: fx.Node) -> None:
        if not isinstance(node.meta.get("val"), torch.Tensor | tuple | list):
            return  # arithmetic with sizes; the shapes of values are known without it
        sources = [str(n.name) for n in node.all_input_nodes if n.name in self.names]
        if node.target is operator.getitem:
            self._take_part(node, sources)
        elif not sources:
            self._compute(node)
        else:
            self._translate(node)

    def _take_part(self, node: fx.Node, sources: list[str]) -> None:
        """Follow the first part of an operator's several results (a pooling gives its positions as well)."""
        if not sources:
            whole, part = node.args
            self.constants[node.name] = self.constants[str(whole)][part]  # type: ignore[index]
        elif node.args[1] == 0:
            self.names[node.name] = self.names[sources[0]]
        else:
            raise SpecError(f"Only the first result of the operator {sources[0]} at {_place(node)} can be used.")

    def _compute(self, node: fx.Node) -> None:
        """Compute what depends on parameters alone (a weight normalisation, for example), in double precision."""

        def value(entry: fx.Node) -> Any:
            constant = self.constants.get(entry.name, entry.meta["val"])
            floating = isinstance(constant, Tensor) and constant.is_floating_point()
            return constant.double() if floating else constant

        arguments = fx.map_arg(node.args, value), fx.map_arg(node.kwargs, value)
        self.constants[node.name] = node.target(*arguments[0], **arguments[1])  # type: ignore[operator]

    def _translate(self, node: fx.Node) -> None:
        call = Operator(node, self.constants, _place(node))
        if call.name not in _TABLE:
            raise call.refuse("there is no layer for it")
        _check_batch(call)
        keys = _TABLE[call.name](call)
        inputs = [self.names[source.name] for source in keys.pop("from")]
        if keys["type"] == "Activation" and self._merge(keys, inputs[0], node):
            self.names[node.name] = inputs[0]
            return
        self.names[node.name] = self._add({**keys, "inputs": inputs}, _module_path(node) or node.name)

    def _merge(self, activation: dict[str, Any], name: str, node: fx.Node) -> bool:
        """Make an activation part of the linear layer before it, if nothing else sees that layer's value."""
        layer = self._by_name.get(name)
        source = node.all_input_nodes[0]
        if (
            layer is None
            or layer["type"] not in _WITH_ACTIVATION
            or layer.get("activation_name", "linear") != "linear"
            or len(source.users) > 1
            or source.name in self.outputs
        ):
            return False
        layer["activation_name"] = activation["act_name"]
        layer["activation_params"] = activation.get("act_params", {})
        return True

    def _add(self, keys: dict[str, Any], name: str) -> str:
        unique, number = name, 2
        while unique in self._by_name or unique.startswith("input_"):
            unique, number = f"{name}_{number}", number + 1
        layer = {**keys, "name": unique}
        self.layers.append(layer)
        self._by_name[unique] = layer
        return unique


def _module_path(node: fx.Node) -> str:
    """Path of the module whose code made the call; empty for the outermost one."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def _place(node: fx.Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = stack[-1] if stack else ("", "")
    kind = getattr(kind, "__name__", str(kind).rpartition(".")[2])
    return f"'{path}' ({kind})" if path else f"the outermost module ({kind})"


def _check_batch(call: Operator) -> None:
    """Refuse an operator whose result is not one row for each row of its inputs."""
    for value in [call.node.meta["val"]]:
        first = value[0] if isinstance(value, tuple | list) else value
        call.needs(
            first.dim() > 0 and (not isinstance(first.shape[0], int) or first.shape[0] == _BATCH),
            f"its result has the shape {tuple(first.shape)}, whose first axis is not the batch",
        )


# -- the table --------------------------------------------------------------------------------------------------


@translates("aten::linear")
def _linear(call: Operator) -> dict[str, Any]:
    call.needs(isinstance(call["weight"], Tensor), "its weight depends on the input")
    return {"type": "Dense", "from": [call["input"]], "weight": call["weight"], "bias": call["bias"]}


@translates("aten::conv1d", "aten::conv2d", "aten::conv1d.padding", "aten::conv2d.padding")
def _convolution(call: Operator) -> dict[str, Any]:
    weight = call["weight"]
    call.needs(isinstance(weight, Tensor), "its weight depends on the input")
    call.needs(call["groups"] == 1, "it has groups")
    axes = weight.dim() - 2
    dilation = _each(call["dilation"], axes)
    return {
        "type": f"Conv{axes}D",
        "from": [call["input"]],
        "weight": weight,
        "bias": call["bias"],
        "stride": _each(call["stride"], axes),
        "dilation": dilation,
        "padding": _sides(call["padding"], weight.shape[2:], dilation),
    }


def _each(value: int | Sequence[int], axes: int) -> list[int]:
    entries = [value] if isinstance(value, int) else list(value)
    return entries * axes if len(entries) == 1 else entries


def _sides(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Write padding as (left, right[, top, bottom])."""
    if padding == "valid":
        pairs = [(0, 0) for _ in kernel]
    elif padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        pairs = [(total // 2, total - total // 2) for total in totals]
    else:
        pairs = [(p, p) for p in _each(padding, len(kernel))]
    return [side for pair in reversed(pairs) for side in pair]


@translates("aten::max_pool1d", "aten::max_pool2d", "aten::avg_pool1d", "aten::avg_pool2d")
def _pooling(call: Operator) -> dict[str, Any]:
    axes = int(call.name[-2])
    call.needs(not any(_each(call["padding"], axes)), "it pads its input")
    call.needs(not call["ceil_mode"], "it uses ceil_mode")
    if "max" in call.name:
        call.needs(set(_each(call["dilation"], axes)) == {1}, "it is dilated")
    else:
        call.needs(call.arguments.get("divisor_override") is None, "it has a divisor of its own")
    kernel = _each(call["kernel_size"], axes)
    kind = "MaxPooling" if "max" in call.name else "AveragePooling"
    return {
        "type": f"{kind}{axes}D",
        "from": [call["self"]],
        "kernel_size": kernel,
        "strides": _each(call["stride"], axes) if call["stride"] else kernel,
    }


@translates(
    "aten::adaptive_avg_pool1d", "aten::adaptive_avg_pool2d", "aten::adaptive_max_pool1d", "aten::adaptive_max_pool2d"
)
def _adaptive_pooling(call: Operator) -> dict[str, Any]:
    call.needs(set(call["output_size"]) == {1}, "its result has more than one position")
    method = "max" if "max" in call.name else "average"
    return {"type": "GlobalPooling", "from": [call["self"]], "method": method, "keepdims": True}


@translates("aten::mean.dim", "aten::amax")
def _global_pooling(call: Operator) -> dict[str, Any]:
    rank = len(call.dim_of("self")) + 1
    axes = {axis % rank for axis in call["dim"]}
    call.needs(rank > 2 and axes == set(range(2, rank)), "it does not reduce all axes after the channels")
    method = "max" if "max" in call.name else "average"
    return {"type": "GlobalPooling", "from": [call["self"]], "method": method, "keepdims": call["keepdim"]}


@translates("aten::_native_batch_norm_legit_no_training")
def _batch_norm(call: Operator) -> dict[str, Any]:
    mean = call["running_mean"]
    call.needs(isinstance(mean, Tensor), "its statistics depend on the input")
    return {
        "type": "BatchNorm",
        "from": [call["input"]],
        "gamma": torch.ones_like(mean) if call["weight"] is None else call["weight"],
        "beta": call["bias"],
        "run_mean": mean,
        "run_var": call["running_var"],
        "eps": call["eps"],
    }


@translates("aten::pad", "aten::constant_pad_nd")
def _pad(call: Operator) -> dict[str, Any]:
    sides = list(call["pad"])
    call.needs(len(sides) in (2, 4) and min(sides) >= 0, "it pads more than two axes, or by less than 0")
    call.needs(len(sides) // 2 <= max(1, len(call.dim_of("self")) - 1), "it pads the channels or the batch")
    mode, value = call.arguments.get("mode", "constant"), call.arguments.get("value")
    return {"type": "Padding", "from": [call["self"]], "padding": sides, "mode": mode, "value": float(value or 0)}


@translates("aten::cat")
def _cat(call: Operator) -> dict[str, Any]:
    tensors = call["tensors"]
    call.needs(all(isinstance(tensor, fx.Node) for tensor in tensors), "it has constants among its inputs")
    axis = call["dim"] % (len(_dim(tensors[0])) + 1)
    call.needs(axis > 0, "it concatenates along the batch")
    return {"type": "Concatenate", "from": tensors, "axis": axis}


@translates("aten::add.Tensor")
def _add(call: Operator) -> dict[str, Any]:
    terms = [call["self"], call["other"]]
    call.needs(all(isinstance(term, fx.Node) for term in terms), "one of its terms is a constant")
    call.needs(call["alpha"] == 1, "one of its terms is scaled")
    call.needs(_dim(terms[0]) == _dim(terms[1]), "its terms have different shapes")
    return {"type": "Add", "from": terms}


@translates("aten::view", "aten::reshape", "aten::_unsafe_view", "aten::flatten.using_ints", "aten::squeeze.dim")
def _reshape(call: Operator) -> dict[str, Any]:
    before, after = call.dim_of("self"), call.output_dim
    if before == after:
        return {"type": "Skipping", "from": [call["self"]]}
    call.needs(len(after) == 1, f"it reshapes to {after}, which is not flat")
    return {"type": "Flatten", "from": [call["self"]]}


@translates(
    "aten::clone", "aten::dropout", "aten::feature_dropout", "aten::alpha_dropout", "aten::feature_alpha_dropout",
    "aten::contiguous", "aten::alias", "aten::detach",
)  # fmt: skip
def _identity(call: Operator) -> dict[str, Any]:
    call.needs(not call.arguments.get("train", False), "it drops values at random even at prediction time")
    return {"type": "Skipping", "from": [call.arguments.get("input", call.arguments.get("self"))]}


def _activation(name: str, *params: str) -> Reader:
    """Build the reader of an element-wise function, with the names of the parameters that it takes from the call."""

    def read_activation(call: Operator) -> dict[str, Any]:
        given = {param: call[param] for param in params}
        values = {key: float(value) if isinstance(value, int) else value for key, value in given.items()}
        return {"type": "Activation", "from": [call["self"]], "act_name": name, "act_params": values}

    return read_activation


for _name, _params in (
    ("relu", ()),
    ("relu6", ()),
    ("leaky_relu", ("negative_slope",)),
    ("elu", ("alpha",)),
    ("selu", ()),
    ("celu", ("alpha",)),
    ("gelu", ("approximate",)),
    ("silu", ()),
    ("mish", ()),
    ("softplus", ("beta", "threshold")),
    ("tanh", ()),
    ("sigmoid", ()),
    ("hardsigmoid", ()),
    ("hardswish", ()),
    ("hardtanh", ("min_val", "max_val")),
):
    translates(f"aten::{_name}")(_activation(_name, *_params))
translates("aten::log_sigmoid")(_activation("logsigmoid"))


@translates("aten::softmax.int", "aten::log_softmax.int", "aten::_softmax", "aten::_log_softmax")
def _softmax(call: Operator) -> dict[str, Any]:
    rank = len(call.dim_of("self")) + 1
    axis = call["dim"] % rank - rank
    call.needs(axis != -rank, "it runs along the batch")
    name = "log_softmax" if "log" in call.name else "softmax"
    return {"type": "Activation", "from": [call["self"]], "act_name": name, "act_params": {"dim": axis}}
