"""Drawing a `PlotFrame` with matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from innsight_py.plots.frame import PlotFrame


class Display:
    """A picture."""

    def __init__(self, frame: PlotFrame, ax: Any = None) -> None:
        self.frame = frame
        self.figure = Figure()
        self.axes = np.array([self.figure.add_subplot() for _ in range(frame.panels.size)], object).reshape(frame.shape)

    def __getitem__(self, key: Any) -> Display:
        return draw(self.frame[key])


def draw(frame: PlotFrame, ax: Any = None) -> Display:
    """Draw a frame."""
    return Display(frame, ax)
