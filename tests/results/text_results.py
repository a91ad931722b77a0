"""Results of texts, put together by hand: no model is needed to look at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from innsight_py.explanation import Explanation
from innsight_py.inputs.described import Described
from innsight_py.inputs.names import default_names
from innsight_py.inputs.ports import Port

#: What nobody would want to run, to break a page with, or to be sent to a terminal.
HOSTILE = [
    "<script>alert(1)</script>", "</script>", "<img src=x onerror=alert(1)>", "\"onmouseover='alert(1)'", "&lt;b&gt;",
    "</span></div></form>", "]]>", "<!--", "\x1b[31mred", "a\nb", "\u202etxt", "日本語", "e\u0301", "😀",
    "$\\frac{1}{$", "",
]  # fmt: skip


class TextModel(Described):
    """The shapes and names of a model, without the model."""

    def __init__(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
        self.inputs, self.outputs, self.channels_first = tuple(inputs), tuple(outputs), True


def text_port(length: int, names: Any = None, vocabulary: Any = None) -> Port:
    return Port("ids", (length,), default_names((length,)) if names is None else [names], "tokens", vocabulary)


def text_result(texts: Sequence[Sequence[str]], values: Any, labels: Sequence[str]) -> Explanation:
    """Return the result of texts of the same length, with values ``(B, T, K)``."""
    vocabulary = sorted({token for row in texts for token in row})
    ids = torch.tensor([[vocabulary.index(token) for token in row] for row in texts])
    port = text_port(ids.shape[1], vocabulary=vocabulary)
    return result_of([port], [ids], [values], labels)


def result_of(ports: Sequence[Port], data: Sequence[torch.Tensor], values: Sequence[Any], labels: Any) -> Explanation:
    """Return a result of several inputs; the prediction is the sum plus 0.5."""
    found = Explanation()
    found.described = TextModel(ports, [Port("out", (len(labels),), [list(labels)], "table")])
    tensors = [torch.as_tensor(np.asarray(x), dtype=torch.float64) for x in values]
    found.result, found.data = [list(tensors)], list(data)
    found.output_idx, found.output_label = [list(range(len(labels)))], [list(labels)]
    goal = sum(x.flatten(1, -2).sum(1) for x in tensors)
    found.preds, found.decomp_goal, found.decomposes = [goal + 0.5], [goal], True
    found.title, found.value_name, found.dtype, found.channels_first = "DeepLift", "Contribution", "double", True
    found.data_names = [f"data_{row + 1}" for row in range(found.rows)]
    return found


def review() -> Explanation:
    """Return two reviews of pieces of words, for two classes; all values are multiples of 1/8, so sums are exact."""
    texts = [
        ["[CLS]", "un", "##believ", "##able", "plot", ",", "good", "[SEP]"],
        ["[CLS]", "a", "bad", "film", "[SEP]", "[PAD]", "[PAD]", "[PAD]"],
    ]
    values = np.array([[0, 1, 2, -1, 0.5, 0, 4, 0.25], [0, 0.25, -4, 0.5, 0, 0.125, 0.125, 0.25]])
    return text_result(texts, np.stack([values, -values / 2], -1), ["good", "bad"])
