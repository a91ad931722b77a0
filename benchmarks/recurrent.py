"""Recurrent nets: what their conversion costs beside ``torch.export``, and what methods cost beside the floor.

``python benchmarks/recurrent.py`` writes ``results/recurrent.csv`` in two minutes. Times are those of the processor,
and each ratio is of times of the same round. Nets are new in every round, since the same one would be a look-up. The
floor (a forward pass, and a ``torch.autograd.grad`` for each output) runs torch's fused kernels through all steps.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Sequence

import engines
import footprint
import pandas as pd
import torch
from large_calls import ours
from torch import Tensor, nn

from innsight_py import Converter

BULLET = "Recurrent nets"
FEATURES, HIDDEN, ROWS, CLASSES = 8, 32, 16, 10
METHODS = ("gradient", "deeplift", "lrp-epsilon")


class Net(nn.Module):
    """A recurrent layer, and a head that looks at its last step."""

    def __init__(self, kind: type[nn.RNNBase], **options: object) -> None:
        super().__init__()
        self.inner = kind(FEATURES, HIDDEN, batch_first=True, **options)
        self.head = nn.Linear(HIDDEN * (2 if options.get("bidirectional") else 1), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Run the net."""
        return self.head(self.inner(x)[0][:, -1])


#: What makes each net, and its number of steps.
NETS: dict[str, tuple[Callable[[], Net], int]] = {
    "LSTM, 100 steps": (lambda: Net(nn.LSTM), 100),
    "LSTM, 200 steps": (lambda: Net(nn.LSTM), 200),
    "GRU of two layers, both ways, 60 steps": (lambda: Net(nn.GRU, num_layers=2, bidirectional=True), 60),
}


def seconds(call: Callable[[], object]) -> float:
    """Measure the time of the processor that a call takes."""
    before = time.process_time()
    call()
    return time.process_time() - before


def conversion(name: str, rounds: int) -> list[float]:
    """Return what a conversion takes over an export, of nets that nobody has seen."""
    make, steps = NETS[name]
    found = []
    for _ in range(rounds):
        net, x = make().eval(), torch.zeros(1, steps, FEATURES)
        export = seconds(lambda net=net, x=x: torch.export.export(net, (x,), strict=False))
        found.append(seconds(lambda net=net: Converter(net, input_dim=(steps, FEATURES))) / export)
    return found


def methods(name: str, outputs: int, rounds: int) -> Iterator[tuple[str, list[float]]]:
    """Give what each method takes over the floor for the first outputs."""
    make, steps = NETS[name]
    net, x = make().eval().requires_grad_(False), torch.randn(ROWS, steps, FEATURES)
    converter = Converter(net, input_dim=(steps, FEATURES))
    calls = {"floor": engines.floor(net, x, outputs)} | {m: ours(converter, x, m, outputs) for m in METHODS}
    for call in calls.values():
        call()
    times = [{key: seconds(call) for key, call in calls.items()} for _ in range(rounds)]
    for method in METHODS:
        yield method, [measured[method] / measured["floor"] for measured in times]


def lines(rounds: int) -> Iterator[footprint.Line]:
    """Measure everything."""
    small = nn.Sequential(nn.Linear(2, 2))
    torch.export.export(small, (torch.zeros(1, 2),), strict=False)  # the first one of a process takes longer
    Converter(small, input_dim=2)
    for name in NETS:
        yield footprint.line(BULLET, "conversion", name, "the export alone", 2.0, conversion(name, rounds))
        for outputs in (1, CLASSES):
            for method, found in methods(name, outputs, 3 * rounds):
                yield footprint.line(BULLET, f"{method}, K = {outputs}", name, "the floor", 3.0, found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="print, and write nothing")
    given = parser.parse_args(arguments)
    torch.manual_seed(0)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in lines(given.rounds):
            found.append(one)
            print(" ".join(str(round(v, 2) if isinstance(v, float) else v) for v in list(one.values())[1:]), flush=True)
    if not given.dry:
        pd.DataFrame(found)[footprint.COLUMNS].round(4).to_csv(footprint.RESULTS / "recurrent.csv", index=False)


if __name__ == "__main__":
    main()
