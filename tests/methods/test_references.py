"""References of each row: the same answers as a loop over the rows, and copies of one set are that set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from laws_inside import Cut, arrays, near

from innsight_py import Converter, run_deeplift, run_deepshap, run_expgrad, run_intgrad

pytestmark = pytest.mark.filterwarnings("ignore:.*do not add up:UserWarning")
ROWS, COUNT = 4, 3
SINGLE = {
    "rescale": (run_deeplift, {}),
    "reveal-cancel": (run_deeplift, {"rule_name": "reveal_cancel"}),
    "intgrad": (run_intgrad, {"n": 5}),
    "mean gradient": (run_intgrad, {"n": 5, "times_input": False}),
}
SEVERAL = {
    "deepshap": (run_deepshap, {}),
    "deepshap, drawn": (run_deepshap, {"limit_ref": 2, "seed": 1}),
    "deepshap, reveal-cancel": (run_deepshap, {"rule_name": "reveal_cancel"}),
}


@pytest.fixture(scope="module", params=["mlp", "cnn"])
def case(request) -> tuple[Converter, np.ndarray, np.ndarray]:
    cut = Cut.of(request.param)
    rng = np.random.default_rng(5)
    return cut.converter, rng.standard_normal((ROWS, *cut.dim)), rng.standard_normal((ROWS, COUNT, *cut.dim))


@pytest.mark.parametrize("batch_size", [None, 1, 3])
@pytest.mark.parametrize("layer", [None, "2"])
@pytest.mark.parametrize("name", SINGLE)
def test_a_reference_of_each_row_is_a_loop_over_rows(case, name, layer, batch_size):
    converter, x, refs = case
    run, keys = SINGLE[name]
    keys = {**keys, "dtype": "double", "layer": layer, "batch_size": batch_size, "verbose": False}
    found = run(converter, x, x_ref=refs[:, 0], **keys)
    alone = [run(converter, x[b : b + 1], x_ref=refs[b, :1], **keys) for b in range(ROWS)]
    near(arrays(found), [np.concatenate([arrays(one)[0] for one in alone])])
    near([found.decomp_goal[0].numpy()], [np.concatenate([one.decomp_goal[0].numpy() for one in alone])])
    copies = run(converter, x, x_ref=np.repeat(refs[:1, 0], ROWS, 0), **keys)
    near(arrays(copies), arrays(run(converter, x, x_ref=refs[:1, 0], **keys)))


@pytest.mark.parametrize("batch_size", [None, 1, 2])
@pytest.mark.parametrize("layer", [None, "2"])
@pytest.mark.parametrize("name", SEVERAL)
def test_references_of_each_row_are_a_loop_over_rows(case, name, layer, batch_size):
    converter, x, refs = case
    run, keys = SEVERAL[name]
    keys = {**keys, "dtype": "double", "layer": layer, "batch_size": batch_size, "verbose": False}
    found = run(converter, x, data_ref=refs, **keys)
    alone = [run(converter, x[b : b + 1], data_ref=refs[b], **keys) for b in range(ROWS)]
    near(arrays(found), [np.concatenate([arrays(one)[0] for one in alone])])
    near([found.decomp_goal[0].numpy()], [np.concatenate([one.decomp_goal[0].numpy() for one in alone])])
    copies = run(converter, x, data_ref=np.repeat(refs[:1], ROWS, 0), **keys)
    near(arrays(copies), arrays(run(converter, x, data_ref=refs[0], **keys)))


@pytest.mark.parametrize("layer", [None, "2"])
def test_expected_gradients_draw_from_the_references_of_the_row(case, layer):
    converter, x, refs = case
    keys = {"n": 6, "seed": 2, "dtype": "double", "layer": layer}
    copies = run_expgrad(converter, x, data_ref=np.repeat(refs[:1], ROWS, 0), **keys)
    shared = run_expgrad(converter, x, data_ref=refs[0], **keys)
    near(arrays(copies), arrays(shared))
    near([copies.decomp_goal[0].numpy()], [shared.decomp_goal[0].numpy()])
    # With one reference a row the draws are only where on the path the points lie: those of the same row in any batch.
    found = arrays(run_expgrad(converter, x, data_ref=refs[:, :1], **keys))[0]
    for b in range(ROWS):
        alike = arrays(run_expgrad(converter, np.repeat(x[b : b + 1], ROWS, 0), data_ref=refs[b, :1], **keys))[0]
        near([found[b]], [alike[b]])


def test_several_inputs_have_references_of_each_row():
    weight = np.random.default_rng(0).standard_normal((2, 5))
    layers = [
        {"type": "Concatenate", "inputs": ["input_1", "input_2"], "axis": 1},
        {"type": "Dense", "weight": weight, "activation_name": "tanh"},
    ]
    converter = Converter({"input_dim": [[2], [3]], "layers": layers})
    rng = np.random.default_rng(1)
    x, refs = [rng.standard_normal((2, d)) for d in (2, 3)], [rng.standard_normal((2, 4, d)) for d in (2, 3)]
    keys = {"dtype": "double", "ignore_last_act": False}
    found = run_deepshap(converter, x, data_ref=refs, **keys)
    for b in range(2):
        alone = run_deepshap(converter, [y[b : b + 1] for y in x], data_ref=[r[b] for r in refs], **keys)
        near([y[b : b + 1] for y in arrays(found)], arrays(alone))


def test_references_are_not_repeated(case, monkeypatch):
    """One reference is one row, however many rows of data there are."""
    converter, x, refs = case
    seen = []
    trace = type(converter.model).trace

    def watch(self, inputs, **others):
        seen.append(len(inputs[0]))
        return trace(self, inputs, **others)

    monkeypatch.setattr(type(converter.model), "trace", watch)
    run_deeplift(converter, x, x_ref=refs[:1, 0], verbose=False)
    assert sum(seen) == 1 + ROWS


@pytest.mark.parametrize("run", [run_deepshap, run_expgrad])
def test_as_many_as_rows(case, run):
    converter, x, refs = case
    with pytest.raises(ValueError, match=r"'data_ref': expected references for 4 row\(s\).*which is for 3"):
        run(converter, x, data_ref=refs[:3])
    refs = torch.tensor(refs)
    refs[1, 2].view(-1)[0] = np.nan
    with pytest.raises(ValueError, match="'data_ref': expected finite numbers"):
        run(converter, x, data_ref=refs)
