"""Networks that captum explains wrongly, and how wrong: the table in ``docs/captum.inc``.

``python tests/oracles/captum_errors.py > docs/captum.inc`` writes it; ``test_captum.py`` compares it with what is
computed.
Each network is small, of random weights and in double precision. What an explanation should add up to needs no
library: the difference of two forward passes, or a forward pass for LRP without biases.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import captum
import captum.attr
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from innsight_py import Converter, run_deeplift, run_lrp


class Wrapped(nn.Module):
    """Modules and a forward pass that is written as a function of them."""

    def __init__(self, run: Callable[..., Tensor], *modules: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        return self.run(x, *self.parts)


def _residual(x: Tensor, first: nn.Module, inner: nn.Module, act: nn.Module, last: nn.Module) -> Tensor:
    h = first(x)
    return last(h + act(inner(h)))


def _again(x: Tensor, first: nn.Module, act: nn.Module, inner: nn.Module, last: nn.Module) -> Tensor:
    return last(act(inner(act(first(x)))))


def _gate(x: Tensor, values: nn.Module, gate: nn.Module, last: nn.Module) -> Tensor:
    return last(values(x) * torch.sigmoid(gate(x)))


def _plain(size: int, activation: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(size, 8), activation, nn.Linear(8, 1))


@dataclass(frozen=True)
class Case:
    """A network that is explained by a method, and what its instances are like."""

    name: str
    method: str
    build: Callable[[], nn.Module]
    dim: tuple[int, ...] = (4,)


def _conv(pool: nn.Module, positions: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), pool, nn.Flatten(), nn.Linear(2 * positions, 1))


def _conv_relu() -> nn.Module:
    pool = nn.MaxPool2d(2)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(18, 1))


def _tanh_between(x: torch.Tensor, first: nn.Module, last: nn.Module) -> torch.Tensor:
    return last(torch.tanh(first(x)))


def _act_twice(x: torch.Tensor, linear: nn.Module, act: nn.Module, last: nn.Module) -> torch.Tensor:
    return last(act(linear(act(linear(x)))))


IMAGE = (1, 8, 8)
CASES = (
    Case("`nn.ReLU` modules, each used once", "DeepLift", lambda: _plain(4, nn.ReLU())),
    Case("`F.relu`", "DeepLift",
         lambda: Wrapped(lambda x, a, b: b(F.relu(a(x))), nn.Linear(4, 8), nn.Linear(8, 1))),
    Case("a ReLU module used twice", "DeepLift",
         lambda: Wrapped(_again, nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 1))),
    Case("overlapping max pooling (3, stride 1)", "DeepLift", lambda: _conv(nn.MaxPool2d(3, 1), 16), IMAGE),
    Case("overlapping max pooling (3, stride 2, padding 1)", "DeepLift",
         lambda: _conv(nn.MaxPool2d(3, 2, 1), 9), IMAGE),
    Case("ReLU and then max pooling (2)", "DeepLift", _conv_relu, IMAGE),
    Case("`nn.GELU`", "DeepLift", lambda: _plain(4, nn.GELU())),
    Case("`nn.SiLU`", "DeepLift", lambda: _plain(4, nn.SiLU())),
    Case("`nn.PReLU`", "DeepLift", lambda: _plain(4, nn.PReLU())),
    Case("`nn.LayerNorm`", "DeepLift",
         lambda: nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 1))),
    Case("a gate, `a * sigmoid(b)`", "DeepLift",
         lambda: Wrapped(_gate, nn.Linear(4, 8), nn.Linear(4, 8), nn.Linear(8, 1))),
    Case("`torch.tanh`", "LRP",
         lambda: Wrapped(_tanh_between, nn.Linear(4, 8, bias=False), nn.Linear(8, 1, bias=False))),
    Case("a residual sum", "LRP",
         lambda: Wrapped(_residual, *(nn.Linear(a, b, bias=False) for a, b in ((4, 8), (8, 8))), nn.ReLU(),
                         nn.Linear(8, 1, bias=False))),
    Case("a Linear module used twice", "LRP",
         lambda: Wrapped(_act_twice, nn.Linear(4, 4, bias=False), nn.ReLU(),
                         nn.Linear(4, 1, bias=False))),
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """How far sums are from what they should be, at the worst of all rows, and that itself."""

    case: Case
    goal: float
    captum: float | str
    ours: float


def _attributed(call: Callable[[], Tensor]) -> Tensor | str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call().detach().flatten(1).sum(1)
        except (RuntimeError, AssertionError, TypeError) as error:
            return type(error).__name__


def measure(case: Case) -> Finding:
    """Explain the network with captum and with this package."""
    generator = torch.Generator().manual_seed(3)
    model = case.build().double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64) / weight[0].numel() ** 0.5)
    x, x_ref = torch.randn(2, 6, *case.dim, generator=generator, dtype=torch.float64)
    x_ref = x_ref[:1]
    converter = Converter(model, input_dim=case.dim, dtype="double")
    if case.method == "DeepLift":
        ours = run_deeplift(converter, x, x_ref=x_ref, winner_takes_all=False, dtype="double").get_result(
            "torch_tensor"
        )
        goal = (model(x) - model(x_ref)).detach()[:, 0]
        theirs = _attributed(lambda: captum.attr.DeepLift(model).attribute(x, x_ref))
    else:
        ours = run_lrp(converter, x, dtype="double").get_result("torch_tensor")
        goal = model(x).detach()[:, 0]
        theirs = _attributed(lambda: captum.attr.LRP(model).attribute(x.clone().requires_grad_()))
    worst = (ours.flatten(1).sum(1) - goal).abs().max()
    missed = theirs if isinstance(theirs, str) else float((theirs - goal).abs().max())
    return Finding(case, float(goal.abs().max()), missed, float(worst))


def rows(findings: Iterable[Finding]) -> Iterator[str]:
    """Write a row for each network."""
    for found in findings:
        missed = [_missed(value, found.goal) for value in (found.captum, found.ours)]
        yield f"| {found.case.name} | {found.case.method} | {' | '.join(missed)} |"


def _missed(value: float | str, goal: float) -> str:
    if isinstance(value, str):
        return f"refuses ({value})"
    return "nothing" if value < 1e-9 * goal else f"{value:.2g} of {goal:.2g}"


def document() -> str:
    """Write the table."""
    head = [f"| network | method | captum {captum.__version__} misses | innsight_py misses |", "|---|---|---|---|"]
    return "\n".join([*head, *rows(map(measure, CASES))]) + "\n"


if __name__ == "__main__":
    print(document(), end="")
