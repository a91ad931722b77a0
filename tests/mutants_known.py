"""Mutants that change no number, with the reason: for each reason the modules, functions and changes.

`mutants.py` skips them, says how many there are, and complains of those that are no longer met; with ``--known`` it
runs them.
"""

from __future__ import annotations

#: Reason: (module, function, change).
REASONS: dict[str, list[tuple[str, str, str]]] = {
    "A share of an exact zero: whatever it is divided by, what is handed on is 0.": [
        ("layers/rules", "alpha_beta_shares", "-1  ->  1"),
        ("layers/rules", "alpha_beta_shares", "1  ->  2 (3)"),
        ("layers/normalization", "_Diagonal.lrp", "-1  ->  1"),
        ("layers/normalization", "_Diagonal.lrp", "1  ->  2 (2)"),
    ],
    "A threshold of ours (R has none) hit exactly: both sides are as good.": [
        (
            "layers/rules",
            "window_slope",
            "mean.abs() <= (1e-05 if mean.dtype == torch.float64 else 0.01) * size  ->  "
            "mean.abs() < (1e-05 if mean.dtype == torch.float64 else 0.01) * size",
        ),
    ],
    "A shortcut where nothing is below zero: without it zeros are added.": [
        ("layers/affine", "Affine.signed_parts", "x < 0  ->  x <= 0"),
        ("layers/affine", "Affine.signed_parts", "0  ->  1 (3)"),
        ("layers/affine", "Affine._alpha_beta", "x < 0  ->  x <= 0"),
        ("layers/affine", "Affine._alpha_beta", "0  ->  1 (2)"),
    ],
    "A shortcut: the long way gives the same.": [
        ("layers/linear", "_Convolution.__init__", "1  ->  2 (2)"),
        ("layers/linear", "_Convolution.__init__", "2  ->  3 (2)"),
        ("layers/linear", "_Convolution.__init__", "1  ->  2 (3)"),
        ("layers/structure", "Take.linear", "first + count  ->  first - count"),
        (
            "layers/base",
            "sum_to",
            "g.shape[i + 2] > 1  ->  g.shape[i + 2] >= 1",
        ),
        ("layers/base", "sum_to", "1  ->  0 (2)"),
    ],
    "An option of torch without effect on what is asked for (a gradient that is thrown away, a momentum outside "
    "training, cuDNN, a stride along an axis of length 1).": [
        ("layers/linear", "_Convolution.transpose", "False  ->  True (3)"),
        ("layers/normalization", "BatchNorm.linear", "0.0  ->  1.0"),
        ("layers/normalization", "BatchNorm.linear", "False  ->  True (2)"),
        ("layers/pooling", "_WindowMean.transpose", "-2  ->  2"),
        ("layers/pooling", "_WindowMean.transpose", "1  ->  2 (4)"),
    ],
    "Zeros that broadcast.": [("layers/pooling", "_Averaging._two_products", "2  ->  0")],
    "Any point would do: all that matters is that the entries are equal, or that the function is linear.": [
        (
            "layers/pooling",
            "_Winner.pullback",
            "g.new_ones(1, *self.input_dims[0])  ->  g.new_zeros(1, *self.input_dims[0])",
        ),
        ("layers/base", "pull_linear", "flat.new_zeros((len(flat), *dim))  ->  flat.new_ones((len(flat), *dim))"),
    ],
    "Never computed: every record of a maximum keeps its winners.": [
        ("layers/pooling", "_Winner.pullback", "0  ->  1 (2)"),
    ],
    "Differences whose squares underflow: their shares are lost either way.": [
        ("layers/pooling", "_Winner.deeplift", "squares > 0  ->  squares >= 0"),
    ],
    "An axis 0 is the batch's, which is refused before.": [
        ("layers/activation", "Activation.deeplift", "axis < 0  ->  axis <= 0"),
        ("layers/activation", "Activation.deeplift", "0  ->  1"),
        ("layers/structure", "Concatenate.pullback", "self.axis < 0  ->  self.axis <= 0"),
        ("layers/structure", "Concatenate.pullback", "0  ->  1"),
        ("layers/structure", "Take.pullback", "self.axis < 0  ->  self.axis <= 0"),
        ("layers/structure", "Take.pullback", "0  ->  1"),
    ],
}

KNOWN: dict[tuple[str, str, str], str] = {mutant: reason for reason, found in REASONS.items() for mutant in found}
