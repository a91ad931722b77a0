"""LRP by zennit 0.5.1, as a careful user asks for it: with the canonizers that batch norms and residual sums need.

zennit hangs rules on modules. What it has no rule for gets a plain gradient and no warning, so `reason_against` looks
at its answer before its time counts: it is compared with ours for the same rules.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from innsight_py import Converter, composites, rules, run_lrp

Call = Callable[[], Tensor]
EPSILON, ALPHA, BETA = 1e-4, 2.0, 1.0
#: How far its answer may be from ours, as a part of the largest value; epsilon in single precision is not exact.
TOLERANCE = 0.05
METHODS = ("lrp-epsilon", "lrp-epsilon_plus", "lrp-alpha-beta")


def there() -> bool:
    """Whether zennit is installed; it is no requirement of the package or of its tests."""
    return importlib.util.find_spec("zennit") is not None


@contextmanager
def _two_classes_of_torchvision() -> Iterator[None]:
    """Let zennit be imported without torchvision, of which it takes the names of two classes and nothing else.

    A torchvision must fit torch to the digit, and PyPI has for Linux only the one that is built for GPUs.
    """
    names = ["torchvision", "torchvision.models", "torchvision.models.resnet"]
    before = {name: sys.modules[name] for name in names if name in sys.modules}
    for name in names:
        sys.modules[name] = ModuleType(name)
    for name in ("Bottleneck", "BasicBlock"):
        setattr(sys.modules[names[-1]], name, type(name, (), {}))
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(before)


def _library() -> Any:
    if "zennit" not in sys.modules:
        with _two_classes_of_torchvision():
            import zennit  # noqa: F401
    return sys.modules["zennit"]


def _block(self: nn.Module, x: Tensor) -> Tensor:
    """Run a residual block of ours; its sum is a module, as zennit needs it."""
    y = self.relu1(self.bn1(self.conv1(x)))
    y = self.bn2(self.conv2(y))
    if hasattr(self, "conv3"):
        y = self.bn3(self.conv3(self.relu2(y)))
    last = self.relu3 if hasattr(self, "conv3") else self.relu2
    return last(self.residual_sum(torch.stack([self.down(x), y], -1)))


def _attributes(_: str, module: nn.Module) -> dict[str, object] | None:
    if type(module).__name__ not in ("Block", "Bottleneck"):
        return None
    return {"forward": _block.__get__(module), "residual_sum": _library().layer.Sum()}


def _composite(method: str) -> Any:
    zennit = _library()
    theirs, types, own = zennit.rules, zennit.types, zennit.canonizers
    canonizers = [own.SequentialMergeBatchNorm(), own.AttributeCanonizer(_attributes)]
    if method == "lrp-epsilon_plus":
        return zennit.composites.EpsilonPlus(canonizers=canonizers)
    rule = theirs.Epsilon(EPSILON) if method == "lrp-epsilon" else theirs.AlphaBeta(ALPHA, BETA)
    layers = [*zennit.composites.layer_map_base(), ((types.Convolution, types.Linear), rule)]
    return zennit.composites.LayerMapComposite(layers, canonizers=canonizers)


def explain(model: nn.Module, x: Tensor, outputs: int, method: str) -> Call:
    """Explain the first outputs, one after the other, as its users must."""
    if method not in METHODS:
        raise NotImplementedError("has no such rule")
    gradient, composite = _library().attribution.Gradient, _composite(method)

    def one(attributor: Any, k: int) -> Tensor:
        def start(y: Tensor) -> Tensor:
            return y * nn.functional.one_hot(torch.tensor(k), y.shape[-1])

        found: Tensor = attributor(x, start)[1]
        return found

    def run() -> Tensor:
        with gradient(model, composite) as attributor:
            return torch.stack([one(attributor, k) for k in range(outputs)], -1)

    return run


def ours(converter: Converter, x: Tensor, outputs: int, method: str) -> Call:
    """Explain with the rules that zennit has: sums in proportion, batch norms as a part of the layer before."""
    given = composites.epsilon_plus(stabilizer=1e-6)
    if method != "lrp-epsilon_plus":
        rule = rules.epsilon(EPSILON) if method == "lrp-epsilon" else rules.alpha_beta(ALPHA, stabilizer=1e-6)
        given = [("family:convolution", rule), ("family:dense", rule), *given[2:]]
    nodes = {"output_idx": list(range(outputs)), "verbose": False}

    def run() -> Tensor:
        found: Tensor = run_lrp(converter, x, rule_name=given, merge_batch_norm=True, **nodes).result[0][0]
        return found

    return run


def reason_against(found: Tensor, expected: Tensor | None) -> str:
    """Return why an answer of zennit does not count, or nothing; `expected` is ours, if we have one."""
    if not bool(found.isfinite().all()):
        return "its answer is not finite: layers without a rule get a plain gradient"
    if expected is None:
        return "it has no rule for LayerNorm and attention, and takes a plain gradient"
    apart = float((found - expected).abs().max() / expected.abs().max())
    return f"another answer, {apart:.2g} of the largest value apart" if apart > TOLERANCE else ""
