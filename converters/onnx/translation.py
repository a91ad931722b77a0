"""Going through the nodes of an ONNX graph: what each value is, its shape and type, and the layers that are written."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from innsight_py.converters.onnx.choices import BOOL
from innsight_py.converters.onnx.doubling import doubled
from innsight_py.converters.onnx.folding import Folding
from innsight_py.converters.onnx.layout import channels_last, completed, own_shape
from innsight_py.converters.onnx.loading import array, import_onnx
from innsight_py.converters.onnx.original import Original
from innsight_py.converters.onnx.preparing import domain_of, full_name, needed, opsets, outputs, read_names
from innsight_py.converters.onnx.refusals import no_numbers, reason
from innsight_py.converters.onnx.writer import SHAPE_LAYERS, TABLE, WRITES, Call, OnnxWriter, Result, as_tensor
from innsight_py.converters.preparation import mark_scalers
from innsight_py.converters.reading import Run
from innsight_py.converters.torch.calling import is_beside
from innsight_py.converters.use import Use, chosen_outputs, dims_of, named_inputs
from innsight_py.converters.writer import Value, Whole
from innsight_py.spec import SpecError
from innsight_py.spec.ports import kind_of

#: Operators that look at nothing but the shape of a value.
_OF_SHAPES = ("Shape", "Size", "EyeLike")
#: Operators whose shapes ONNX's inference does not always find as its evaluator does: windows may run over.
_MISJUDGED = ("MaxPool", "AveragePool", "LpPool")
_FLOATING = {1: np.float32, 10: np.float16, 11: np.float64}
#: Operators of whole numbers that give something else than numbers of tokens.
_NO_TOKENS = (
    "CumSum", "ReduceSum", "Mul", "ArgMax", "ArgMin", "Range", "OneHot", "Equal", "Less", "LessOrEqual", "Greater",
    "GreaterOrEqual", "Not", "And", "Or",
)  # fmt: skip
#: Whole numbers, and truth values.
_WHOLE = (2, 3, 4, 5, 6, 7, BOOL, 12, 13)


class Translation:
    """Goes through the nodes of a graph and writes the layers of each."""

    def __init__(self, model: Any, input_dim: tuple[tuple[int, ...], ...] | None, use: Use) -> None:
        self.onnx, self.model, self.write = import_onnx(), model, OnnxWriter()
        self.opsets = opsets(model)
        found = outputs(model, warns=use.output is None)
        numbers, names = chosen_outputs(use.output, [shown for shown, _ in found])
        self.results = [(name, found[number][1]) for name, number in zip(names, numbers, strict=True)]
        self.use = use
        self.nodes = needed(model, [name for _, name in self.results])
        self.constants = {t.name: array(t) for t in model.graph.initializer}
        for sparse in model.graph.sparse_initializer:
            raise SpecError(f"The array '{sparse.values.name}' of the ONNX model is sparse; store it as a dense one.")
        stored = sum(array.size for array in self.constants.values())
        self.folding = Folding(self.opsets, int(model.ir_version), stored)
        self.known: dict[str, Value] = {}
        self.given: set[str] = set()  # values that are made of fixed inputs alone
        self.detached: dict[str, Value] = {}  # these, as other values take them: nothing goes back to them
        self.kinds: dict[str, int] = {}  # of each value: ONNX's number of its type
        self.makers = {name: node for node in self.nodes for name in node.output if name}
        self.depending: list[Any] = []  # the nodes that are not computed beforehand
        self.ends = {name for _, name in self.results}
        self.uses = Counter(name for node in self.nodes for name in read_names(node))
        self.uses.update(self.ends)
        self._read_inputs(input_dim)
        for node in self.nodes:
            self._read(node)
        self._settle_kinds()
        self._finish()

    # -- inputs and outputs ------------------------------------------------------------------------------------------

    def _read_inputs(self, input_dim: tuple[tuple[int, ...], ...] | None) -> None:
        infos = [info for info in self.model.graph.input if info.name not in self.constants]
        self.unused: dict[str, np.ndarray] = {}
        self.inputs: list[tuple[str, tuple[int, ...], Any, bool]] = []
        taken = [info for info in infos if self._is_taken(info)]
        keys = [info.name for info in taken]
        kinds = [info.type.tensor_type.elem_type for info in taken]
        self.whole = [i for i, kind in enumerate(kinds) if kind not in _FLOATING]
        self.fixed = sorted({*named_inputs(self.use.fixed, keys), *self.whole})
        self.tokens: set[int] = set()  # inputs whose whole numbers go into an embedding
        self.numbers: dict[str, frozenset[int]] = {}  # of values with such numbers: the inputs that these come from
        if not taken:
            raise SpecError("The ONNX model has no input of floating-point numbers.")
        own = [own_shape(info) for info in taken]
        self.one_row = any(shape is not None and shape[0] == 1 for shape in own)
        last = self._channels_last(taken, own)
        rows = self.use.rows(keys)
        shapes = completed(keys, own, input_dim if rows is None else dims_of(rows, last), last)
        self.dims: list[tuple[int, ...]] = []
        for i, (info, shape, moved) in enumerate(zip(taken, shapes, last, strict=True), start=1):
            self.folding.check_size(shape, f"input '{info.name}'")
            dim = (shape[-1], *shape[1:-1]) if moved else shape[1:]
            value = Value(f"input_{i}", (1, *dim))
            self.dims.append(dim or (1,))
            if i == 1:
                self.write.anchor = value if dim else Value("input_1", (1, 1))
            if moved:
                value = self.write.permute(value, [0, *range(2, len(shape)), 1])
            kind = info.type.tensor_type.elem_type
            if i - 1 in self.fixed:
                self.given.add(info.name)
            if i - 1 in self.whole and kind != BOOL and info.name not in self.use.fixed and not is_beside(info.name):
                self.numbers[info.name] = frozenset([i - 1])
            if kind == BOOL:
                value = self.write.operator("ne.Scalar", [value, 0], value.shape)
            self.known[info.name], self.kinds[info.name] = value, kind
            array_kind = _FLOATING.get(kind) or self.onnx.helper.tensor_dtype_to_np_dtype(kind)
            self.inputs.append((info.name, shape, array_kind, moved))
        self.moved = any(last)

    def _settle_kinds(self) -> None:
        """Find out which whole numbers are tokens; refuse a model of which nothing is left to be explained."""
        self.fixed = [i for i in self.fixed if i not in self.tokens]
        if len(self.fixed) == len(self.inputs):
            whole = [i for i in self.whole if i in self.fixed]
            if not whole:
                raise SpecError("The ONNX model has no input of floating-point numbers.")
            name = self.inputs[whole[0]][0]
            raise SpecError(no_numbers(name, self.onnx.TensorProto.DataType.Name(self.kinds[name])))

    def _embeds(self, node: Any, kind: str) -> bool:
        """Tell whether a node looks up the vectors of tokens; note which numbers of tokens values have."""
        held = frozenset().union(*(self.numbers.get(name, ()) for name in node.input))
        table = self.constants.get(node.input[0]) if kind == "Gather" else None
        if table is not None and table.ndim == 2 and table.dtype.kind == "f":
            self.tokens |= held
            return bool(held)
        if held and kind not in _NO_TOKENS:
            self.numbers.update({name: held for name in node.output if name})
        return False

    def _is_taken(self, info: Any) -> bool:
        """Tell whether an input is one of the converter's; what nothing depends on is fed with zeros."""
        kind = info.type.tensor_type.elem_type if info.type.HasField("tensor_type") else 0
        if kind not in self.onnx.TensorProto.DataType.values():
            raise SpecError(f"The input '{info.name}' of the ONNX model has the type {kind}, which ONNX does not have.")
        if kind in _FLOATING or (kind in _WHOLE and self.uses[info.name]):
            return True
        if self.uses[info.name]:
            raise SpecError(no_numbers(info.name, self.onnx.TensorProto.DataType.Name(kind) if kind else ""))
        if kind:
            dims = [max(d.dim_value, 1) for d in info.type.tensor_type.shape.dim]
            self.folding.check_size(dims, f"input '{info.name}'")
            self.unused[info.name] = np.zeros(dims, self.onnx.helper.tensor_dtype_to_np_dtype(kind))
        return False

    def _channels_last(self, taken: Sequence[Any], own: Sequence[tuple[int | None, ...] | None]) -> list[bool]:
        """Tell of each input whether its channels come last: as the user says, or as the explained ones show."""
        several = [shape is not None and len(shape) > 2 for shape in own]
        if not self.use.channels_first:
            if not any(several):
                raise ValueError(
                    "Argument 'channels_first': the inputs of the model are tables, which have no channels."
                )
            return several
        shown = [i for i in range(len(taken)) if i not in self.whole]
        names = [taken[i].name for i in shown]
        last = any(channels_last(names, [own[i] for i in shown], self.nodes, self.constants))
        return [last and each for each in several]

    def _finish(self) -> None:
        """Find the layer of each output; pictures of models with their channels last are turned as the inputs are."""
        self.outputs: list[str] = []
        self.output_shapes: list[tuple[str, tuple[int, ...], bool]] = []
        for shown, name in self.results:
            if name not in self.known:
                raise SpecError(f"The output '{shown}' of the ONNX model does not depend on its inputs.")
            value, moved = self.known[name], False
            back = [0, len(value.shape) - 1, *range(1, len(value.shape) - 1)]
            if name in self.given:
                raise SpecError(f"The output '{shown}' of the ONNX model depends on inputs that are fixed alone.")
            if self.moved and len(value.shape) > 2 and value.leads:
                turned = self.write.permute(value, back)
                moved = not self.use.channels_first or turned.layer == self._source(value)
                value = turned if moved else value
            dim = (*value.dim[1:], value.dim[0]) if moved else value.dim
            self.output_shapes.append((name, dim, moved))
            self.outputs.append(
                self.write.as_output(value if value.dim else self.write.reshape(value, (1, 1)), self.outputs)
            )

    def _source(self, value: Value) -> str | None:
        """Return the layer that was turned to become a value, if any was."""
        layer = self.write.by_name.get(value.layer)
        return layer["inputs"][0] if layer is not None and layer["type"] == "Permute" else None

    def spec(self) -> dict[str, Any]:
        """Return the model spec."""
        layers = self.write.needed(self.outputs)
        mark_scalers(layers, len(self.dims), self.outputs, both=True)
        spec = {
            "input_dim": self.dims,
            "layers": layers,
            "outputs": self.outputs,
            "channels_first": not self.moved,
            "input_keys": [name for name, _, _, _ in self.inputs],
            "output_keys": [shown for shown, _ in self.results],
        }
        if self.fixed or self.tokens:
            spec["input_kinds"] = [
                "fixed" if i in self.fixed else "tokens" if i in self.tokens else kind_of(dim)
                for i, dim in enumerate(self.dims)
            ]
        return spec

    def original(self) -> Original:
        """Return what runs the model, up to the outputs that are explained."""
        model = self.onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.node[:]
        model.graph.node.extend(self.nodes)
        del model.graph.output[:]
        for _, name in self.results:
            model.graph.output.append(self.onnx.helper.make_empty_tensor_value_info(name))
        return Original(model, self.inputs, self.unused, self.output_shapes, self.one_row)

    def in_double(self) -> Run:
        """Return what runs the nodes that depend on the data in double precision, made when it is first asked."""
        names = [name for _, name in self.results]

        @functools.cache
        def made() -> Original:
            kinds = {name: self.kinds[name] for name, *_ in self.inputs}
            model = doubled(self.depending, self.constants, kinds, names, self.opsets)
            inputs = [
                (name, shape, kind if kinds[name] in _WHOLE else np.float64, moved)
                for name, shape, kind, moved in self.inputs
            ]
            return Original(model, inputs, {}, self.output_shapes, one_row=True, double=True)

        return lambda inputs: made().run(inputs)

    def layers(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return for each layer the value of the graph that it has, and its shape."""
        return {value.layer: (name, value.dim) for name, value in self.known.items()}

    # -- one node ----------------------------------------------------------------------------------------------------

    def _read(self, node: Any) -> None:
        kind, label = full_name(node), node.name or node.output[0]
        place = f"node '{label}' ({kind})"
        depends = [name for name in node.input if name in self.known]
        if kind == "If" and not depends:  # only the branch that is taken says what it needs
            self._branch(node, place)
            return
        if kind in _OF_SHAPES or (kind == "CastLike" and node.input[0] in self.constants):
            depends = []
        why = reason(node, self.opsets, kind, bool(depends))
        if why is not None:
            raise SpecError(f"The {place} cannot be converted: {why}")
        if not depends:
            self._compute(node, place)
            return
        found = self._infer(node)
        shapes = [found.get(name, (None, None))[0] for name in node.output]
        if kind in _MISJUDGED:
            shapes = [None for _ in shapes]
        for shape in shapes:
            if shape is not None:
                self.folding.check_size(shape, place)
        self.depending.append(node)
        given = all(name in self.given for name in depends)
        call = self._call(node, kind, place, found, shapes, given)
        given = given and not self._embeds(node, kind)
        self.write.at(label, place)
        before = len(self.write.layers)
        try:
            result = TABLE[kind](self.write, call)
        except SpecError:
            raise
        except (ArithmeticError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise SpecError(f"The {place} does not fit its inputs or its attributes: {first}") from error
        written = {layer["type"] for layer in self.write.layers[before:]}
        assert written <= {*WRITES[kind], *SHAPE_LAYERS}, (kind, written)
        results = [result] if isinstance(result, Value | Tensor) else list(result)
        self.given.update(name for name in node.output if name and given)
        for name, value, shape in zip(node.output, results, shapes, strict=False):
            self._keep(name, value, shape, place)
            fallback = self.kinds.get(depends[0], 1)
            self.kinds[name] = found.get(name, (None, None))[1] or fallback

    def _keep(self, name: str, value: Result | None, shape: tuple[int, ...] | None, place: str) -> None:
        if value is None or not name:
            return
        if shape is not None and tuple(value.shape) != shape:
            raise SpecError(f"The {place} was read as {tuple(value.shape)}, it gives {shape}.")
        if isinstance(value, Tensor):
            self.constants[name] = value.numpy()
        else:
            self.known[name] = value

    def _call(
        self, node: Any, kind: str, place: str, found: Mapping[str, Any], shapes: list[tuple[int, ...] | None],
        given: bool,
    ) -> Call:  # fmt: skip
        attributes = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        if kind in ("Cast", "CastLike"):
            attributes["input_type"] = self.kinds[node.input[0]]
            attributes["result_type"] = found.get(node.output[0], (None, None))[1] or attributes.get("to")
        return Call(
            kind,
            self.opsets.get(domain_of(node), 1),
            place,
            tuple(self._input(name, given) for name in node.input),
            attributes,
            tuple(shapes),
            tuple(bool(name) and self.uses[name] > 0 for name in node.output),
            self._merges(next(name for name in node.input if name in self.known)),
            node.output[0] in self.ends,
            tuple(self._kind(name) for name in node.input),
            given,
        )

    def _input(self, name: str, given: bool) -> Result | None:
        if not name:
            return None
        if name in self.given and not given:
            return self._without_gradient(name)
        return self.known[name] if name in self.known else as_tensor(self.constants[name])

    def _without_gradient(self, name: str) -> Value:
        """Return a value that is made of fixed inputs alone as others take it."""
        if name not in self.detached:
            value = self.known[name]
            kept = self.write.layer("Detach", [value], value.shape, fixed=True)
            self.detached[name] = Whole(kept.layer, value.shape) if isinstance(value, Whole) else kept
        return self.detached[name]

    def _kind(self, name: str) -> int:
        """Return ONNX's number of the type of a value."""
        if name in self.kinds or not name:
            return self.kinds.get(name, 0)
        return int(self.onnx.helper.np_dtype_to_tensor_dtype(self.constants[name].dtype))

    def _merges(self, name: str) -> bool:
        """Tell whether nothing else sees a value, nor what it is an identity of."""
        while name in self.known and self.uses[name] == 1 and name not in self.ends:
            node = self.makers.get(name)
            same = [] if node is None else [n for n in node.input if self._is_same(node, n, name)]
            if not same:
                return True
            name = same[0]
        return False

    def _is_same(self, node: Any, source: str, name: str) -> bool:
        if source not in self.known:
            return False
        return bool(node.op_type == "Dropout") or self.known[source].layer == self.known[name].layer

    def _branch(self, node: Any, place: str) -> None:
        """Read the branch that a condition without data takes."""
        taken = bool(np.all(self.constants[node.input[0]]))
        graph = next(a.g for a in node.attribute if a.name == ("then_branch" if taken else "else_branch"))
        for tensor in graph.initializer:
            self.constants[tensor.name] = array(tensor)
        for inner in graph.node:
            self.makers.update({name: inner for name in inner.output if name})
            self._read(inner)
        for name, info in zip(node.output, graph.output, strict=True):
            if info.name in self.known:
                self.known[name], self.kinds[name] = self.known[info.name], self.kinds[info.name]
                self.given.update({name} if info.name in self.given else ())
                self.depending.append(self.onnx.helper.make_node("Identity", [info.name], [name]))
            elif info.name in self.constants:
                self.constants[name] = self.constants[info.name]
            else:
                raise SpecError(f"The {place} cannot be converted: its branch gives '{info.name}', which is not known.")

    # -- constants and shapes ----------------------------------------------------------------------------------------

    def _compute(self, node: Any, place: str) -> None:
        """Compute what does not depend on the data; of values only the shape is looked at."""
        if node.op_type == "Constant":
            attribute = node.attribute[0]
            value = self.onnx.helper.get_attribute_value(attribute)
            if attribute.name == "value":
                self.constants[node.output[0]] = array(value)
                return
            if attribute.name in ("value_float", "value_floats"):
                self.constants[node.output[0]] = np.asarray(value, np.float32)
                return
            if attribute.name in ("value_int", "value_ints"):
                self.constants[node.output[0]] = np.asarray(value, np.int64)
                return
            raise SpecError(f"The {place} cannot be converted: it holds texts or a sparse array.")
        data = {}
        for name in node.input:
            if name in self.known:
                data[name] = (
                    np.zeros((), np.float32) if node.op_type == "CastLike" else _of_shape(self.known[name].shape)
                )
            elif name:
                data[name] = self.constants[name]
        found = self._infer(node)
        shapes = {name: shape for name, (shape, _) in found.items()}
        for name, result in zip(node.output, self.folding.evaluate(node, data, shapes, place), strict=True):
            self.constants[name] = result

    def _infer(self, node: Any) -> dict[str, tuple[tuple[int, ...] | None, int | None]]:
        helper, types, data = self.onnx.helper, {}, {}
        for name in node.input:
            if name in self.known:
                types[name] = helper.make_tensor_type_proto(self.kinds[name], self.known[name].shape)
            elif name:
                data[name] = self.constants[name]
                kind = helper.np_dtype_to_tensor_dtype(data[name].dtype)
                types[name] = helper.make_tensor_type_proto(kind, data[name].shape)
        return self.folding.infer(node, types, data)


def _of_shape(shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of a shape that takes no memory."""
    return np.broadcast_to(np.zeros((), np.float32), shape)
