"""Mutants that change no number, with the reason: for each reason the modules, functions and changes.

`mutants.py` skips them, says how many there are, and complains of those that are no longer met; with ``--known`` it
runs them.
"""

from __future__ import annotations

#: Reason: (module, function, change).
REASONS: dict[str, list[tuple[str, str, str]]] = {
    'A start that is replaced before it is used, or a name that nobody reads.': [
        ('methods/lime', 'LIME._explainer', '1  ->  2'),
        ('methods/lime', 'LIME._explainer', '0  ->  1'),
        ('methods/lime', 'LIME._explainer', '0  ->  1 (2)'),
    ],
    'What 0 is divided by.': [
        ('methods/lime', 'gower_similarity', '1.0  ->  2.0'),
    ],
    'Any size below 0 is the one that is left, for numpy.': [
        ('methods/lime', '_ridge_for_all_outputs.AllOutputs.fit', '1  ->  2 (2)'),
    ],
    'How images lie in memory, or how large chunks are: how long it takes, not what comes out.': [
        ('functions/layout', 'lay_out', '1  ->  2'),
        ('functions/layout', 'empty_like', 'if x.dim() < 4 or len(shape) < 4 or x.is_contiguous() or (not x.movedim(-3, -1).is_contiguous()):  ->  if not (x.dim() < 4 or len(shape) < 4 or x.is_contiguous() or (not x.movedim(-3, -1).is_contiguous())):'),
        ('functions/layout', 'empty_like', 'x.dim() < 4 or len(shape) < 4 or x.is_contiguous() or (not x.movedim(-3, -1).is_contiguous())  ->  x.dim() < 4 and len(shape) < 4 and x.is_contiguous() and (not x.movedim(-3, -1).is_contiguous())'),
        ('functions/layout', 'empty_like', 'x.dim() < 4  ->  x.dim() <= 4'),
        ('functions/layout', 'empty_like', '4  ->  5'),
        ('functions/layout', 'empty_like', '4  ->  0'),
        ('functions/layout', 'empty_like', 'len(shape) < 4  ->  len(shape) <= 4'),
        ('functions/layout', 'empty_like', '4  ->  5 (2)'),
        ('functions/layout', 'empty_like', '4  ->  0 (2)'),
        ('functions/layout', 'empty_like', 'not x.movedim(-3, -1).is_contiguous()  ->  x.movedim(-3, -1).is_contiguous()'),
        ('functions/layout', 'empty_like', '-3  ->  3'),
        ('functions/layout', 'empty_like', '3  ->  4'),
        ('functions/layout', 'empty_like', '3  ->  0'),
        ('functions/layout', 'empty_like', '-1  ->  1'),
        ('functions/layout', 'empty_like', '1  ->  2'),
        ('functions/layout', 'empty_like', '1  ->  0'),
        ('methods/plan', 'plan_of', 'sizes.trace * itemsize  ->  sizes.trace / itemsize'),
        ('methods/walk', 'Walk.go', 'min(max(least, 8 * plan.weights_bytes), most)  ->  max(max(least, 8 * plan.weights_bytes), most)'),
        ('methods/plan', 'plan_of', 'sizes.weights * itemsize  ->  sizes.weights / itemsize'),
        ('methods/walk', 'Walk.go', '8  ->  9'),
        ('methods/walk', 'Walk.go', '8  ->  0'),
    ],
    'A share of an exact zero: whatever it is divided by, what is handed on is 0.': [
        ('layers/normalization', '_Diagonal._share_of_r', '-1  ->  1'),
        ('layers/normalization', '_Diagonal._share_of_r', '1  ->  2 (2)'),
    ],
    'A threshold of ours (R has none) hit exactly: both sides are as good.': [
        ('functions/deeplift', 'window_slope', 'mean.abs() <= (1e-05 if mean.dtype == torch.float64 else 0.01) * size  ->  mean.abs() < (1e-05 if mean.dtype == torch.float64 else 0.01) * size'),
    ],
    'A shortcut where nothing is below zero: without it zeros are added.': [
        ('layers/affine', 'Affine.signed_parts', '0  ->  1 (3)'),
    ],
    'A shortcut: the long way gives the same.': [
        ('methods/walk', '_joined', 'len(parts) > 1  ->  len(parts) >= 1'),
        ('methods/walk', '_joined', '1  ->  0'),
        ('layers/linear', '_Convolution.__init__', '1  ->  2 (2)'),
        ('layers/linear', '_Convolution.__init__', '2  ->  3 (2)'),
        ('layers/linear', '_Convolution.__init__', '1  ->  2 (3)'),
        ('layers/structure', 'Take.linear', 'first + count  ->  first - count'),
        ('functions/layout', 'sum_to', 'g.shape[i + 2] > 1  ->  g.shape[i + 2] >= 1'),
        ('functions/layout', 'sum_to', '1  ->  0 (2)'),
        ('functions/layout', 'align', 'x.dim() < rank  ->  x.dim() <= rank'),
        ('methods/base', 'InterpretingMethod._finish.arrange', '4  ->  0'),
        ('methods/deepshap', 'DeepSHAP.__init__', 'available > limit_ref  ->  available >= limit_ref'),
        ('methods/deepshap', 'DeepSHAP._explain', 'len(some[0]) >= len(some_ref[0])  ->  len(some[0]) > len(some_ref[0])'),
        ('methods/gradient', 'GradientBased._average', '1  ->  0 (3)'),
        ('methods/path', 'IntegratedGradient._grid', '1  ->  2 (2)'),
    ],
    'An option of torch, numpy or shap without effect on what is asked for (a gradient that is thrown away, a momentum outside training, cuDNN, a stride along an axis of length 1, a size below 0).': [
        ('layers/linear', '_Convolution.transpose', 'False  ->  True (3)'),
        ('layers/normalization', 'BatchNorm.linear', '0.0  ->  1.0'),
        ('methods/shap', 'SHAP.__init__', '1  ->  2 (2)'),
        ('methods/shap', '_background_masker.Background', 'True  ->  False'),
        ('layers/normalization', 'BatchNorm.linear', 'False  ->  True (2)'),
        ('layers/averages', 'WindowMean.spread', '-2  ->  2'),
        ('layers/averages', 'WindowMean.spread', '1  ->  2 (4)'),
    ],
    'Any point would do: all that matters is that the entries are equal, or that the function is linear.': [
        ('layers/pooling', '_Winner.pullback', 'g.new_ones(1, *self.input_dims[0])  ->  g.new_zeros(1, *self.input_dims[0])'),
        ('layers/base', 'pull_linear', 'flat.new_zeros((len(flat), *dim))  ->  flat.new_ones((len(flat), *dim))'),
    ],
    'Never computed: every record of a maximum keeps its winners.': [
        ('layers/pooling', '_Winner.pullback', '0  ->  1 (2)'),
    ],
    'Differences whose squares underflow: their shares are lost either way.': [
        ('layers/pooling', '_Winner.deeplift', 'squares > 0  ->  squares >= 0'),
    ],
    "An axis 0 is the batch's, which is refused before.": [
        ('layers/activation', 'Activation.deeplift', 'axis < 0  ->  axis <= 0'),
        ('layers/activation', 'Activation.deeplift', '0  ->  1'),
        ('layers/structure', 'Concatenate.pullback', 'self.axis < 0  ->  self.axis <= 0'),
        ('layers/structure', 'Concatenate.pullback', '0  ->  1'),
        ('layers/structure', 'Take.pullback', 'self.axis < 0  ->  self.axis <= 0'),
        ('layers/structure', 'Take.pullback', '0  ->  1'),
    ],
    'How many rows travel together, which does not matter (`test_laws.py`; `test_memory.py` and `test_engine.py` measure what it costs).': [
        ('methods/deepshap', 'DeepSHAP._pairs', 'max(len(some[0]), len(some_ref[0]))  ->  min(len(some[0]), len(some_ref[0]))'),
        ('methods/lrp', 'LRP.__init__', 'rows.stop - rows.start  ->  rows.stop + rows.start'),
        ('methods/gradient', 'GradientBased._average', '0  ->  1'),
        ('methods/gradient', 'GradientBased._average', '1  ->  0'),
        ('methods/connection_weights', 'ConnectionWeights.__init__', '1  ->  2 (2)'),
        ('methods/walk', 'Walk.points_together', '1  ->  2'),
        ('methods/walk', 'Walk.points_together', 'min(TRACE_BYTES // self.plan.trace_bytes, widest // self.plan.widest_bytes)  ->  max(TRACE_BYTES // self.plan.trace_bytes, widest // self.plan.widest_bytes)'),
        ('methods/walk', 'Walk.points_together', 'TRACE_BYTES // self.plan.trace_bytes  ->  TRACE_BYTES * self.plan.trace_bytes'),
        ('methods/walk', 'Walk.points_together', 'widest // self.plan.widest_bytes  ->  widest * self.plan.widest_bytes'),
        ('methods/walk', 'Walk.row_chunks', 'math.ceil(rows / pieces)  ->  math.floor(rows / pieces)'),
        ('methods/walk', 'Walk.blocks', 'together >= n  ->  together > n'),
        ('methods/shap', 'SHAP.__init__', '1  ->  2 (3)'),
        ('methods/shap', 'SHAP.__init__', 'MASKED_BYTES // background.nbytes  ->  MASKED_BYTES * background.nbytes'),
        ('methods/walk', 'Walk.back', '1  ->  2'),
        ('methods/walk', 'Walk.back', 'self._cache_bytes // (batch * self.plan.widest_bytes)  ->  self._cache_bytes * (batch * self.plan.widest_bytes)'),
    ],
    'The progress bar.': [
        ('methods/deepshap', 'DeepSHAP._pairs', 'len(some[0]) * len(some_ref[0]) / count  ->  len(some[0]) * len(some_ref[0]) * count'),
        ('methods/deepshap', 'DeepSHAP._pairs', 'len(some[0]) * len(some_ref[0])  ->  len(some[0]) / len(some_ref[0])'),
        ('methods/gradient', 'GradientBased._average', 'shape[0] * shape[1] / n  ->  shape[0] * shape[1] * n'),
        ('methods/gradient', 'GradientBased._average', 'shape[0] * shape[1]  ->  shape[0] / shape[1] (2)'),
        ('methods/gradient', 'GradientBased._average', '0  ->  1 (2)'),
        ('methods/gradient', 'GradientBased._average', '1  ->  0 (2)'),
        ('methods/walk', 'Walk.__init__', '0.0  ->  1.0'),
        ('methods/walk', 'Walk.__enter__', 'if self._verbose:  ->  if not self._verbose:'),
        ('methods/walk', 'Walk.back', 'done / len(chunks)  ->  done * len(chunks)'),
        ('methods/direct', '_shared', 'False  ->  True (2)'),
        ('methods/shap', 'SHAP.__init__.explain', 'True  ->  False'),
    ],
    'A text of a message.': [
        ('methods/rescaling', 'Rescaling._check_sums', '" (dtype=\'double\' has more digits)" if self.dtype == \'float\' else \'\'  ->  \'\' if self.dtype == \'float\' else " (dtype=\'double\' has more digits)"'),
        ('methods/rescaling', 'Rescaling._check_sums', "self.dtype == 'float'  ->  self.dtype != 'float'"),
        ('layers/operator', 'Operator._grad', "f' at {self.place}' if self.place else ''  ->  '' if self.place else f' at {self.place}'"),
        ('methods/direct', '_read', '1  ->  0'),
    ],
    'Connection weights look at no activation, the last one included.': [
        ('methods/connection_weights', 'ConnectionWeights.__init__', 'False  ->  True (2)'),
    ],
    'A default that is never taken: what is explained says its layout, or the argument is given.': [
        ('methods/asked', 'Asked.__init__', 'True  ->  False'),
    ],
    'A limit of memory; what is refused, and with which number, is a message.': [
        ('methods/shap', 'SHAP.__init__', '2 * features ** 2 > COALITIONS_BYTES  ->  2 * features ** 2 >= COALITIONS_BYTES'),
        ('methods/shap', 'SHAP.__init__', '2  ->  3'),
        ('methods/shap', 'SHAP.__init__', '2  ->  3 (2)'),
        ('methods/lime', 'LIME.__init__', 'n_permutations * self._given[0].nbytes > ROWS_BYTES  ->  n_permutations * self._given[0].nbytes >= ROWS_BYTES'),
    ],
    'Other draws, as good: all of the background in another order, or a generator that is seeded again before it draws.': [
        ('methods/shap', 'SHAP.__init__', 'self._available > limit_ref  ->  self._available >= limit_ref'),
        ('methods/shap', 'SHAP.__init__', '0  ->  1 (2)'),
    ],
    'The last of 2^63 seeds.': [
        ('methods/base', 'random_source', '1  ->  2'),
    ],
}  # fmt: skip

KNOWN: dict[tuple[str, str, str], str] = {mutant: reason for reason, found in REASONS.items() for mutant in found}
