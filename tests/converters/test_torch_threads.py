"""Conversions beside other threads: what these do with torch stays what it is; no conversion disturbs another."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

from innsight_py import Converter, run_grad


class Reversed(torch.autograd.Function):
    """The same value, and the gradient with the other sign."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return -grad


class Waiting(nn.Module):
    """A module that stays in `forward` while it is traced, until another thread is done."""

    def __init__(self, seed: int, inside=None, done=None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(4, 3, generator=generator))
        self.inside, self.done = inside, done

    def __deepcopy__(self, memo):
        copied = Waiting(0, self.inside, self.done)
        copied.weight = nn.Parameter(self.weight.detach().clone())
        return copied

    def forward(self, x):
        if self.inside is not None and torch.compiler.is_exporting():
            self.inside.set()
            assert self.done.wait(60)
        with torch.no_grad():
            gate = torch.sigmoid(x.mean(1, keepdim=True))
        return Reversed.apply(x * gate) @ self.weight


def convert(module: nn.Module) -> Converter:
    return Converter(module, input_dim=(4,), custom_backward="own")


def other_work() -> dict[str, object]:
    """Use everything that is replaced while a module is traced."""
    found = {}
    with torch.inference_mode():
        found["inference"] = torch.ones(2).is_inference(), torch.is_inference_mode_enabled()
    found["after"] = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    with torch.no_grad():
        found["no_grad"] = torch.is_grad_enabled()
    leaf = torch.ones(2, requires_grad=True)
    Reversed.apply(leaf).sum().backward()
    found["own backward"] = leaf.grad.tolist()
    found["data"] = leaf.data.data_ptr() == leaf.data_ptr()
    leaf.data = torch.zeros(2)
    found["data set"] = leaf.tolist()
    return found


def test_other_threads_do_not_notice_a_conversion():
    inside, done = threading.Event(), threading.Event()
    expected = other_work()
    with ThreadPoolExecutor(1) as pool:
        conversion = pool.submit(convert, Waiting(1, inside, done))
        assert inside.wait(60)
        try:
            meanwhile = other_work()
            open_before = torch.inference_mode(), torch.no_grad()  # entered now, left when the conversion is over
            for context in open_before:
                context.__enter__()
        finally:
            done.set()
        converter = conversion.result()
    for context in reversed(open_before):
        context.__exit__(None, None, None)
    assert meanwhile == expected == other_work()
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert converter.output_dim == [(3,)]


def test_conversions_at_the_same_time():
    """Each gets its own model, gradients as autograd has them, and torch is left as it was."""
    before = torch.backends.mha.get_fastpath_enabled()
    modules = [Waiting(seed) for seed in range(4)]
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)

    with ThreadPoolExecutor(2) as pool:
        converters = list(pool.map(convert, modules))
    for module, converter in zip(modules, converters, strict=True):
        leaf = torch.from_numpy(x).requires_grad_()
        module(leaf)[:, 1].sum().backward()
        found = run_grad(converter, x).get_result()[..., 1]
        np.testing.assert_allclose(found, leaf.grad.numpy(), rtol=1e-5, atol=1e-6)
    assert torch.backends.mha.get_fastpath_enabled() == before
