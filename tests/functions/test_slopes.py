"""Slopes of a ReLU between a row and a reference: where they are no quotients, they are filled in one by one."""

from __future__ import annotations

import math

import pytest
import torch
from peaks import peak

from innsight_py.functions import deeplift, elementwise
from innsight_py.functions.activations import Activation
from innsight_py.functions.elementwise import few_at_most

LAYOUTS = [torch.contiguous_format, torch.channels_last]
SHAPE = (3, 16, 31, 29)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [SHAPE, (1, 2, 300, 301), (3, 128, 1, 128), (2, 9000, 1, 1)])
def test_few_are_found(shape, layout):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).add_(1).contiguous(memory_format=layout)
    x[-1, -1, -1, -1], x[0, 0, 0, 0], x[0, -1, 0, 0] = 0.5, math.nan, 0.4
    expected = {tuple(at) for at in (~(x > 0.5)).nonzero().tolist()}
    assert {tuple(at) for at in torch.stack(few_at_most(x, 0.5), 1).tolist()} == expected
    assert len(few_at_most(x, 0.1)[0]) == 1
    assert few_at_most(x.clamp(max=0.3), 0.5) is None


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("part", [0.0, 1e-4, 0.5])
@pytest.mark.parametrize("none_at_equal", [False, True])
@pytest.mark.parametrize("in_cache", [1000, 20_000, 2**16])  # parts of a row, rows, and all
def test_they_are_those_of_all_at_once(layout, dtype, rows, part, none_at_equal, in_cache, monkeypatch):
    """To the last bit, also where values are equal, nearly so, infinite or NaN."""
    generator = torch.Generator().manual_seed(1)
    z, z_ref = (torch.randn((n, *SHAPE[1:]), generator=generator, dtype=dtype) for n in (SHAPE[0], rows))
    near = (torch.rand(SHAPE, generator=generator) < part) * torch.randint(1, 3, SHAPE, generator=generator)
    z = torch.where(near == 1, z_ref, torch.where(near == 2, z_ref + 1e-9, z)).contiguous(memory_format=layout)
    z_ref = z_ref.contiguous(memory_format=layout)
    z[0, 0, 0, 0] = z_ref[0, 0, 0, 0] = math.inf
    z[0, 1, 0, 0], z[0, 2, 0, 0] = math.nan, z_ref[0, 2, 0, 0]
    found = []
    monkeypatch.setattr(elementwise, "IN_CACHE", in_cache)
    for many in (1, 2**60):
        monkeypatch.setattr(deeplift, "MANY", many)
        found.append(deeplift.rescale_factor(Activation("relu"), z, z_ref, z.relu(), z_ref.relu(), none_at_equal))
    known = ~found[1].isnan()
    assert torch.equal(found[0].isnan(), ~known)
    assert torch.equal(found[0][known], found[1][known])
    assert torch.equal(found[0][known].signbit(), found[1][known].signbit())
    assert found[0].stride() == found[1].stride()


def test_slopes_take_no_more_memory_than_they_are():
    """Differences are held in parts."""
    z, z_ref = (torch.rand(n, 64, 64, 64, generator=torch.Generator().manual_seed(n)) for n in (4, 1))
    y, y_ref, relu = z.relu(), z_ref.relu(), Activation("relu")
    most = peak(lambda: deeplift.rescale_factor(relu, z, z_ref, y, y_ref))
    assert most <= 1.1 * z.nbytes
