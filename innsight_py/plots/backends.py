"""Which library draws: matplotlib or plotly, imported only when something is drawn."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from innsight_py._errors import see
from innsight_py.plots.frame import PlotFrame

_EXTRA = 'as_plotly=True needs plotly: pip install "innsight_py[plotly]"'


def require_plotly() -> None:
    """Refuse to go on without plotly.

    Raises
    ------
    ImportError
        If plotly is not installed; the message says how to get it.
    """
    try:
        found = importlib.util.find_spec("plotly.graph_objects")
    except ImportError:
        found = None
    if found is None:
        raise ImportError(see("packages", _EXTRA))


def check_backend(as_plotly: bool, ax: Any) -> None:
    """Refuse what a library cannot draw, before anything is computed.

    Raises
    ------
    ValueError
        If axes of matplotlib are given to plotly.
    ImportError
        If plotly is wanted and not installed.
    """
    if not as_plotly:
        return
    if ax is not None:
        raise ValueError("Argument 'ax': axes belong to matplotlib, but as_plotly=True was given.")
    require_plotly()


def check_panels(shape: tuple[int, int, int], most: int) -> None:
    """Ask before very many panels are drawn.

    Raises
    ------
    ValueError
        If there are more than `most`; the message says what to do.

    Examples
    --------
    >>> check_panels((400, 1, 1), 100)
    Traceback (most recent call last):
    ...
    ValueError: Argument 'data_idx': 400 instances x 1 nodes x 1 inputs are 400 panels, more than max_panels=100. ...
    """
    instances, nodes, inputs = shape
    count = instances * nodes * inputs
    if count <= most:
        return
    argument = "data_idx" if instances > 1 else "output_idx"
    raise ValueError(
        f"Argument '{argument}': {instances} instances x {nodes} nodes x {inputs} inputs are {count} panels, more than "
        f"max_panels={most}. Choose fewer, use plot_global() for many instances together, or pass max_panels={count}."
    )


def draw(frame: PlotFrame, as_plotly: bool, ax: Any = None) -> Any:
    """Draw a frame with plotly, or with matplotlib, on given axes or on a new figure."""
    if as_plotly:
        return importlib.import_module("innsight_py.plots.plotly").PlotlyDisplay(frame)
    return importlib.import_module("innsight_py.plots.matplotlib").Display(frame, ax)
