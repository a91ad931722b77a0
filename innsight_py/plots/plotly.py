"""Drawing a `PlotFrame` with plotly (``pip install "innsight_py[plotly]"``)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

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
        raise ImportError(_EXTRA)


class PlotlyDisplay:
    """An interactive picture drawn by plotly. Notebooks show it.

    The menus at the left choose the colours, box plots or violins, the instance that is marked in them, and heat maps
    or contours; a slider leads through the quantiles of images. They are there where the picture has such panels.

    Parameters
    ----------
    frame : PlotFrame
        What is drawn.

    Attributes
    ----------
    frame : PlotFrame
        What is drawn.
    figure : plotly.graph_objects.Figure
        The figure; change it as you like.

    Examples
    --------
    >>> from innsight_py import Converter, run_grad
    >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0], [1.0, 0.0, 2.0]]}]}
    >>> p = run_grad(Converter(model), [[1.0, 1.0, 1.0]]).plot(output_idx=[0, 1], as_plotly=True)
    >>> p
    <PlotlyDisplay of Gradient: 1 x 2 x 1 panels (instances, nodes, inputs)>
    >>> [len(part.figure.data) for part in (p, p[0, 1])]
    [2, 1]
    """

    def __init__(self, frame: PlotFrame) -> None:
        from innsight_py.plots.plotly_figure import figure_of

        self.frame = frame
        self.figure: Any = figure_of(frame)

    def __getitem__(self, key: Any) -> PlotlyDisplay:
        """Draw a part: some instances, or instances and output nodes; see `PlotFrame`.

        Raises
        ------
        IndexError
            If there is no such instance or node.
        """
        return PlotlyDisplay(self.frame[key])

    def save(self, path: str | Path, **arguments: Any) -> None:
        """Write a page that needs no network: plotly itself is in it.

        Parameters
        ----------
        path : str or Path
            Where to; it ends with ".html".
        **arguments
            Handed on to ``Figure.write_html``, such as ``include_plotlyjs="cdn"`` for a page 5 MB smaller.

        Raises
        ------
        ValueError
            If the path has another ending.
        """
        if Path(path).suffix.lower() not in (".html", ".htm"):
            raise ValueError(
                f"Argument 'path': interactive pictures are saved as '.html', got {str(path)!r}. For other formats "
                f"draw without as_plotly=True, or use figure.write_image."
            )
        self.figure.write_html(path, **({"config": {"displaylogo": False}} | arguments))

    def _repr_html_(self) -> str:
        return str(self.figure.to_html(full_html=False, include_plotlyjs="cdn"))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle = self.figure._repr_mimebundle_(include, exclude)
        return bundle or {"text/html": self._repr_html_()}

    def __repr__(self) -> str:
        instances, nodes, inputs = self.frame.shape
        shape = f"{instances} x {nodes} x {inputs} panels (instances, nodes, inputs)"
        return f"<PlotlyDisplay of {self.frame.title}: {shape}>"


def draw(frame: PlotFrame) -> PlotlyDisplay:
    """Draw a frame; called by `Explanation.plot` and `plot_global` when ``as_plotly=True``, after `require_plotly`."""
    return PlotlyDisplay(frame)
