"""From the operators of an exported PyTorch program to the layers of a model spec."""

from __future__ import annotations

import operator
from collections import ChainMap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from innsight_py.converters.preparation import mark_scalers
from innsight_py.converters.torch import arithmetic, choosing, operators, recurrent, routing, structure, tokens  # noqa: F401 (the table)
from innsight_py.converters.torch.ends import no_dependence, no_gradient
from innsight_py.converters.torch.names import named_values
from innsight_py.converters.torch.softmaxes import recognize
from innsight_py.converters.torch.structure import cast
from innsight_py.converters.torch.tracing import is_mutable, module_of, origin_of, place_of, values_of
from innsight_py.converters.torch.writer import (
    MOVES,
    SHAPE_LAYERS,
    TABLE,
    VALUES,
    WRITES,
    Operator,
    dtype_of,
    operator_name,
    refuse,
    without_one,
)
from innsight_py.converters.writer import Value, Whole, Writer
from innsight_py.spec import SpecError


class Translation(Writer):
    """Goes through the operators of an exported program and writes the layers of each."""

    def __init__(
        self,
        program: torch.export.ExportedProgram,
        input_dim: Sequence[tuple[int, ...]],
        fixed: Collection[int] = (),
        ids: Collection[int] = (),
    ) -> None:
        super().__init__()
        recognize(program)
        self.program, self.input_dim = program, input_dim
        self.constants: dict[str, Any] = {}  # of fx node: a tensor or a size
        self.known: dict[str, Value] = {}  # of fx node: the layer or input with its value
        self.same: dict[str, set[str]] = {}  # of fx node: those whose value it shares because it was changed in place
        self.parts: dict[str, list[Value]] = {}  # of fx node with several results: these
        self.dtypes: dict[str, torch.dtype] = {}  # of fx node: the kind of its numbers
        self.written: dict[str, tuple[str, int]] = {}  # of fx node: the layer, and how many activations were merged
        self.cut: set[str] = set()  # fx nodes that are computed from detached values alone
        self.beside: dict[str, frozenset[int]] = {}  # those that are computed from inputs beside alone: which ones
        self.held: dict[str, frozenset[int]] = {}  # the same of layers that detach
        self.detached: dict[str, Value] = {}  # of fx node: its value without a gradient
        self.integral: dict[str, fx.Node] = {}  # of layer with whole numbers or truth values: the fx node
        self.casts: dict[str, Value] = {}  # of layer: its value as fractions
        self.carried: dict[str, frozenset[int]] = {}  # of fx node: the inputs whose numbers of tokens it has
        self.tokens: set[int] = set()  # inputs of whole numbers that go into an embedding
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
        for i, (name, dim) in enumerate(zip(signature.user_inputs, input_dim, strict=True), start=1):
            self.known[str(name)] = Value(f"input_{i}", (1, *dim))
            if i - 1 in fixed or i - 1 in ids:
                self.cut.add(str(name))
                self.beside[str(name)] = frozenset([i - 1])
            if i - 1 in ids:
                self.carried[str(name)] = frozenset([i - 1])
        self.anchor = Value("input_1", (1, *input_dim[0]))
        self.outputs = [str(name) for name in signature.user_outputs]
        self.kept = set(self.outputs)
        for node in program.graph.nodes:
            if isinstance(node.meta.get("val"), Tensor):
                self.dtypes[node.name] = node.meta["val"].dtype
            if node.op == "call_function":
                self._read(node)
                if node.name in self.known:
                    self.written[node.name] = self.known[node.name].layer, len(self.merges)

    def spec(self) -> dict[str, Any]:
        """Return the model spec."""
        outputs: list[str] = []
        if not self.outputs:
            raise no_dependence(self.program, 1)
        for number, node in enumerate(self.outputs, start=1):
            if node not in self.known:
                raise no_dependence(self.program, number)
            value = self._without_gradient(node) if node in self.cut else self.known[node]
            kind = self.dtypes[node]
            if not kind.is_floating_point:
                raise no_gradient(kind, number)
            if not value.dim:
                value = self.reshape(value, (1, 1))
            outputs.append(self.as_output(value, outputs))
            self._refuse_whole_numbers(outputs[-1])
        for name, inputs in self.held.items():
            if not inputs & self.tokens:  # numbers of tokens may differ in references
                self.by_name[name]["fixed"] = True
        layers = self.needed(outputs)
        mark_scalers(layers, len(self.input_dim), outputs, self._learned())
        spec = {"input_dim": list(self.input_dim), "layers": layers, "outputs": outputs}
        names = named_values(self.program.graph, self.written)
        spec["layer_names"] = self.named({name: self.written[node] for name, node in names.items()}, layers)
        keys = _output_keys(self.program, len(outputs))
        return spec if keys is None else spec | {"output_keys": keys}

    def _learned(self) -> set[str]:
        """Return the names of the layers that have numbers of parameters, or what is computed from them."""
        numbers, layers = set(self.program.graph_signature.inputs_to_parameters), set()
        for node in self.program.graph.nodes:
            if any(source.name in numbers for source in node.all_input_nodes):
                if node.name in self.known:
                    layers.add(self.known[node.name].layer)
                else:
                    numbers.add(node.name)
        return layers

    def _refuse_whole_numbers(self, output: str) -> None:
        """Refuse an output that depends on its inputs through whole numbers or truth values alone."""
        found, waiting, cut = {output}, [output], []
        while waiting:
            layer = self.by_name.get(waiting.pop())
            if layer is None or layer["type"] in ("Detach", "Embedding"):  # an input; what is taken as given
                return
            for source in layer["inputs"]:
                if source in self.integral:
                    cut.append(self.integral[source])
                elif source not in found:
                    found.add(source)
                    waiting.append(source)
        node = cut[0]
        raise SpecError(
            f"The operator {operator_name(node)} at {place_of(node)} cannot be converted: it turns values into whole "
            "numbers, and the output depends on the inputs through them alone, so that there is no gradient of it. "
            "Inputs are floating-point numbers; explain the part of the module behind this operator instead."
        )

    def values(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Run the traced program on one row and return the values of layers by name."""
        found = values_of(self.program, inputs)
        return {
            value.layer: found[name].reshape(value.dim or (1,))
            for name, value in self.known.items()
            if isinstance(found.get(name), Tensor)
        }

    # -- one operator -------------------------------------------------------------------------------------------

    def _read(self, node: fx.Node) -> None:
        sources = [n.name for n in node.all_input_nodes if n.name in self.known or n.name in self.parts]
        if node.meta.get("val") is None or not (node.users or node.name in self.kept or is_mutable(node)):
            return  # an assertion about the kind of a tensor, or of no use to anybody
        if isinstance(node.meta["val"], int | float):  # a size
            self.constants[node.name] = node.meta["val"]
            return
        if isinstance(node.target, torch._ops.OpOverload):
            self._refuse_random(node)
        elif node.target is not operator.getitem:
            raise SpecError(
                f"The module cannot be converted: at {place_of(node)} it uses "
                f"'{getattr(node.target, '__name__', node.target)}', which no operator stands for."
            )
        self._follow_tokens(node)
        cut = sources and all(name in self.cut for name in sources) and not self._embeds(node)
        if cut and node.target is not torch.ops.aten.detach.default:
            self.cut.add(node.name)
        if sources and all(name in self.beside for name in sources) and not self._embeds(node):
            self.beside[node.name] = frozenset().union(*(self.beside[name] for name in sources))
        if node.target is operator.getitem:
            self._take_part(node, sources)
        elif not sources:
            self._compute(node)
        elif isinstance(node.meta["val"], Tensor) and not node.meta["val"].numel():
            self.constants[node.name] = torch.empty(_shape(node.meta["val"]), dtype=torch.float64)
            self.cut.discard(node.name)
        else:
            self._translate(node)
        if node.target is torch.ops.aten.detach.default and node.name in self.known:
            self.cut.add(node.name)

    def _follow_tokens(self, node: fx.Node) -> None:
        """Note whether a value has numbers of tokens; an input whose numbers go into an embedding is made of these."""
        found = tokens.carried(node, self.carried)
        if found:
            self.carried[node.name] = found
        if self._embeds(node):
            numbers = tokens.numbers_of(node, self.constants)
            assert numbers is not None
            self.tokens |= self.carried[numbers.name]

    def _embeds(self, node: fx.Node) -> bool:
        """Tell whether a call looks up the vectors of tokens."""
        numbers = tokens.numbers_of(node, self.constants)
        return numbers is not None and numbers.name in self.carried

    def _call(self, node: fx.Node) -> Operator:
        """Look at a call; what it takes beside other values is detached first, where it has no gradient."""
        known: Mapping[str, Value] = self.known
        if node.name not in self.cut and node.target is not torch.ops.aten.detach.default and not self._embeds(node):
            cut = [n.name for n in node.all_input_nodes if n.name in self.cut and n.name in self.known]
            if cut:
                known = ChainMap({name: self._without_gradient(name) for name in cut}, self.known)
        return Operator(node, self.constants, known, self.kept, place_of(node))

    def _without_gradient(self, name: str) -> Value:
        if name not in self.detached:
            value = self.known[name]
            detached = self.layer("Detach", [value], value.shape)
            if name in self.beside:
                self.held[detached.layer] = self.beside[name]
            self.detached[name] = Whole(detached.layer, value.shape) if isinstance(value, Whole) else detached
        return self.detached[name]

    def _refuse_random(self, node: fx.Node) -> None:
        op = node.target
        assert isinstance(op, torch._ops.OpOverload)
        if torch.Tag.nondeterministic_seeded in op.tags:
            call = Operator(node, self.constants, self.known, self.kept, place_of(node))
            if call.name not in TABLE:  # dropout says for itself whether it is at work
                raise refuse(call, "it is random even at prediction time")

    def _take_part(self, node: fx.Node, sources: list[str]) -> None:
        whole, part = node.args
        assert isinstance(whole, fx.Node)
        assert isinstance(part, int)
        if whole.name in self.constants:
            self.constants[node.name] = self.constants[whole.name][part]
        elif part < len(self.parts.get(whole.name, ())):
            self.known[node.name] = self.parts[whole.name][part]
        else:  # what has no entry in the table is written with this part alone
            self.at(_layer_name(node), place_of(node), origin_of(node))
            value = without_one(self, self._call(whole), _shape(node.meta["val"]), part)
            self._know(node, self._rounded(node, value))

    def _compute(self, node: fx.Node) -> None:
        """Compute what depends on parameters alone (a weight normalisation, for example), in double precision."""

        def value(entry: fx.Node) -> Any:
            constant = self.constants.get(entry.name, entry.meta["val"])
            floating = isinstance(constant, Tensor) and constant.is_floating_point()
            return constant.double() if floating else constant

        arguments = fx.map_arg(node.args, value), fx.map_arg(node.kwargs, value)
        self.constants[node.name] = node.target(*arguments[0], **arguments[1])  # type: ignore[operator]

    def _translate(self, node: fx.Node) -> None:
        place = place_of(node)
        self.at(_layer_name(node), place, origin_of(node))
        before = len(self.layers)
        call = self._call(node)
        reader = TABLE.get(call.name)
        result: Any = choosing.by_row(self, call)
        if result is None and reader is not None and self._fits(call):
            result = reader(self, call)
        written = {layer["type"] for layer in self.layers[before:]}
        assert written <= {*WRITES.get(call.name, ()), *SHAPE_LAYERS, "Detach"}, (call.name, written)
        if result is None:
            if isinstance(node.meta["val"], Tensor):
                result = without_one(self, call, _shape(node.meta["val"]), None)
            else:
                self.parts[node.name] = []  # its parts are written where they are used
                return
        if isinstance(result, Tensor):
            self.constants[node.name] = result
            self.cut.discard(node.name)
        elif isinstance(result, list):
            self.parts[node.name] = result
        else:
            result = self._rounded(node, result)
            self._know(node, result)
            if is_mutable(node):
                self._changed_in_place(node, result)
            expected = _shape(node.meta["val"]) if isinstance(node.meta["val"], Tensor) else result.shape
            if result.shape != expected:
                raise SpecError(f"The operator {call.name} at {place} was read as {result.shape}, it gives {expected}.")

    def _know(self, node: fx.Node, value: Value) -> None:
        self.known[node.name] = value
        dtype = dtype_of(node)
        if not (dtype.is_floating_point or dtype.is_complex) and value.layer in self.by_name:
            self.integral.setdefault(value.layer, node)

    def _fits(self, call: Operator) -> bool:
        """Tell whether a reader can read the call, whose whole numbers become fractions if the result is one."""
        if call.name == "aten::one_hot":  # of other numbers than those of tokens it is what it is
            return self._embeds(call.node)
        allowed = VALUES.get(call.name) or (call.node.target._schema.arguments[0].name,)  # type: ignore[union-attr]
        numbers = call.numbers()
        if any(name not in allowed for name, _ in numbers):
            return False
        if call.name not in VALUES and not isinstance(call[allowed[0]], Value):
            return False
        kinds = {dtype_of(n) for _, n in numbers}
        if call.name in MOVES:
            mixed = len(kinds | {call.dtype}) > 1 or any(isinstance(t, Tensor) for t in call.get("tensors", ()))
            return call.dtype.is_floating_point or not mixed or "tensors" not in call.arguments
        if not call.dtype.is_floating_point or any(kind.is_complex for kind in kinds):
            return False
        call.replace(self._as_fractions)
        return True

    def _as_fractions(self, node: fx.Node, value: Value) -> Value:
        kind = dtype_of(node)
        if kind.is_floating_point:
            return value
        if value.layer not in self.casts:
            self.casts[value.layer] = cast(self, value, kind, torch.float32)
        return replace(value, layer=self.casts[value.layer].layer)

    def _rounded(self, node: fx.Node, value: Value) -> Value:
        """Round a value that the module computes in half precision, unless the operator only moves numbers."""
        dtype = dtype_of(node)
        moves = isinstance(node.target, torch._ops.OpOverload) and operator_name(node) in MOVES
        if dtype not in (torch.float16, torch.bfloat16) or moves:
            return value
        return cast(self, value, torch.float32, dtype)

    def _changed_in_place(self, node: fx.Node, result: Value) -> None:
        """Let all names of a tensor that was changed mean its new value from here on."""
        first = node.all_input_nodes[0].name
        names = self.same.setdefault(first, {first})
        names.add(node.name)
        self.same[node.name] = names
        for name in names:
            self.known[name] = result
            self.detached.pop(name, None)
            if node.name not in self.cut:
                self.cut.discard(name)
            if node.name not in self.beside:
                self.beside.pop(name, None)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in value.shape)


def _layer_name(node: fx.Node) -> str:
    return module_of(node)[0] or node.name


def _output_keys(program: torch.export.ExportedProgram, n: int) -> list[str] | None:
    """Return the keys of the dict, or the fields of the named tuple, that a module returns; None for anything else."""
    returned = program.call_spec.out_spec
    if returned is None or returned.num_children != n or returned.num_leaves != n:
        return None
    keys = getattr(returned.context, "_fields", returned.context)  # a named tuple's class, or a dict's keys
    named = isinstance(keys, list | tuple) and len(keys) == n and all(isinstance(key, str) for key in keys)
    return list(keys) if named else None
