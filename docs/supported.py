"""What the doors take, and which methods go through it: made from the registries, not by hand.

``python docs/supported.py`` prints it; the tests compare it with ``docs/supported.md``.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from innsight_py.converters.keras import door as keras_door  # noqa: F401 (fills the tables)
from innsight_py.converters.keras import tensorflow as keras_tensorflow
from innsight_py.converters.keras import writer as keras_writer
from innsight_py.converters.onnx import door as onnx_door  # noqa: F401 (fills the table)
from innsight_py.converters.onnx import preparing as onnx_preparing
from innsight_py.converters.onnx import refusals as onnx_refusals
from innsight_py.converters.onnx import writer as onnx_writer
from innsight_py.converters.torch import door as torch_door  # noqa: F401 (fills the table)
from innsight_py.converters.torch.writer import WRITES
from innsight_py.functions.activations import activation_names
from innsight_py.layers import BUILDERS
from innsight_py.layers.support import layer_classes, supports


def layer_table() -> str:
    """Write a row for each type of the model spec: its name in R style, and the rules that it has.

    Examples
    --------
    >>> layer_table().splitlines()[2]
    '| Dense | Dense_Layer | yes | simple, epsilon, alpha_beta, z_plus, gamma, z_box, w_square, flat | yes |'
    """
    lines = ["| layer of the spec | class | DeepLift | LRP | ConnectionWeights |", "|---|---|---|---|---|"]
    for kind in BUILDERS:
        for cls in layer_classes(kind):
            lrp = (", ".join(cls.lrp_rules()) or "one rule") if supports(cls, "lrp") else "no"
            deeplift, weights = ("yes" if supports(cls, step) else "no" for step in ("deeplift", "connection_weights"))
            lines.append(f"| {kind} | {cls.r_class} | {deeplift} | {lrp} | {weights} |")
    return "\n".join(lines)


def operator_table() -> str:
    """Write the ATen operators, grouped by the layers that they become."""
    return _grouped({name.removeprefix("aten::"): kinds for name, kinds in WRITES.items()}, "ATen operators")


def keras_table() -> str:
    """Write the layers of Keras, grouped by the layers of the spec that they become.

    Examples
    --------
    >>> "`Dense`" in keras_table()
    True
    """
    return _grouped(keras_writer.WRITES, "Keras layers")


def onnx_table() -> str:
    """Write the operators of ONNX, grouped by the layers of the spec that they become."""
    return _grouped(onnx_writer.WRITES, "ONNX operators")


def onnx_cases() -> str:
    """Say how many cases of ONNX's own test-suite are equal, and why the others are not."""
    listed = json.loads((Path(__file__).parent / "onnx_cases.json").read_text())
    counts, others = listed["counts"], listed["others"]
    equal = counts["equal"] + counts["equal, with constants"]
    lines = ["| cases | why they are not equal |", "|---|---|"]
    lines += [f"| {len(names)} | {why} |" for why, names in sorted(others.items(), key=lambda x: (-len(x[1]), x[0]))]
    total = equal + sum(map(len, others.values()))
    return (
        f"Of the {total} cases of ONNX's own test-suite that have floating-point data, {equal} are equal "
        f"({counts['equal, with constants']} of these with some of their inputs as constants):\n\n" + "\n".join(lines)
    )


def _grouped(writes: Mapping[str, tuple[str, ...]], title: str) -> str:
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, kinds in sorted(writes.items()):
        groups[kinds or ("(a change of shape)",)].append(name)
    lines = [f"| layers of the spec | {title} |", "|---|---|"]
    lines += [f"| {', '.join(kinds)} | {', '.join(f'`{name}`' for name in names)} |" for kinds, names in groups.items()]
    return "\n".join(lines)


def document() -> str:
    """Write the whole page."""
    return f"""<!-- Made by `python docs/supported.py`; do not edit. -->

# What is supported

The columns of the first table are methods; "one rule" means that all rules of LRP are the same for such a layer. The
keys that a layer takes in a dict of your own are on the page of [the model spec](model-spec.md).

## Layers and their rules

The gradient methods (Gradient, SmoothGrad, IntegratedGradient, ExpectedGradient) go through every layer. DeepLift's
reveal-cancel differs from rescale in Dense and convolution layers with an activation; LRP's rules can be chosen where
several are named. A softmax inside a model, a normalisation by an instance's own statistics and an operator without
translation stop LRP with an error; an operator without translation stops DeepLift and ConnectionWeights as well.

{layer_table()}

Activations (`activation_name`, `act_name`): {", ".join(f"`{name}`" for name in activation_names())}.

## PyTorch operators

An operator that is not named here is decomposed into smaller ones by `torch.export`; what is left without translation
becomes an `Operator` layer. In-place forms are read as the plain ones.

{operator_table()}

## Keras layers

Keras 3 on every backend (the tests run on PyTorch and TensorFlow; on JAX they were run once, without the ready-made
applications), and `tf_keras`. A layer or an operation that is not named here is refused by its name; models among the
layers are read in the same way. Models of a class with a `call` of its own go through the PyTorch door, if the backend
is PyTorch.

{keras_table()}

Activations of Keras: {", ".join(f"`{name}`" for name in sorted(keras_writer.ACTIVATIONS))}.

Operations of `keras.ops` in a functional model: {", ".join(f"`{name}`" for name in sorted(keras_writer.OPERATIONS))}.

Functions of TensorFlow in a functional model of `tf_keras`: operators, slices,
{", ".join(f"`{name}`" for name in keras_tensorflow.FUNCTIONS)}.

## ONNX operators

Operator sets up to {onnx_preparing.OPSETS[1]}. What does not depend on the data (chains that find a shape, quantised
weights) is computed when the model is read; operators that ONNX itself writes with others, and functions of the model's
own, are written out. `Identity`, `Constant` and `If` with a condition that is known leave no layer. A node whose
operator is not named here, or that has an option without a translation, is refused by its name.

{onnx_table()}

Refused with the way on, because they have no gradient, draw at random, or are no arithmetic of tensors:
{", ".join(f"`{name}`" for name in onnx_refusals.refused_operators())}; all other domains.

{onnx_cases()}
"""


if __name__ == "__main__":
    print(document(), end="")
