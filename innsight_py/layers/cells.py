"""One step of a recurrent network, built of layers that are known: products, sums, gates.

A `Cell` takes values by name: ``"x"`` is the part of the gates that comes from the input, ``"h"`` and ``"c"`` are the
states before the step. It gives ``"state"`` (behind a projection ``"projected"``) and, in an LSTM, ``"cell"``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from innsight_py.layers.activation import Activation
from innsight_py.layers.arithmetic import Add, Multiply
from innsight_py.layers.base import Layer
from innsight_py.layers.linear import Dense
from innsight_py.layers.normalization import Scale
from innsight_py.layers.record import Record
from innsight_py.layers.structure import Take

#: The products with matrices, the only layers of a cell whose outputs have more than one entry of an input. `RESET` is
#: that of a GRU which resets the state before the product.
HIDDEN, RESET, PROJECTED = "hidden", "of the masked", "projected"
MATRICES = (HIDDEN, RESET, PROJECTED)
#: How many gates each kind of cell has.
GATES = {"lstm": 4, "gru": 3, "gru_reset_first": 3, "rnn_tanh": 1, "rnn_relu": 1}

#: What a reset gate gives.
MASKED = "masked"
#: What the loop of an LSTM has computed already: the sums of the gates, and the two values of tanh.
GATES_OF_ALL, CANDIDATE, SHOWN = "gates", "candidate of the gate", "shown"

#: What torch's kernel leads to besides: the product of the state with its matrix.
PRODUCT = "product"
#: What the gates of an LSTM give, in their order.
LSTM_GATES = ("input of the gate", "forget of the gate", CANDIDATE, "output of the gate")

#: Computes a value.
Late = Callable[[], Tensor]

#: A backward step at a part of a cell: it takes the part and what came to it, and gives a tensor for each input.
PartStep = Callable[["Part", Tensor], list[Tensor | None]]


class Part(NamedTuple):
    """A layer of a cell, the values that it takes, and how many entries it gives."""

    name: str
    layer: Layer
    inputs: tuple[str, ...]
    width: int


class Factors(NamedTuple):
    """What the walk through steps multiplies by, for all of them side by side.

    Attributes
    ----------
    of : dict of str to Tensor
        For each value: the factors, ``(B or 1, *lead, steps, entries)``. They are those of what comes to the cell where
        there is one, and else of what comes to the state.
    to_cell : Tensor, optional
        What the state gives to the cell.
    by_state : frozenset of int, optional
        The gates whose factors are of what comes to the state, though there is a cell.
    """

    of: dict[str, Tensor]
    to_cell: Tensor | None
    by_state: frozenset[int] | None


class _Values(dict[str, Tensor]):
    """The values of a cell by their names; what is not there is computed."""

    def __init__(self, cell: Cell, known: dict[str, Tensor], late: Mapping[str, Late]) -> None:
        super().__init__(known)
        self._cell, self._late = cell, late

    def __missing__(self, name: str) -> Tensor:
        if name in self._late:
            found = self._late[name]()
        else:
            part = next(part for part in self._cell.parts if part.name == name)
            found = part.layer(*(self[source] for source in part.inputs))
        self[name] = found
        return found


class _LateRecord(Record):
    """What a part of a cell saw; a value is looked up, and computed, when it is asked for."""

    __slots__ = ("_part", "_values")

    def __init__(self, part: Part, values: _Values) -> None:
        self._part, self._values = part, values
        self.kept, self._given, self.is_last = {}, (), False
        self._partner = self._kept_with_partner = None

    def __getattr__(self, name: str) -> Any:
        if name == "inputs":
            self.inputs = tuple(self._values[source] for source in self._part.inputs)
        elif name == "output":
            self.output = self._values[self._part.name]
        elif name == "preactivation":
            self.preactivation = self.output if self._part.layer.activation.is_linear else self.inputs[0]
        else:
            raise AttributeError(name)
        return object.__getattribute__(self, name)


class Cell(nn.Module):
    """The layers of one step.

    Parameters
    ----------
    spec : LayerSpec
        The recurrent layer.
    matrices : ModuleDict of Dense
        The layers `HIDDEN` and, where the cell has these products, `RESET` and `PROJECTED`. They belong to the
        recurrent layer, since all steps share them.
    hidden, cell : Tensor, optional
        The states before the step, where these are constants.
    """

    def __init__(
        self, spec: Any, matrices: nn.ModuleDict, hidden: Tensor | None = None, cell: Tensor | None = None
    ) -> None:
        super().__init__()
        self.parts: list[Part] = []
        self._spec, self.layers = spec, nn.ModuleList()
        self.size = len(spec.weight) // GATES[spec.cell]
        self.seen: dict[str, int] = {"x": len(spec.weight), "h": spec.weight.shape[1], "c": self.size}
        given = None if hidden is None else (spec.weight.double() @ hidden.double().unsqueeze(-1)).squeeze(-1)
        if given is not None and spec.bias is not None:
            given = given + spec.bias.double()
        self._given: Tensor | None = given
        self._gate_of: dict[str, int] = {}  # of the parts that take a gate's entries out of all
        self._matrices = [matrices]  # in a list, so that they are no submodules
        build = {"lstm": self._lstm, "gru": self._gru, "gru_reset_first": self._gru}.get(spec.cell, self._rnn)
        build(hidden, cell)
        if PROJECTED in matrices:
            self._matrix(PROJECTED, "state")

    # -- how it is built ----------------------------------------------------------------------------------------

    def _put(self, name: str, layer: Layer, inputs: Sequence[str], width: int) -> str:
        self.parts.append(Part(name, layer, tuple(inputs), width))
        self.seen[name] = width
        return name

    def _new(self, name: str, kind: Callable[[Any], Layer], inputs: Sequence[str], **keys: Any) -> str:
        spec = SimpleNamespace(
            name=f"{self._spec.name}: {name}", place=self._spec.place, origin=self._spec.origin, **keys
        )
        layer = kind(spec)
        layer.within = self._spec.name
        self.layers.append(layer)
        return self._put(name, layer, inputs, keys.get("width", self.seen[inputs[0]]))

    def _matrix(self, name: str, source: str) -> str:
        (matrices,) = self._matrices
        layer = matrices[name]
        assert isinstance(layer, Dense)
        return self._put(name, layer, [source], len(layer.weight))

    def _act(self, name: str, source: str, function: str) -> str:
        return self._new(name, Activation, [source], act_name=function, act_params={})

    def _scale(self, name: str, source: str, factor: Any = None, shift: Tensor | None = None) -> str:
        constants = [None if x is None else torch.as_tensor(x, dtype=torch.float64) for x in (factor, shift)]
        return self._new(name, Scale, [source], factor=constants[0], shift=constants[1])

    def _piece(self, name: str, source: str, gate: int) -> str:
        self._gate_of[name] = gate
        start = gate * self.size
        indices = range(start, start + self.size)
        return self._new(name, Take, [source], axis=-1, indices=indices, width=self.size)

    def _of_given(self, gate: int) -> Tensor:
        assert self._given is not None
        return self._given.narrow(-1, gate * self.size, self.size)

    def _gates(self) -> str:
        """Write the sum of what comes from the input and from the state."""
        if self._given is not None:
            return self._scale(GATES_OF_ALL, "x", shift=self._given)
        return self._new(GATES_OF_ALL, Add, [self._matrix(HIDDEN, "h"), "x"])

    def _rnn(self, hidden: Tensor | None, cell: Tensor | None) -> None:
        self._act("state", self._gates(), self._spec.cell.removeprefix("rnn_"))

    def _lstm(self, hidden: Tensor | None, cell: Tensor | None) -> None:
        gates = self._gates()
        pieces = [self._piece(f"{name} gate", gates, i) for i, name in enumerate(("input", "forget", "cell", "output"))]
        let_in, kept, new, out = (
            self._act(name, piece, function)
            for name, piece, function in zip(LSTM_GATES, pieces, ("sigmoid", "sigmoid", "tanh", "sigmoid"), strict=True)
        )
        old = self._new("kept", Multiply, [kept, "c"]) if cell is None else self._scale("kept", kept, factor=cell)
        added = self._new("added", Multiply, [let_in, new])
        shown = self._act(SHOWN, self._new("cell", Add, [old, added]), "tanh")
        self._new("state", Multiply, [out, shown])

    def _gru(self, hidden: Tensor | None, cell: Tensor | None) -> None:
        first = self._spec.cell == "gru_reset_first"
        xs = [self._piece(f"{name} from the input", "x", i) for i, name in enumerate(("reset", "update", "new"))]
        if hidden is None:
            source = self._shifted(self._matrix(HIDDEN, "h"), 0, 2 if first else 3)
            names = ("reset", "update") if first else ("reset", "update", "new")
            hs = [self._piece(f"{name} from the state", source, i) for i, name in enumerate(names)]
            sums = [self._new(f"{name} gate", Add, [hs[i], xs[i]]) for i, name in enumerate(("reset", "update"))]
        else:
            sums = [
                self._scale(f"{name} gate", xs[i], shift=self._of_given(i))
                for i, name in enumerate(("reset", "update"))
            ]
        reset, update = self._act("reset", sums[0], "sigmoid"), self._act("update", sums[1], "sigmoid")
        if hidden is None:
            masked = self._new(MASKED, Multiply, ["h" if first else hs[2], reset])
        else:
            masked = self._scale(MASKED, reset, factor=hidden if first else self._of_given(2))
        if first:
            masked = self._shifted(self._matrix(RESET, masked), 2, 3)
        new = self._act("new", self._new("new gate", Add, [xs[2], masked]), "tanh")
        if self._spec.blend:
            taken = self._scale("taken", update, factor=-1.0, shift=torch.ones(()))
            added = self._new("added", Multiply, [taken, new])
            kept = self._new("kept", Multiply, [update, "h"]) if hidden is None else self._scale(
                "kept", update, factor=hidden
            )  # fmt: skip
            self._new("state", Add, [kept, added])
            return
        if hidden is None:
            change = self._new("change", Add, ["h", self._scale("minus new", new, factor=-1.0)])
        else:
            change = self._scale("change", new, factor=-1.0, shift=hidden)
        self._new("state", Add, [self._new("kept", Multiply, [change, update]), new])

    def _shifted(self, source: str, start: int, end: int) -> str:
        """Write the shift by the bias of some gates, where that is a layer of its own."""
        if self._spec.bias is None or not self._spec.blend:
            return source
        return self._scale(f"{source}, shifted", source, shift=self._spec.bias[start * self.size : end * self.size])

    # -- what it does -------------------------------------------------------------------------------------------

    @property
    def output(self) -> str:
        """Name of the value that the cell shows."""
        return self.parts[-1].name

    def set_dims(self, lead: tuple[int, ...]) -> None:
        """Tell the layers which axes come before their entries: what is folded into the rows, and the steps."""
        for part in self.parts:
            if part.name in MATRICES:  # these run step by step
                part.layer.input_dims = ((*lead[:-1], self.seen[part.inputs[0]]),)
                part.layer.output_dim = (*lead[:-1], part.width)
            else:
                part.layer.input_dims = tuple((*lead, self.seen[source]) for source in part.inputs)
                part.layer.output_dim = (*lead, part.width)

    def record(self, known: dict[str, Tensor], late: Mapping[str, Late]) -> dict[str, Record]:
        """Return what the parts saw at steps side by side; what is not known is computed when somebody looks at it.

        Parameters
        ----------
        known : dict of str to Tensor
            Values by their names.
        late : mapping of str to callable
            What computes further ones that the cell takes.
        """
        values = _Values(self, known, late)
        return {part.name: _LateRecord(part, values) for part in self.parts}

    @property
    def stages(self) -> tuple[tuple[str, ...], ...]:
        """Names of the values at which each stretch of the walk back begins; a product with a matrix ends a stretch."""
        states = ("state", "cell") if "cell" in self.seen else ("state",)
        return (states, (MASKED,)) if RESET in self.seen else (states,)

    def inside(self) -> Iterator[Part]:
        """Return the parts between the products with matrices, the last one first."""
        return (part for part in reversed(self.parts) if part.name not in MATRICES)

    def factors(
        self, lead: tuple[int, ...], like: Tensor, step: PartStep, sinks: Sequence[str]
    ) -> Factors:  # fmt: skip
        """Return what the walk through a step multiplies by, between the products with matrices.

        All layers there work entry by entry, and all rules are linear in what they hand down. So one walk, of ones,
        says it for all explained outputs, and for all steps at once.

        Parameters
        ----------
        lead : tuple of int
            Axes before the entries: what is folded into the rows, and the steps.
        like : Tensor
            Has the type of the numbers.
        step : callable
            The rule.
        sinks : sequence of str
            The values that the walk starts from, one of `stages`.

        Returns
        -------
        Factors
            For each of ``"x"``, ``"h"``, ``"c"`` and the products with matrices, to which something goes.
        """
        ones = like.new_ones((1, 1, *lead, self.size))
        arrived: dict[str, Tensor] = {sinks[0]: ones}
        to_cell: Tensor | None = None
        below: set[str] = set()  # what is reached through the cell
        by_state: set[int] = set()
        gates: dict[str, dict[int, Tensor]] = {}
        for part in self.inside():
            self._join(part.name, gates, arrived)
            if part.name in sinks[1:]:  # linear, so that it is walked once, from the cell
                to_cell, arrived[part.name] = arrived.get(part.name), ones
                below.add(part.name)
            upper = arrived.pop(part.name, None)
            if upper is None:
                continue
            if part.name in self._gate_of:  # they are laid side by side, which is faster than to add them up
                gate = self._gate_of[part.name]
                gates.setdefault(part.inputs[0], {})[gate] = upper
                if part.name not in below:
                    by_state.add(gate)
                continue
            for source, piece in zip(part.inputs, step(part, upper), strict=True):
                if piece is not None:
                    arrived[source] = arrived[source] + piece if source in arrived else piece
                    if part.name in below:
                        below.add(source)
        for name in list(gates):
            self._join(name, gates, arrived)
        same = {id(x): x[0] for x in arrived.values()}  # what is the same stays so
        of = {name: same[id(x)] for name, x in arrived.items()}
        return Factors(of, None if to_cell is None else to_cell[0], frozenset(by_state) if sinks[1:] else None)

    def _join(self, name: str, gates: dict[str, dict[int, Tensor]], arrived: dict[str, Tensor]) -> None:
        """Add what came to each gate of a value to what arrived at it."""
        pieces = gates.pop(name, None)
        if pieces is None:
            return
        rows = max(piece.shape[1] for piece in pieces.values())
        shape = next(piece for piece in pieces.values() if piece.shape[1] == rows)
        side_by_side = [
            pieces[i].expand_as(shape) if i in pieces else torch.zeros_like(shape)
            for i in range(self.seen[name] // self.size)
        ]
        whole = torch.cat(side_by_side, -1)
        arrived[name] = arrived[name] + whole if name in arrived else whole
