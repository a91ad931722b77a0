"""What is refused by name: operators that have no gradient, draw at random, or are no arithmetic of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from innsight_py.converters.onnx.writer import TABLE, domain_of

_AS_IT_IS = (
    "The model as it is can be explained by run_lime and run_shap, with its onnxruntime session as the prediction."
)
_FLOW = f"control flow depends on the data. Export the model with fixed shapes and without loops. {_AS_IT_IS}"
_QUANTIZED = (
    "it rounds values to whole numbers, which have no gradient. Explain the model before its quantisation (weights "
    "alone may be quantised: they are read with DequantizeLinear)."
)
_SEQUENCES = f"sequences, maps, optional values and texts are no tensors of numbers. {_AS_IT_IS}"
_RANDOM = "it is random even at prediction time. Export the model in evaluation mode."
_LABELS = "it gives positions or labels, which have no gradient. Leave it out: explain the scores that it chooses from."
_TREES = f"trees and support vectors have no layers. {_AS_IT_IS}"

#: Operators, or how their names begin (with a star), and why.
_REASONS: dict[str, str] = {
    "If": _FLOW, "Loop": _FLOW, "Scan": _FLOW, "SequenceMap": _FLOW,
    "QuantizeLinear": _QUANTIZED, "DynamicQuantizeLinear": _QUANTIZED, "QLinear*": _QUANTIZED,
    "ConvInteger": _QUANTIZED, "MatMulInteger": _QUANTIZED,
    "Sequence*": _SEQUENCES, "Optional*": _SEQUENCES, "String*": _SEQUENCES, "SplitToSequence": _SEQUENCES,
    "ConcatFromSequence": _SEQUENCES, "RegexFullMatch": _SEQUENCES, "TfIdfVectorizer": _SEQUENCES,
    "ImageDecoder": "it decodes pictures from bytes. Decode them first.",
    "Random*": _RANDOM, "Bernoulli": _RANDOM, "Multinomial": _RANDOM,
    "ArgMax": _LABELS, "ArgMin": _LABELS, "TopK": _LABELS, "NonZero": _LABELS, "NonMaxSuppression": _LABELS,
    "Unique": _LABELS, "Hardmax": _LABELS, "OneHot": _LABELS,
    "ai.onnx.ml.Tree*": _TREES, "ai.onnx.ml.SVM*": _TREES,
    "ai.onnx.ml.ZipMap": _SEQUENCES, "ai.onnx.ml.CastMap": _SEQUENCES, "ai.onnx.ml.DictVectorizer": _SEQUENCES,
    "ai.onnx.ml.CategoryMapper": _SEQUENCES, "ai.onnx.ml.LabelEncoder": _SEQUENCES,
    "ai.onnx.ml.OneHotEncoder": f"categories have no gradient. {_AS_IT_IS}",
}  # fmt: skip
#: Those of these that are computed if they do not depend on the data.
_HARMLESS = (_LABELS, _QUANTIZED)


def refused_operators() -> list[str]:
    """Return the operators that are refused by name, as the documentation lists them."""
    return sorted(_REASONS)


def reason(node: Any, opsets: Mapping[str, int], kind: str, depends: bool = True) -> str | None:
    """Say why a node cannot be converted; None if it can."""
    domain = domain_of(node)
    if domain not in ("", "ai.onnx.ml"):
        return (
            f"'{domain}' is not a domain of ONNX's own operators. Export the model without it (without the fusions of "
            f"an optimised graph, for example). {_AS_IT_IS}"
        )
    if domain not in opsets:
        return f"the model imports no operators of the domain '{domain}'."
    why = next((text for name, text in _REASONS.items() if _matches(kind, name)), None)
    if why is not None and (depends or why not in _HARMLESS):
        return why
    if depends and why is None and kind not in TABLE:
        return f"this operator has no translation. {_AS_IT_IS}"
    return None


def _matches(kind: str, name: str) -> bool:
    return kind.startswith(name[:-1]) if name.endswith("*") else kind == name


def no_numbers(name: str, kind: str) -> str:
    """Say why an input that takes whole numbers, texts or no tensor cannot be explained."""
    what = f"takes {kind.lower()}" if kind else "takes no tensor"
    return (
        f"The input '{name}' of the ONNX model {what}: only floating-point numbers have a gradient. "
        "Whole numbers are explained where they go into an embedding; for categories, export the part behind what "
        "looks them up. The model as it is can be explained by run_lime and run_shap, with its onnxruntime session as "
        "the prediction."
    )
