"""Recurrent layers of torch written out as loops of Python: what `torch.export` makes of each step becomes layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

State = tuple[Tensor, Tensor]


def _lstm(gates: Tensor, state: State, weights: list[Tensor | None]) -> State:
    i, f, g, o = (gates + F.linear(state[0], weights[1], weights[3])).chunk(4, -1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    return (h if weights[4] is None else F.linear(h, weights[4])), c


def _gru(gates: Tensor, state: State, weights: list[Tensor | None]) -> State:
    hs, xs = F.linear(state[0], weights[1], weights[3]).chunk(3, -1), gates.chunk(3, -1)
    reset, update = (hs[0] + xs[0]).sigmoid(), (hs[1] + xs[1]).sigmoid()
    new = (xs[2] + hs[2] * reset).tanh()
    return (state[0] - new) * update + new, state[1]


def _tanh(gates: Tensor, state: State, weights: list[Tensor | None]) -> State:
    return (gates + F.linear(state[0], weights[1], weights[3])).tanh(), state[1]


def _relu(gates: Tensor, state: State, weights: list[Tensor | None]) -> State:
    return (gates + F.linear(state[0], weights[1], weights[3])).relu(), state[1]


class Loops(nn.Module):
    """The same as a recurrent module of torch, with one cell after the other."""

    def __init__(self, module: nn.RNNBase) -> None:
        super().__init__()
        self.module = module
        kind = module.mode
        self.step = {"LSTM": _lstm, "GRU": _gru, "RNN_TANH": _tanh, "RNN_RELU": _relu}[kind]

    def _weights(self, layer: int, reverse: bool) -> list[Tensor | None]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        return [getattr(self.module, f"{name}_l{layer}{'_reverse' * reverse}", None) for name in names]

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        """Run all steps."""
        module = self.module
        x = x if module.batch_first else x.transpose(0, 1)
        directions = 2 if module.bidirectional else 1
        hx = hx if hx is None or isinstance(hx, tuple) else (hx, hx)
        last: list[State] = []
        for layer in range(module.num_layers):
            outs = []
            for d in range(directions):
                weights = self._weights(layer, d == 1)
                gates = F.linear(x, weights[0], weights[2])
                at = layer * directions + d
                shown = module.proj_size or module.hidden_size
                state = (
                    (x.new_zeros(len(x), shown), x.new_zeros(len(x), module.hidden_size))
                    if hx is None
                    else (hx[0][at], hx[1][at])
                )
                order = range(x.shape[1])[:: -1 if d else 1]
                states = {}
                for t in order:
                    state = self.step(gates[:, t], state, weights)
                    states[t] = state[0]
                outs.append(torch.stack([states[t] for t in range(x.shape[1])], 1))
                last.append(state)
            x = torch.cat(outs, -1)
        h, c = (torch.stack(column) for column in zip(*last, strict=True))
        out = x if module.batch_first else x.transpose(0, 1)
        return out, ((h, c) if module.mode == "LSTM" else h)
