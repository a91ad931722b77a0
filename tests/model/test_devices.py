"""Every method runs on the device of the model's weights, start to end.

There is no GPU here. A meta tensor has a device, a shape and a type, but no numbers, and an operation that mixes it
with a tensor of the CPU fails; so the models are moved to "meta". What only numbers can decide (is there a NaN?) is
answered as for ordinary data.
"""

from __future__ import annotations

import functools

import pytest
import torch
from laws import in_the_middle, refuses
from method_calls import CALLS, REFERENCES
from one_of_each import LAYERS
from torch import Tensor
from torch.overrides import TorchFunctionMode

import innsight_py

pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")


class Ordinary(TorchFunctionMode):
    """Answers questions about the numbers of meta tensors as if they were finite, apart from each other and above 0."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if args and isinstance(args[0], Tensor) and args[0].is_meta:
            if function is Tensor.__bool__:
                return True
            if function in (Tensor.tolist, Tensor.item, Tensor.__float__):
                return [0.0] * args[0].numel() if function is Tensor.tolist else 1.0
            if function is Tensor.nonzero:
                return torch.zeros((0, args[0].dim()), dtype=torch.int64, device="meta")
        return function(*args, **kwargs)


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in LAYERS for n in CALLS if not refuses(k, n)])
def test_no_step_goes_back_to_the_cpu(kind, name):
    method, options = CALLS[name]
    converter = in_the_middle(kind).converter
    x = [torch.randn(3, *dim) for dim in converter.input_dim]
    if method in REFERENCES:
        rows = 1 if REFERENCES[method] == "x_ref" else 4
        options = {**options, REFERENCES[method]: [torch.randn(rows, *dim) for dim in converter.input_dim]}
    explain = functools.partial(getattr(innsight_py, method), converter, data=x, dtype="double", **options)
    here = explain()
    converter.model.to("meta")
    with Ordinary():
        there = explain()
    for i, inputs in enumerate(here.result):
        for j, expected in enumerate(inputs or ()):
            found = there.result[i][j]
            assert (found is None) == (expected is None)
            if found is not None:
                assert found.is_meta
                assert found.shape == expected.shape
    for found, expected in zip(there.preds or (), here.preds or (), strict=True):
        assert found.is_meta
        assert found.shape == expected.shape
    assert not any(x.is_meta for x in there.data or ())
