"""What the doors for PyTorch and Keras take, and which methods go through it: made from the registries, not by hand.

``python -m innsight_py.converters.support`` prints it; the tests compare it with ``docs/supported.md``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from innsight_py.activations import activation_names
from innsight_py.converters import keras as keras_door  # noqa: F401 (fills the tables)
from innsight_py.converters import keras_tensorflow, keras_writer
from innsight_py.converters import torch as torch_door  # noqa: F401 (fills the table)
from innsight_py.converters.torch_writer import WRITES
from innsight_py.layers import BUILDERS, Layer, pooling

#: Layers that are built by a function, which chooses one of several classes.
_CHOICES: dict[str, tuple[type[Layer], ...]] = {
    "GlobalPooling": (pooling.GlobalAveragePooling, pooling.GlobalMaxPooling),
    "AdaptivePooling": (pooling.AdaptiveAveragePooling, pooling.AdaptiveMaxPooling),
}


def layer_classes(kind: str) -> tuple[type[Layer], ...]:
    """Return the classes of the layers that a type of the spec may become."""
    builder: Any = BUILDERS[kind]
    return _CHOICES.get(kind, (builder,))


def supports(cls: type[Layer], step: str) -> bool:
    """Tell whether a layer class has a rule for a backward step of its own."""
    return getattr(cls, step) is not getattr(Layer, step)


def layer_table() -> str:
    """Write a row for each type of the model spec: its name in R style, and the rules that it has.

    Examples
    --------
    >>> layer_table().splitlines()[2]
    '| Dense | Dense_Layer | yes | simple, epsilon, alpha_beta | yes |'
    """
    lines = ["| layer of the spec | class | DeepLift | LRP | ConnectionWeights |", "|---|---|---|---|---|"]
    for kind in BUILDERS:
        for cls in layer_classes(kind):
            lrp = (", ".join(cls.lrp_rules) or "one rule") if supports(cls, "lrp") else "no"
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


def _grouped(writes: Mapping[str, tuple[str, ...]], title: str) -> str:
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, kinds in sorted(writes.items()):
        groups[kinds or ("(a change of shape)",)].append(name)
    lines = [f"| layers of the spec | {title} |", "|---|---|"]
    lines += [f"| {', '.join(kinds)} | {', '.join(f'`{name}`' for name in names)} |" for kinds, names in groups.items()]
    return "\n".join(lines)


def document() -> str:
    """Write the whole page."""
    return f"""<!-- Made by `python -m innsight_py.converters.support`; do not edit. -->

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
"""


if __name__ == "__main__":
    print(document(), end="")
