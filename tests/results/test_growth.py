"""What takes longer for larger models and more data grows no faster than these: Python's own steps are counted."""

from __future__ import annotations

import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from result_models import single

from innsight_py import Converter, run_grad
from innsight_py.inputs.selection import select_outputs


def steps(function) -> int:
    """Count the calls of functions, those written in C included."""
    count = 0

    def counted(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def gradient(features: int, nodes: int = 1, rows: int = 1):
    weight = np.random.default_rng(features).normal(size=(nodes, features))
    converter = Converter({"input_dim": [features], "layers": [{"type": "Dense", "weight": weight}]})
    return run_grad(converter, np.ones((rows, features)), output_idx=list(range(nodes)), times_input=True)


def ratio(make, small: int, large: int, function) -> float:
    """Return how many times more steps a larger result takes, a first call aside."""
    results = make(small), make(large)
    function(results[0])
    few, many = (steps(lambda result=result: function(result)) for result in results)
    return many / few


@pytest.mark.parametrize(
    "make",
    [gradient, lambda n: gradient(2, nodes=n), lambda n: gradient(2, rows=n)],
    ids=["features", "nodes", "rows"],
)
def test_frames_grow_with_their_labels(make):
    assert ratio(make, 2_000, 20_000, lambda result: result.get_result("data.frame")) < 11


def test_summaries_grow_with_the_nodes():
    result = gradient(5, nodes=400)
    result.summary()
    assert steps(result.summary) < 400 * 100
    assert ratio(lambda n: gradient(5, nodes=n), 100, 400, lambda result: result.summary()) < 4.5


def test_a_frame_takes_little_more_than_its_own_size():
    result = gradient(20, rows=20_000)
    result.get_result("data.frame")
    tracemalloc.start()
    try:
        frame = result.get_result("data.frame")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * frame.memory_usage(deep=True).sum()


class Counted(str):
    """A label that counts how often it is compared."""

    __slots__ = ()
    comparisons = 0

    def __eq__(self, other: object) -> bool:
        type(self).comparisons += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_labels_are_found_without_a_search():
    names = [f"node_{i}" for i in range(1000)]
    Counted.comparisons = 0
    selection = select_outputs(None, [Counted(name) for name in reversed(names)], [(1000,)], [[names]])
    assert selection.idx == (tuple(reversed(range(1000))),)
    assert Counted.comparisons < 10_000


def test_of_equal_labels_the_first_is_meant():
    assert select_outputs(None, ["b"], [(3,)], [[["a", "b", "b"]]]).idx == ((1,),)


@pytest.mark.parametrize("nodes", [125, 126, 127, 128, 129])
def test_codes_are_those_of_pandas(nodes):
    frame = run_grad(single(3, nodes=nodes), np.ones((1, 3)), output_idx=[nodes - 1]).get_result("data.frame")
    expected = pd.Categorical([f"Y{nodes}"] * 3, categories=[f"Y{i + 1}" for i in range(nodes)])
    assert frame["output_node"].cat.codes.dtype == expected.codes.dtype
    assert frame["output_node"].array.equals(expected)
