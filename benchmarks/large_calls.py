"""What is compared on large networks: our whole call, the floor, captum and zennit (and the memory of a call)."""

from __future__ import annotations

import copy
from collections.abc import Callable

import engines
import torch
import with_zennit
from torch.profiler import ProfilerActivity, profile

from innsight_py import Converter, composites, rules, run_deeplift, run_grad, run_intgrad, run_lrp

STEPS = 20
#: The epsilon of the rule "epsilon".
EPSILON = 1e-4
Call = Callable[[], object]


def peak(call: Call) -> int:
    """Run a call and return the most bytes that torch held for it at one time."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=activities, profile_memory=True) as seen:
        result = call()
    held = most = 0
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    del result
    return most


def rule_name(method: str, beside_attnlrp: bool) -> object:
    """Return what our LRP is given: a rule, or with those of attnlrp behind it a list, as users write it."""
    rule = method.removeprefix("lrp-")
    if not beside_attnlrp:
        return rules.epsilon(EPSILON) if rule == "epsilon" else rule
    epsilon = [("family:dense", rules.epsilon(EPSILON)), ("family:convolution", rules.epsilon(EPSILON))]
    return [*(epsilon if rule == "epsilon" else composites.epsilon_plus()), *composites.attnlrp()]


def ours(converter: Converter, x: torch.Tensor, method: str, outputs: int, beside_attnlrp: bool = False) -> Call:
    """Our whole call, checks and result included, for the first outputs."""
    nodes = {"output_idx": list(range(outputs)), "verbose": False}
    if method == "gradient":
        return lambda: run_grad(converter, x, **nodes)
    if method == "deeplift":
        return lambda: run_deeplift(converter, x, ignore_last_act=False, **nodes)
    if method == "intgrad":
        return lambda: run_intgrad(converter, x, n=STEPS, **nodes)
    own = rule_name(method, beside_attnlrp)
    return lambda: run_lrp(converter, x, rule_name=own, **nodes)


def floor(model: torch.nn.Module, x: torch.Tensor, outputs: int, method: str) -> Call:
    """Return the floor of a method: of integrated gradients that of so many gradients, one point at a time."""
    one = engines.floor(model, x, outputs)
    if method != "intgrad":
        return one
    return lambda: [one() for _ in range(STEPS)]


def captum(model: torch.nn.Module, x: torch.Tensor, outputs: int, method: str) -> Call:
    """Return the same by captum; what it has no rule for is refused with the reason."""
    from captum import attr

    zero = torch.zeros_like(x[:1])
    if method == "gradient":
        return engines.captum(model, x, outputs, method)
    if method == "deeplift":
        lift = attr.DeepLift(model)
        return lambda: [lift.attribute(x, baselines=zero, target=k).detach() for k in range(outputs)]
    if method == "intgrad":
        path = attr.IntegratedGradients(model)
        one = {"n_steps": STEPS, "method": "riemann_right", "internal_batch_size": 1}
        return lambda: [path.attribute(x, baselines=zero, target=k, **one).detach() for k in range(outputs)]
    if method == "lrp-epsilon":  # on a copy, since where it fails its hooks stay
        return engines.captum(copy.deepcopy(model), x, outputs, method)
    raise NotImplementedError("has no such rule")


def zennit(model: torch.nn.Module, converter: Converter, x: torch.Tensor, outputs: int, method: str) -> Call:
    """Return the same by zennit; what it has no rule for, or answers otherwise, is refused with the reason."""
    if not method.startswith("lrp-"):
        raise NotImplementedError("is not asked")
    if not with_zennit.there():
        raise NotImplementedError("is not installed")
    model = copy.deepcopy(model)
    found = with_zennit.explain(model, x, 1, method)()
    try:
        expected = with_zennit.ours(converter, x, 1, method)()
    except NotImplementedError:
        expected = None
    if reason := with_zennit.reason_against(found, expected):
        raise NotImplementedError(reason)
    return with_zennit.explain(model, x, outputs, method)


def compared(
    model: torch.nn.Module, converter: Converter, x: torch.Tensor, outputs: int, method: str
) -> tuple[dict[str, Call], dict[str, str]]:
    """Return what captum and zennit would run, and what they cannot do, with the reason."""
    calls: dict[str, Call] = {}
    cannot = {}
    makers: dict[str, Callable[[], Call]] = {"captum": lambda: captum(model, x, outputs, method)}
    if method.startswith("lrp-"):
        makers["zennit"] = lambda: zennit(model, converter, x, outputs, method)
    for name, make in makers.items():
        try:
            call = make()
            if method != "intgrad" and (outputs == 1 or (name, method) == ("captum", "lrp-epsilon")):
                call()  # the first run does not count, and tells whether it can
            calls[name] = call
        except Exception as error:
            cannot[name] = first_line(error)
    return calls, cannot


def first_line(error: Exception) -> str:
    """Return the beginning of an error: its first sentence, or as much as fits into a table."""
    text = (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0].partition(" (layer ")[0]
    return text if len(text) <= 90 else f"{text[:87]}..."
