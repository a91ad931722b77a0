"""A Keras model on PyTorch as a module to be traced: channels first, its layers under the names that Keras has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from innsight_py.converters.keras.original import packed, unpacked
from innsight_py.converters.torch.calling import INNER


class ChannelsFirst(nn.Module):
    """A Keras model on PyTorch that is given, and gives back, values channels first.

    Parameters
    ----------
    model : keras.Model
        The model.
    moved : sequence of bool
        Whether the channels of each input are last in Keras.
    moved_out : bool
        Whether those of the outputs are.
    structured : bool
        Whether the model has a graph, which knows in what structure it takes its inputs.
    """

    def __init__(self, model: Any, moved: Sequence[bool], moved_out: bool, structured: bool = False) -> None:
        super().__init__()
        self.moved, self.moved_out, self.structured = tuple(moved), moved_out, structured
        named: dict[str, nn.Module] = {}
        for name, layer in _named_layers(model):
            if isinstance(layer, nn.Module):
                named.setdefault(name.replace(".", "_"), layer)
        # The first name that leads to a module is its name in the program: parts come before what they are parts of.
        for name in sorted(named, key=lambda name: -name.count("/")):
            self.add_module(name, named[name])
        self._modules[INNER] = model

    def forward(self, *inputs: Tensor) -> Any:
        """Run the model."""
        model: Any = self._modules[INNER]
        arranged = [x.movedim(1, -1) if m and x.dim() > 2 else x for x, m in zip(inputs, self.moved, strict=True)]
        if self.structured:
            out = unpacked(model, model(packed(model, arranged), training=False))
        else:
            out = tree_leaves(model(arranged[0] if len(arranged) == 1 else arranged, training=False))
        moved = [x.movedim(-1, 1) if self.moved_out and x.dim() > 2 else x for x in out]
        return moved[0] if len(moved) == 1 else moved

    def with_keras_names(self, names: Mapping[str, Any]) -> dict[str, Any]:
        """Return names of values with those added that Keras has for layers which a model calls by its attributes."""
        model: Any = self._modules[INNER]
        by_layer = {id(layer): name for name, layer in reversed(list(_named_layers(model)))}
        more = {
            by_layer[id(part)]: names[path]
            for path, part in model.named_modules(remove_duplicate=False)
            if path in names and id(part) in by_layer
        }
        return {**more, **names}


def _named_layers(layer: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give all layers within a layer (or a model) with their names, ``"outer/inner"``."""
    for inner in getattr(layer, "_layers", ()):
        name = f"{prefix}{getattr(inner, 'name', '')}"
        yield name, inner
        yield from _named_layers(inner, f"{name}/")
