"""How much memory a call takes at its peak, counted from torch's own allocations: the same on every machine."""

from __future__ import annotations

import pytest
import torch
from peaks import MIB, images, peak
from torch import nn

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

# Sums that are not exact are no matter here; when they warn is tested in test_residual.py.
pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")


def cnn(pixels: int) -> Converter:
    size = pixels // 4
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * size * size, 10),
    ).eval()  # fmt: skip
    return Converter(model, input_dim=(3, pixels, pixels))


@pytest.fixture(scope="module")
def small():
    return cnn(32)


def test_the_measure_sees_what_is_held():
    assert peak(lambda: torch.ones(MIB).add(1)) == pytest.approx(2 * 4 * MIB, rel=0.01)

    def in_turn():
        for _ in range(10):
            last = torch.ones(MIB)
        return last

    assert peak(in_turn) <= 2.1 * 4 * MIB


def test_a_path_for_sixty_four_images():
    """64 images of 64 x 64: all points of 50 steps at once would take 10 GB. More steps take no more, see below."""
    converter, x = cnn(64), images(64, 64)
    assert peak(lambda: run_intgrad(converter, x, n=10, output_idx=[0], verbose=False)) < 100 * MIB


@pytest.mark.parametrize("run", [run_intgrad, run_smoothgrad, run_expgrad])
def test_flat_in_steps(small, run):
    x = images(2, 32)
    keys = {"output_idx": [0], "verbose": False} | ({} if run is run_intgrad else {"seed": 1})
    few, many = (peak(lambda n=n: run(small, x, n=n, **keys)) for n in (160, 640))
    assert many <= 1.05 * few


def test_flat_in_references(small):
    x = images(2, 32)
    few, many = (
        peak(lambda n=n: run_deepshap(small, x, data_ref=images(n, 32), limit_ref=n, output_idx=[0], verbose=False))
        for n in (320, 640)
    )
    grown = 320 * 3 * 32 * 32 * 4  # the references, as they come, are read and drawn; a pass keeps 20 times as much
    assert many - few <= 4 * grown


@pytest.mark.parametrize("run", [run_grad, run_deeplift, run_lrp])
@pytest.mark.parametrize("nodes", [1, 3])
def test_rows_add_what_their_results_take(small, run, nodes):
    keys = {"output_idx": list(range(nodes)), "verbose": False}
    few, many = (peak(lambda rows=rows: run(small, images(rows, 32), **keys)) for rows in (320, 480))
    row = 3 * 32 * 32 * 4
    # The instances as they come and are read, and the results; what a pass keeps of a row is 20 times as large.
    assert many - few <= 160 * row * (5 + 1.2 * nodes)


def test_a_batch_size_caps_it(small):
    x = images(30, 32)
    sizes = [
        peak(lambda b=b: run_intgrad(small, x, n=20, batch_size=b, output_idx=[0], verbose=False)) for b in (1, 8, 64)
    ]
    assert sizes[0] < sizes[1] < sizes[2]
    one_point = small.model.sizes.trace * 4
    assert sizes[0] <= x.numel() * 4 * 3 + 4 * one_point


def test_a_large_table_with_many_references():
    """100,000 rows, ten outputs, 100 references: ten million pairs, a chunk at a time. Here a tenth of the rows."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 10)).eval()
    converter = Converter(model, input_dim=(10,))
    references = torch.randn(100, 10)
    few, many = (
        peak(lambda rows=rows: run_deepshap(converter, torch.randn(rows, 10), data_ref=references, verbose=False))
        for rows in (1_000, 10_000)
    )
    result = 9_000 * 10 * 10 * 4
    assert many - few <= 4 * result + 40 * MIB
