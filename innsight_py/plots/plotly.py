"""Drawing a `PlotFrame` with plotly (``pip install "innsight_py[plotly]"``)."""

from __future__ import annotations

import importlib.util
from typing import Any

from innsight_py.plots.frame import PlotFrame


def require_plotly() -> None:
    """Refuse to go on without plotly.

    Raises
    ------
    ImportError
        If plotly is not installed; the message says how to get it.
    """
    if importlib.util.find_spec("plotly") is None:
        raise ImportError('as_plotly=True needs plotly: pip install "innsight_py[plotly]"')


class PlotlyDisplay:
    """An interactive picture: ``figure`` (a ``plotly.graph_objects.Figure``), ``p[i, j]``, ``save("x.html")``."""

    def __init__(self, frame: PlotFrame) -> None:
        self.frame = frame
        self.figure: Any = None

    def __getitem__(self, key: Any) -> PlotlyDisplay:
        return draw(self.frame[key])


def draw(frame: PlotFrame) -> PlotlyDisplay:
    """Draw a frame; called by `Explanation.plot` and `plot_global` when ``as_plotly=True``, after `require_plotly`."""
    return PlotlyDisplay(frame)
