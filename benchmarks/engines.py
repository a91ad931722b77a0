"""The same explanation by several libraries: ours, captum, shap and the floor; `with_zennit` has zennit."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from innsight_py import (
    Converter,
    run_deeplift,
    run_deepshap,
    run_expgrad,
    run_grad,
    run_intgrad,
    run_lrp,
    run_smoothgrad,
)

Call = Callable[[], object]
STEPS = 50
REFERENCES = 10


def floor(model: nn.Module, x: Tensor, outputs: int) -> Call:
    """One forward pass, and one plain ``torch.autograd.grad`` for each output."""

    def run() -> Tensor:
        leaf = x.clone().requires_grad_()
        y = model(leaf)
        grads = [torch.autograd.grad(y[:, k].sum(), leaf, retain_graph=True)[0] for k in range(outputs)]
        return torch.stack(grads, -1)

    return run


def channels_last(model: nn.Module, x: Tensor) -> tuple[nn.Module, Tensor]:
    """Lay a copy of a model, and its images, out in memory with channels last."""
    layout = torch.channels_last
    return copy.deepcopy(model).to(memory_format=layout), x.to(memory_format=layout)


def forward(model: nn.Module, x: Tensor) -> Call:
    """One forward pass."""
    return lambda: model(x)


def ours(converter: Converter, x: Tensor, method: str, references: Tensor | None = None) -> Call:
    """Our whole call, checks and result included."""
    zero = x.new_zeros((1, *x.shape[1:]))
    nodes = {"output_idx": list(range(converter.output_dim[0][0])), "verbose": False}  # all, not only the first ten
    calls: dict[str, Call] = {
        "gradient": lambda: run_grad(converter, x, **nodes),
        "deeplift": lambda: run_deeplift(converter, x, x_ref=zero, ignore_last_act=False, **nodes),
        "lrp-epsilon": lambda: run_lrp(converter, x, rule_name="epsilon", rule_param=1e-4, **nodes),
        "lrp-alpha-beta": lambda: run_lrp(converter, x, rule_name="alpha_beta", rule_param=2.0, **nodes),
        "intgrad": lambda: run_intgrad(converter, x, n=STEPS, **nodes),
        "smoothgrad": lambda: run_smoothgrad(converter, x, n=STEPS, seed=1, **nodes),
        "expgrad": lambda: run_expgrad(converter, x, data_ref=references, n=STEPS, seed=1, **nodes),
        "deepshap": lambda: run_deepshap(converter, x, data_ref=references, **nodes),
    }
    return calls[method]


def captum(  # noqa: C901
    model: nn.Module, x: Tensor, outputs: int, method: str, references: Tensor | None = None
) -> Call:
    """Run captum, once for each output, as its users must."""
    from captum import attr
    from captum.attr._utils.lrp_rules import EpsilonRule, IdentityRule

    zero = torch.zeros_like(x[:1])

    def each(explain: Callable[[int], Tensor]) -> Call:
        return lambda: torch.stack([explain(k).detach() for k in range(outputs)], -1)

    if method == "gradient":
        saliency = attr.Saliency(model)
        return each(lambda k: saliency.attribute(x.clone().requires_grad_(), target=k, abs=False))
    if method == "deeplift":
        deeplift = attr.DeepLift(model, eps=1e-6)
        return each(lambda k: deeplift.attribute(x, baselines=zero, target=k))
    if method == "deepshap":
        shap = attr.DeepLiftShap(model)
        return each(lambda k: shap.attribute(x, baselines=references, target=k))
    if method.startswith("intgrad"):
        size = int(method.partition("@")[2]) or None if "@" in method else None
        path = attr.IntegratedGradients(model)
        return each(
            lambda k: path.attribute(
                x, baselines=zero, target=k, n_steps=STEPS, method="riemann_right", internal_batch_size=size
            )
        )
    if method.startswith("smoothgrad"):
        size = int(method.partition("@")[2])
        noisy = attr.NoiseTunnel(attr.Saliency(model))
        return each(
            lambda k: noisy.attribute(
                x, nt_type="smoothgrad", nt_samples=STEPS, nt_samples_batch_size=size, stdevs=0.1, target=k, abs=False
            )
        )
    if method == "expgrad":
        gradient_shap = attr.GradientShap(model)
        return each(lambda k: gradient_shap.attribute(x, baselines=references, n_samples=STEPS, target=k))
    if method == "lrp-epsilon":

        def explain(k: int) -> Tensor:
            for module in model.modules():  # rules are forgotten after each call
                if isinstance(module, nn.Flatten | nn.Identity):
                    module.rule = IdentityRule()
                elif isinstance(module, nn.Linear | nn.Conv2d | nn.MaxPool2d):
                    module.rule = EpsilonRule(epsilon=1e-4)
            return attr.LRP(model).attribute(x, target=k)

        return each(explain)
    raise KeyError(method)


def shap(model: nn.Module, x: Tensor, references: Tensor) -> Call:
    """Run shap's DeepExplainer, which explains all outputs."""
    from shap import DeepExplainer

    return lambda: DeepExplainer(model, references).shap_values(x, check_additivity=False)
