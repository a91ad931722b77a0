"""Drawing a `PlotFrame` with plotly (``pip install "innsight_py[plotly]"``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from innsight_py._errors import explained, see
from innsight_py.plots.frame import PlotFrame
from innsight_py.plots.plotly_figure import figure_of
from innsight_py.plots.plotly_page import page, write_page
from innsight_py.plots.showing import show


class PlotlyDisplay:
    """An interactive picture drawn by plotly. Notebooks show it.

    The menus at the left, on a saved page above, choose the colours, box plots or violins, the instance that is marked
    in them, and heat maps or contours; a slider leads through the quantiles of images. They are there where the
    picture has such panels.

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

    @explained
    def save(self, path: str | Path, **arguments: Any) -> None:
        """Write a page that needs no network: plotly itself is in it.

        The page follows the width of the window: nodes that have no room beside each other stand below each other. It
        is dark where the browser is. The controls stand above the figure.

        Parameters
        ----------
        path : str or Path
            Where to; it ends with ".html".
        **arguments
            Handed on to ``Figure.to_html``, such as ``include_plotlyjs="cdn"`` for a page 5 MB smaller.

        Raises
        ------
        ValueError
            If the path has another ending.
        """
        if Path(path).suffix.lower() not in (".html", ".htm"):
            raise ValueError(
                see(
                    "saved-pictures",
                    f"Argument 'path': interactive pictures are saved as '.html', got {str(path)!r}. For other formats "
                    f"draw without as_plotly=True, or use figure.write_image.",
                )
            )
        write_page(Path(path), self.figure, self.frame, **arguments)

    @explained
    def show(self) -> None:
        """Show the page: a notebook displays it, a script opens it in the browser.

        Warns where there is no browser; the message says where the file lies.
        """
        show(self, self.save, "picture.html")

    @explained
    def to_html(self, **arguments: Any) -> str:
        """Return the page that `save` writes, or a part of a page.

        Parameters
        ----------
        **arguments
            Handed on to ``Figure.to_html``, such as ``full_html=False`` for a part of a page, or
            ``include_plotlyjs="cdn"``.

        Returns
        -------
        str
            The text of the page.

        Raises
        ------
        TypeError
            If plotly has no such argument.

        Examples
        --------
        >>> from innsight_py import Converter, run_grad
        >>> model = {"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, -3.0, 0.0]]}]}
        >>> p = run_grad(Converter(model), [[1.0, 1.0, 1.0]]).plot(as_plotly=True)
        >>> p.to_html(include_plotlyjs="cdn")[:15]
        '<!DOCTYPE html>'
        """
        return page(self.figure, self.frame, **arguments)

    def _repr_html_(self) -> str:
        return self.to_html(full_html=False, include_plotlyjs="cdn")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle = self.figure._repr_mimebundle_(include, exclude)
        return bundle or {"text/html": self._repr_html_()}

    def __repr__(self) -> str:
        instances, nodes, inputs = self.frame.shape
        shape = f"{instances} x {nodes} x {inputs} panels (instances, nodes, inputs)"
        return f"<PlotlyDisplay of {self.frame.title}: {shape}>"
