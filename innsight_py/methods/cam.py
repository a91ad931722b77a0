"""Class activation maps by gradients: where in an image the channels of a layer speak for a class."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from innsight_py._checks import Count, Flag, checked
from innsight_py._text import dims_text
from innsight_py.inputs.names import default_names
from innsight_py.inputs.ports import Port, make_ports
from innsight_py.layers import Layer
from innsight_py.methods.gradient import GradientBased
from innsight_py.methods.gradient_step import gradient_step
from innsight_py.methods.walk import Walk
from innsight_py.model.converter import Converter
from innsight_py.model.graph import Graph

#: How a map is brought to the size of the image, by its number of axes.
_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


class GradCAM(GradientBased):
    r"""Gradient-weighted class activation maps: the channels of a layer, each weighted with its mean gradient.

    .. math:: R = \mathrm{ReLU}\bigl(\sum_c w_c A_c\bigr), \quad
              w_c = \frac1Z \sum_i \partial f_k(x) / \partial A_{ci}

    with the channels :math:`A_c` of the layer and Z positions. The map has one channel and is brought to the
    size of the image by linear interpolation, so that pictures lie over it.

    Source: Selvaraju et al. (2017), arXiv:1610.02391.

    Parameters
    ----------
    converter : Converter
        The converted model.
    %(data)s
    relu : bool
        Set negative values, which speak against the output, to 0.
    resize : bool
        Bring the map to the size of the input. With False it has the size of the layer.
    %(shared)s

    Raises
    ------
    TypeError, ValueError
        If an argument has a wrong type or value. The message names it. If the layer has no positions.

    Notes
    -----
    Default of `layer` is the last convolution, its activation included where it has one of its own.

    Examples
    --------
    >>> import torch
    >>> from innsight_py import Converter
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(),
    ...                             torch.nn.Linear(64, 2))
    >>> GradCAM(Converter(model, input_dim=(3, 6, 6)), torch.ones(1, 3, 6, 6)).get_result().shape
    (1, 1, 6, 6, 2)
    """

    title = "GradCAM"

    @checked
    def __init__(
        self,
        converter: Converter,
        data: Any,
        *,
        layer: Any = None,
        relu: Flag = True,
        resize: Flag = True,
        channels_first: Flag | None = None,
        output_idx: Any = None,
        output_label: Any = None,
        target: Any = None,
        data_names: Any = None,
        ignore_last_act: Flag = True,
        verbose: Flag | None = None,
        dtype: Literal["float", "double"] = "float",
        batch_size: Count | None = None,
        neuron: Any = None,
    ) -> None:
        super().__init__(
            converter, data, times_input=False, channels_first=channels_first, output_idx=output_idx,
            output_label=output_label, target=target, data_names=data_names, ignore_last_act=ignore_last_act,
            verbose=verbose, dtype=dtype, batch_size=batch_size,
            layer=_last_convolution(converter.model) if layer is None else layer, neuron=neuron,
        )  # fmt: skip
        self.value_name = "Relevance"
        self.relu, self.resize = relu, resize
        images, given = self._images(converter, resize), self.data
        inputs = self._first(self.data)
        with Walk(self, len(inputs[0])) as walk:
            for rows in walk.row_chunks(walk.rows):
                some = self._take(inputs, rows)
                trace = walk.model.trace(some)
                walk.observe(trace, rows)
                for i, nodes, pieces in walk.back(gradient_step(trace), rows, len(some[0]), len(some[0])):
                    for j, piece in enumerate(pieces):
                        if piece is not None:
                            walk.put(i, j, nodes, rows, self._map(piece, some[j], images[j]))
            self._finish(walk)
            self.decomp_goal = walk.explained()
        # The maps have one channel, and where they were resized lie over the images.
        layers = zip(self.described.inputs, images, strict=True)
        self.described.inputs = tuple(_port(port, image) for port, image in layers)
        pairs = zip(self.data, images, strict=True)
        self.data = [x if image is None else given[converter.inputs.index(image)] for x, image in pairs]

    def _images(self, converter: Converter, resize: bool) -> list[Port | None]:
        """Return for each layer the input over which its map lies: the first with as many axes; none where unwanted."""
        found: list[Port | None] = []
        for port in self.described.inputs:
            if len(port.dim) - 1 not in _MODES:
                raise ValueError(
                    f"Argument 'layer': GradCAM needs a layer with channels and positions, and the value of "
                    f"'{port.key}' has the shape {dims_text([port.dim])}."
                )
            alike = (image for image in converter.inputs if resize and len(image.dim) == len(port.dim))
            found.append(next(alike, None))
        return found

    def _map(self, gradient: Tensor, values: Tensor, image: Port | None) -> Tensor:
        """Return maps ``(K, B, 1, *size)`` for gradients ``(K, B or 1, C, *dims)`` of values ``(B, C, *dims)``."""
        weights = gradient.mean(tuple(range(3, gradient.dim())), keepdim=True)
        maps = (weights * values).sum(2, keepdim=True)
        maps = maps.clamp(min=0) if self.relu else maps
        if image is None or maps.shape[3:] == image.dim[1:]:
            return maps
        mode = _MODES[len(image.dim) - 1]
        resized = F.interpolate(maps.flatten(0, 1), size=image.dim[1:], mode=mode, align_corners=False)
        return resized.reshape(*maps.shape[:3], *image.dim[1:])

    def _fields(self) -> list[tuple[str, str]]:
        layers = ", ".join(f"'{name}'" for name in self.layer or ())
        return [("layer", layers), ("relu", str(self.relu)), ("resize", str(self.resize))]


def _port(port: Port, image: Port | None) -> Port:
    """Describe the map of a layer."""
    dim = (1, *(port if image is None else image).dim[1:])
    names = [["C1"], *image.names[1:]] if image is not None else default_names(dim)
    return make_ports([port.key], [dim], [names])[0]


def _last_convolution(graph: Graph) -> str:
    """Return the name of the value of the last convolution.

    Raises
    ------
    ValueError
        If there is none.
    """

    def is_convolution(layer: Layer) -> bool:
        return layer.family == "convolution" and len(layer.output_dim) > 1

    last = next((node.name for node in reversed(graph.nodes) if is_convolution(graph.layer(node.name))), None)
    after = [name for name, place in graph.places.items() if place.layer == last and not place.before_activation]
    before = [name for name, place in graph.places.items() if place.layer == last]
    if not after and not before:
        raise ValueError(
            "Argument 'layer': the model has no convolution; give the name of a layer with channels and positions "
            "(see Converter.layer_names)."
        )
    return (after or before)[0]
