"""One layer of each type of the spec, for tests that go through all of them."""

from __future__ import annotations

import math

import numpy as np
import torch

GENERATOR = np.random.default_rng(1)


def draw(*shape):
    return GENERATOR.standard_normal(shape)


def positive(*shape):
    return np.abs(draw(*shape)) + 0.5


#: One layer of each type of the spec with options that are not its defaults, and the shapes of the inputs it takes.
LAYERS = {
    "Dense": ([(4,)], {"weight": draw(3, 4), "bias": draw(3),
        "activation_name": "leaky_relu", "activation_params": {"negative_slope": 0.3}}),
    "Conv1D": ([(2, 7)], {"weight": draw(4, 1, 3),
        "stride": 2, "padding": [1, 2], "dilation": 2, "groups": 2, "activation_name": "tanh"}),
    "Conv2D": ([(2, 5, 6)], {"weight": draw(3, 2, 2, 3), "bias": draw(3),
        "stride": [2, 1], "padding": [1, 0, 2, 1], "dilation": [1, 2]}),
    "Conv3D": ([(1, 3, 4, 5)], {"weight": draw(2, 1, 2, 2, 2), "stride": [1, 2, 1], "padding": [1, 0, 0, 1, 1, 1]}),
    "Conv1DTranspose": ([(2, 4)], {"weight": draw(2, 3, 3), "stride": 2, "padding": 1, "output_padding": 1}),
    "Conv2DTranspose": ([(2, 3, 3)], {"weight": draw(2, 1, 2, 3), "bias": draw(2), "stride": [2, 1], "groups": 2}),
    "Conv3DTranspose": ([(1, 2, 2, 2)], {"weight": draw(1, 2, 2, 2, 2), "dilation": [1, 2, 1]}),
    "MaxPooling1D": ([(2, 7)], {"kernel_size": 3, "strides": 2, "padding": 1, "ceil_mode": True}),
    "MaxPooling2D": ([(2, 5, 6)], {"kernel_size": [2, 3], "strides": [1, 2], "dilation": [2, 1]}),
    "MaxPooling3D": ([(1, 4, 4, 4)], {"kernel_size": 2, "padding": [1, 0, 1]}),
    "AveragePooling1D": ([(2, 7)], {"kernel_size": 3, "strides": 2, "padding": 1, "count_include_pad": False}),
    "AveragePooling2D": ([(2, 5, 6)], {"kernel_size": [2, 3], "strides": 1}),
    "AveragePooling3D": ([(1, 4, 4, 4)], {"kernel_size": 2, "ceil_mode": True}),
    "AdaptivePooling": ([(2, 7)], {"method": "max", "output_size": [3]}),
    "GlobalPooling": ([(2, 3, 4)], {"method": "average", "keepdims": True}),
    "BatchNorm": ([(3, 4)], {"gamma": draw(3), "beta": draw(3),
        "run_mean": draw(3), "run_var": positive(3), "eps": 1e-3}),
    "Standardize": ([(6,)], {"groups": 2, "eps": 1e-4, "center": False}),
    "Activation": ([(4,)], {"act_name": "clamp", "act_params": {"min": -0.7, "max": math.inf}}),
    "Scale": ([(2, 3)], {"factor": draw(2, 1), "shift": draw(3)}),
    "Add": ([(4,), (4,)], {}),
    "Multiply": ([(4,), (4,)], {}),
    "MatMul": ([(2, 3), (3, 2)], {}),
    "Reduce": ([(2, 3, 4)], {"method": "mean", "axes": [1, 3], "keepdims": True}),
    "Concatenate": ([(2, 3), (1, 3)], {"axis": 1}),
    "Flatten": ([(2, 3)], {"order": "channels_last"}),
    "Reshape": ([(6,)], {"shape": [2, 3]}),
    "Permute": ([(2, 3)], {"axes": [2, 1]}),
    "Take": ([(5,)], {"axis": 1, "indices": [4, 0, 0, 2]}),
    "Padding": ([(2, 4)], {"padding": [2, 1], "mode": "constant", "value": 0.1}),
    "Resize": ([(1, 4)], {"size": [7], "mode": "linear", "align_corners": False, "scale_factor": [1.75]}),
    "Skipping": ([(4,)], {}),
    "Cast": ([(4,)], {"dtype": "float32"}),
    "Detach": ([(4,)], {}),
    "Operator": ([(5,)], {
        "operator": "aten::_cdist_forward", "shapes": [[1, 5]],
        "arguments": [{"input": 0}, torch.tensor(draw(3, 5)), 2.0, None],
    }),
}  # fmt: skip
#: Layers that take numbers or conditions beside values, and what loops through time: they have tests of their own
#: (`test_choices.py`, `test_torch_recurrent.py`).
LOOKUPS = ("Embedding", "Choose", "Gather", "TopK", "Recurrent")
