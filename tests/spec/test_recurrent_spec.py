"""What a recurrent layer of a spec refuses."""

import numpy as np
import pytest

from innsight_py import Converter
from innsight_py.spec import SpecError

LSTM = {"type": "Recurrent", "cell": "lstm", "weight": np.ones((8, 2))}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"weight": np.ones((7, 2))}, "key 'weight': expected 4 gates"),
        ({"weight": np.zeros((0, 0))}, "key 'weight': expected 4 gates"),
        ({"weight": np.ones((8, 3))}, "key 'weight': expected 2 columns"),
        ({"weight": np.ones((12, 3))}, "it needs an input"),
        ({"projection": np.ones((3, 2))}, "key 'projection': expected the shape"),
        ({"cell": "elman"}, "key 'cell': expected one of 'lstm'"),
        ({"cell": "gru", "weight": np.ones((6, 2)), "cells": True}, "only an LSTM has these"),
        ({"bias": [1.0]}, "key 'bias': expected 8 numbers"),
        ({"hidden": 1.0}, "key 'hidden': expected 2 numbers"),
        ({"hidden": np.ones((5, 2))}, "its first states are given for the axes"),
        ({"states": ["cell"]}, "key 'inputs': expected 2"),
        ({"states": ["hidden", "hidden"]}, "key 'states': expected 'hidden', 'cell' or both"),
    ],
)
def test_refusals(keys, said):
    with pytest.raises(SpecError, match=said):
        Converter({"input_dim": [3, 8], "layers": [{**LSTM, **keys}]})


def test_what_is_taken():
    converter = Converter(
        {"input_dim": [3, 8], "layers": [{**LSTM, "reverse": True, "cells": True, "hidden": [1.0, 2.0]}]}
    )
    assert converter.output_dim == [(3, 4)]
