"""Is an explanation faithful? Each metric takes a result and gives numbers, a picture, and a random yardstick.

>>> from innsight_py import Converter, metrics, run_grad
>>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[3.0, 1.0, -2.0]]}]}
>>> result = run_grad(Converter(model), [[1.0, 1.0, 1.0]], times_input=True)
>>> metrics.faithfulness_correlation(result, seed=1).frame
        row output  value    random
0  data_1     Y1    1.0 ...
"""

from innsight_py.metrics.compare import Comparison, compare
from innsight_py.metrics.curves import deletion, insertion
from innsight_py.metrics.faithfulness import faithfulness_correlation, infidelity
from innsight_py.metrics.own import completeness, sparseness
from innsight_py.metrics.randomization import randomization
from innsight_py.metrics.robustness import max_sensitivity
from innsight_py.metrics.score import Score

__all__ = [
    "Comparison",
    "Score",
    "compare",
    "completeness",
    "deletion",
    "faithfulness_correlation",
    "infidelity",
    "insertion",
    "max_sensitivity",
    "randomization",
    "sparseness",
]
