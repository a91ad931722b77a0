"""One step of a recurrent network, built of layers that are known: products, sums, gates.

A `Cell` takes values by name: ``"x"`` is the part of the gates that comes from the input, ``"h"`` and ``"c"`` are the
states before the step. It gives ``"state"`` (behind a projection ``"projected"``) and, in an LSTM, ``"cell"``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from innsight_py.layers.activation import Activation
from innsight_py.layers.arithmetic import Add, Multiply
from innsight_py.layers.base import Layer, Record
from innsight_py.layers.linear import Dense
from innsight_py.layers.normalization import Scale
from innsight_py.layers.structure import Take

#: The products with matrices, the only layers of a cell whose outputs have more than one entry of an input.
HIDDEN, PROJECTED = "hidden", "projected"
#: How many gates each kind of cell has.
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}

#: A backward step at a part of a cell: it takes the part and what came to it, and gives a tensor for each input.
PartStep = Callable[["Part", Tensor], list[Tensor | None]]


class Part(NamedTuple):
    """A layer of a cell, the values that it takes, and how many entries it gives."""

    name: str
    layer: Layer
    inputs: tuple[str, ...]
    width: int


class Cell(nn.Module):
    """The layers of one step.

    Parameters
    ----------
    spec : LayerSpec
        The recurrent layer.
    matrices : ModuleDict of Dense
        The layers `HIDDEN` and, where there is a projection, `PROJECTED`. They belong to the recurrent layer, since
        all steps share them.
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
        self._matrices = [matrices]  # in a list, so that they are no submodules
        build = {"lstm": self._lstm, "gru": self._gru}.get(spec.cell, self._rnn)
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
        start = gate * self.size
        indices = range(start, start + self.size)
        return self._new(name, Take, [source], axis=-1, indices=indices, width=self.size)

    def _of_given(self, gate: int) -> Tensor:
        assert self._given is not None
        return self._given.narrow(-1, gate * self.size, self.size)

    def _gates(self) -> str:
        """Write the sum of what comes from the input and from the state."""
        if self._given is not None:
            return self._scale("gates", "x", shift=self._given)
        return self._new("gates", Add, [self._matrix(HIDDEN, "h"), "x"])

    def _rnn(self, hidden: Tensor | None, cell: Tensor | None) -> None:
        self._act("state", self._gates(), self._spec.cell.removeprefix("rnn_"))

    def _lstm(self, hidden: Tensor | None, cell: Tensor | None) -> None:
        gates = self._gates()
        pieces = [self._piece(f"{name} gate", gates, i) for i, name in enumerate(("input", "forget", "cell", "output"))]
        let_in, kept, new, out = (
            self._act(f"{name} of the gate", piece, function)
            for name, piece, function in zip(
                ("input", "forget", "candidate", "output"), pieces, ("sigmoid", "sigmoid", "tanh", "sigmoid"),
                strict=True,
            )
        )  # fmt: skip
        old = self._new("kept", Multiply, [kept, "c"]) if cell is None else self._scale("kept", kept, factor=cell)
        added = self._new("added", Multiply, [let_in, new])
        shown = self._act("shown", self._new("cell", Add, [old, added]), "tanh")
        self._new("state", Multiply, [out, shown])

    def _gru(self, hidden: Tensor | None, cell: Tensor | None) -> None:
        xs = [self._piece(f"{name} from the input", "x", i) for i, name in enumerate(("reset", "update", "new"))]
        if hidden is None:
            source = self._matrix(HIDDEN, "h")
            hs = [self._piece(f"{name} from the state", source, i) for i, name in enumerate(("reset", "update", "new"))]
            sums = [self._new(f"{name} gate", Add, [hs[i], xs[i]]) for i, name in enumerate(("reset", "update"))]
        else:
            sums = [
                self._scale(f"{name} gate", xs[i], shift=self._of_given(i))
                for i, name in enumerate(("reset", "update"))
            ]
        reset, update = self._act("reset", sums[0], "sigmoid"), self._act("update", sums[1], "sigmoid")
        if hidden is None:
            masked = self._new("masked", Multiply, [hs[2], reset])
        else:
            masked = self._scale("masked", reset, factor=self._of_given(2))
        new = self._act("new", self._new("new gate", Add, [xs[2], masked]), "tanh")
        if hidden is None:
            change = self._new("change", Add, ["h", self._scale("minus", new, factor=-1.0)])
        else:
            change = self._scale("change", new, factor=-1.0, shift=hidden)
        self._new("state", Add, [self._new("kept", Multiply, [change, update]), new])

    # -- what it does -------------------------------------------------------------------------------------------

    @property
    def output(self) -> str:
        """Name of the value that the cell shows."""
        return self.parts[-1].name

    def set_dims(self, lead: tuple[int, ...]) -> None:
        """Tell the layers which axes come before their entries: what is folded into the rows, and the steps."""
        for part in self.parts:
            if part.name in (HIDDEN, PROJECTED):  # these run step by step
                part.layer.input_dims = ((*lead[:-1], self.seen[part.inputs[0]]),)
                part.layer.output_dim = (*lead[:-1], part.width)
            else:
                part.layer.input_dims = tuple((*lead, self.seen[source]) for source in part.inputs)
                part.layer.output_dim = (*lead, part.width)

    def record(self, values: dict[str, Tensor]) -> dict[str, Record]:
        """Compute all values of steps side by side and keep what the walk back may need."""
        records: dict[str, Record] = {}
        for part in self.parts:
            record = part.layer.record(*(values[source] for source in part.inputs))
            records[part.name], values[part.name] = record, record.output
        return records

    def inside(self) -> Iterator[Part]:
        """Return the parts between the products with matrices, the last one first."""
        return (part for part in reversed(self.parts) if part.name not in (HIDDEN, PROJECTED))

    def factors(self, lead: tuple[int, ...], like: Tensor, step: PartStep) -> dict[str, Tensor]:
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

        Returns
        -------
        dict of str to Tensor
            For each of ``"x"``, ``"h"``, ``"c"`` and the product with the weights of the state, to which something
            goes: ``(2, B or 1, *lead, entries)``, from the state and from the LSTM's cell.
        """
        sinks = ("state", "cell") if "cell" in self.seen else ("state",)
        arrived: dict[str, Tensor] = {}
        for i, sink in enumerate(sinks):
            arrived[sink] = like.new_zeros((len(sinks), 1, *lead, self.size))
            arrived[sink][i] = 1
        for part in self.inside():
            upper = arrived.pop(part.name, None)
            if upper is None:
                continue
            for source, piece in zip(part.inputs, step(part, upper), strict=True):
                if piece is not None:
                    arrived[source] = arrived[source] + piece if source in arrived else piece
        return arrived


# -- the same, quickly -----------------------------------------------------------------------------------------------


def lstm_step(x: Tensor, from_state: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return the state (before a projection) and the cell after a step; `from_state` is ``W h + b``."""
    sums = x + from_state
    size = cell.shape[-1]
    let_in, kept, _, out = sums.sigmoid().chunk(4, -1)
    cell = torch.addcmul(kept * cell, let_in, sums.narrow(-1, 2 * size, size).tanh())
    return out * cell.tanh(), cell


def gru_step(x: Tensor, from_state: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return the state after a step, twice."""
    size = hidden.shape[-1]
    reset, update = (x.narrow(-1, 0, 2 * size) + from_state.narrow(-1, 0, 2 * size)).sigmoid().chunk(2, -1)
    new = torch.addcmul(x.narrow(-1, 2 * size, size), from_state.narrow(-1, 2 * size, size), reset).tanh()
    state = torch.addcmul(new, hidden - new, update)
    return state, state


def tanh_step(x: Tensor, from_state: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return the state after a step, twice."""
    state = (x + from_state).tanh()
    return state, state


def relu_step(x: Tensor, from_state: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return the state after a step, twice."""
    state = (x + from_state).relu()
    return state, state


#: What the layers of a cell compute together, in a few calls: the forward loop runs these.
QUICK = {"lstm": lstm_step, "gru": gru_step, "rnn_tanh": tanh_step, "rnn_relu": relu_step}
