"""How a picture looks: title, size, colours, how bars stand, and what axes are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from innsight_py._checks import WrongTypeError, describe, read_number
from innsight_py._text import printable
from innsight_py.inputs.ports import Port
from innsight_py.plots.arguments import for_each_input
from innsight_py.plots.colours import DEFAULT, read_cmap
from innsight_py.plots.frame import PlotFrame
from innsight_py.results.attributions import Attributions

#: Tables with more features than this have horizontal bars, and only as many of them.
MOST_UPRIGHT = 15
#: Inches that a figure may have along a side.
_LARGEST = 200.0


@dataclass(frozen=True)
class Look:
    """What a user says about the whole picture.

    Attributes
    ----------
    title : str, optional
        What stands above it.
    figsize : tuple of float, optional
        Width and height in inches.
    cmap : str
        The scale of colours.
    """

    title: str | None = None
    figsize: tuple[float, float] | None = None
    cmap: str = DEFAULT

    def given_to(self, frame: PlotFrame) -> PlotFrame:
        """Return a picture with this look."""
        panels = np.empty(frame.panels.shape, object)
        for place, panel in np.ndenumerate(frame.panels):
            panels[place] = replace(panel, cmap=self.cmap) if hasattr(panel, "cmap") else panel
        return replace(frame, panels=panels, heading=self.title, figsize=self.figsize)


def read_look(title: Any, figsize: Any, cmap: Any, ax: Any) -> Look:
    """Read the arguments 'title', 'figsize' and 'cmap'.

    Raises
    ------
    TypeError, ValueError
        If one has a wrong type or value, or if 'title' or 'figsize' are of a figure of the user's.

    Examples
    --------
    >>> read_look("Why", (6, 4), "even", None)
    Look(title='Why', figsize=(6.0, 4.0), cmap='even')
    """
    for name, value in (("title", title), ("figsize", figsize)):
        if value is not None and ax is not None:
            raise ValueError(f"Argument '{name}': the figure of 'ax' is your own; leave '{name}' out and set it there.")
    if title is not None and not isinstance(title, str):
        raise TypeError(f"Argument 'title': expected a text, got {describe(title)}.")
    return Look(None if title is None else printable(title), _figsize(figsize), read_cmap(cmap))


def _figsize(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    message = (
        f"Argument 'figsize': expected the width and the height in inches, such as (8, 5), each above 0 and at most "
        f"{_LARGEST:g}, got {describe(value)}."
    )
    if not isinstance(value, list | tuple | np.ndarray) or len(np.shape(value)) != 1 or len(value) != 2:
        raise TypeError(message)
    try:
        width, height = (read_number(side) for side in value)
    except WrongTypeError:
        raise TypeError(message) from None
    except ValueError:
        raise ValueError(message) from None
    if not (0 < width <= _LARGEST and 0 < height <= _LARGEST):
        raise ValueError(message)
    return width, height


def read_orientation(value: Any, ports: Sequence[Port]) -> str | None:
    """Read the argument 'orientation'.

    Raises
    ------
    TypeError, ValueError
        If it is no orientation, or if no input is a table.
    """
    if value is None:
        return None
    message = f"Argument 'orientation': expected 'vertical' or 'horizontal', got {describe(value)}."
    if not isinstance(value, str):
        raise TypeError(message)
    if value not in ("vertical", "horizontal"):
        raise ValueError(message)
    if not any(port.kind == "table" for port in ports):
        raise ValueError("Argument 'orientation': the model has no table among its inputs; leave it out.")
    return value


def is_horizontal(orientation: str | None, port: Port) -> bool:
    """Tell whether an input has horizontal bars: a table with many features, unless the user says so."""
    if port.kind != "table":
        return False
    return port.dim[0] > MOST_UPRIGHT if orientation is None else orientation == "horizontal"


def read_axis_names(value: Any, ports: Sequence[Port], keys: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """Read the argument 'axis_names'.

    Returns
    -------
    dict of int to tuple of str
        The names of the axes that are drawn, for each input that has some.

    Raises
    ------
    TypeError, ValueError
        If it is no name, or not one for each axis.

    Examples
    --------
    >>> from innsight_py.inputs.ports import make_ports
    >>> read_axis_names("Time (s)", make_ports(["ecg"], [(1, 3)], [[["C1"], ["1", "2", "3"]]]), ["ecg"])
    {0: ('Time (s)',)}
    """
    if value is None:
        return {}
    parts = for_each_input(value, len(ports), keys, "axis_names", "an entry")
    found = {}
    for j, (part, port) in enumerate(zip(parts, ports, strict=True)):
        if part is None:
            continue
        count = 1 if port.kind in ("table", "signal", "tokens") else 2
        names = (part,) if isinstance(part, str) else part
        form = "a text, such as 'Time (s)'" if count == 1 else "two texts, such as ('Height (mm)', 'Width (mm)')"
        message = f"Argument 'axis_names': expected {form}, for input {j + 1}, got {describe(part)}."
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise TypeError(message)
        if len(names) != count or not all(names):
            raise ValueError(message)
        found[j] = tuple(printable(name) for name in names)
    return found


def read_signals(signal: Any, attributions: Attributions, rows: Sequence[int]) -> dict[int, list[np.ndarray]]:
    """Read whether signals are to lie below their attributions.

    Returns
    -------
    dict of int to list of ndarray
        For each input that is a signal one a row, ``(channels, n)``, from 0 to 1.

    Raises
    ------
    ValueError
        If the model has no signal, or the result no data.
    """
    if not signal:
        return {}
    ports = attributions.described.inputs
    if not any(port.kind == "signal" for port in ports):
        raise ValueError("Argument 'signal': the model has no signal among its inputs; leave it out.")
    if not attributions.data:
        raise ValueError("Argument 'signal': this result has no data of its own; leave it out.")
    found = {}
    for j, (x, port) in enumerate(zip(attributions.data, ports, strict=True)):
        if port.kind == "signal":
            found[j] = [_stretched(x[row], attributions.channels_first) for row in rows]
    return found


def _stretched(x: Tensor, channels_first: bool) -> np.ndarray:
    """Bring a signal to ``(channels, n)``, its smallest value to 0 and its largest to 1."""
    values = x.detach().cpu().double().numpy()
    values = values if channels_first else values.T
    low, high = np.nanmin(values), np.nanmax(values)
    return (values - low) / (high - low) if high > low else np.full_like(values, 0.5)
