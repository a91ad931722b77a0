"""Ports: the inputs and outputs of a model, each with its name, its shape, its labels and its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from innsight_py.inputs.names import LayerNames
from innsight_py.inputs.tokens import TokenNames
from innsight_py.spec.ports import Kind, kind_of


@dataclass(frozen=True)
class Port:
    """One input or output of a model.

    Attributes
    ----------
    key : str
        What the model calls it.
    dim : tuple of int
        Shape without the batch, channels first.
    names : list of list of str
        Labels, one entry an axis.
    kind : {"table", "signal", "image", "volume", "tokens", "fixed"}
        What lies in it: features; channels along one, two or three axes (or more); numbers of tokens, which an
        embedding reads; or what comes with each row and is not explained.
    token_names : callable, sequence or mapping, optional
        What the numbers of tokens mean, see `innsight_py.inputs.tokens.token_texts`.

    Examples
    --------
    >>> port = Port("photo", (3, 2, 2), [["r", "g", "b"], ["H1", "H2"], ["W1", "W2"]], "image")
    >>> port.has_channels, port.axes
    (True, ('Channels', 'Image height', 'Image width'))
    """

    key: str
    dim: tuple[int, ...]
    names: LayerNames
    kind: Kind
    token_names: TokenNames | None = field(default=None, repr=False)

    @property
    def has_channels(self) -> bool:
        """Whether the first axis is that of channels, which pictures and summaries make one value of."""
        return len(self.dim) > 1 and self.kind != "tokens"

    @property
    def axes(self) -> tuple[str, ...]:
        """What the axes are called."""
        if self.kind == "table":
            return ("Feature",)
        if self.kind == "tokens":
            return (*(f"Axis {i + 1}" for i in range(len(self.dim) - 1)), "Token")
        if self.kind == "signal":
            return ("Channels", "Signal length")
        if self.kind == "image":
            return ("Channels", "Image height", "Image width")
        return ("Channels", *(f"Axis {i + 1}" for i in range(len(self.dim) - 1)))


def make_ports(
    keys: Sequence[str],
    dims: Sequence[tuple[int, ...]],
    names: Sequence[LayerNames],
    kinds: Sequence[Kind] | None = None,
    token_names: TokenNames | None = None,
) -> tuple[Port, ...]:
    """Put ports together; without `kinds` these follow from the numbers of axes.

    Examples
    --------
    >>> [port.kind for port in make_ports(["a"], [(2,)], [[["x", "y"]]])]
    ['table']
    """
    kinds = [kind_of(dim) for dim in dims] if kinds is None else kinds
    parts = zip(keys, dims, names, kinds, strict=True)
    return tuple(
        Port(key, tuple(dim), layer, kind, token_names if kind == "tokens" else None) for key, dim, layer, kind in parts
    )
