"""What `Explanation.text` returns: texts with coloured words, in a notebook, a file or a terminal."""

from __future__ import annotations

import os
from pathlib import Path

from innsight_py._checks import describe
from innsight_py._errors import explained, see
from innsight_py.plots.frame import PlotFrame
from innsight_py.plots.showing import show
from innsight_py.plots.text_page import fragment, page
from innsight_py.plots.text_terminal import has_colours, lines


class TextDisplay:
    """Texts with coloured words. Notebooks show it, and ``print`` writes it.

    Parameters
    ----------
    frame : PlotFrame
        What is shown.
    together : bool
        Whether a page first shows the table of all nodes by all words, where there are several nodes.

    Attributes
    ----------
    frame : PlotFrame
        What is shown.
    """

    def __init__(self, frame: PlotFrame, together: bool = False) -> None:
        self.frame = frame
        self._together = together

    @explained
    def save(self, path: str | Path) -> None:
        """Write a page that needs nothing else: no network, no script.

        Parameters
        ----------
        path : str or Path
            Where to; it ends with ".html".

        Raises
        ------
        TypeError, ValueError
            If it is no path, or has another ending.
        """
        if not isinstance(path, str | os.PathLike):
            raise TypeError(
                see("saved-pictures", f"Argument 'path': expected the path of a file, got {describe(path)}.")
            )
        if Path(path).suffix.lower() not in (".html", ".htm"):
            raise ValueError(
                see(
                    "saved-pictures",
                    f"Argument 'path': texts are saved as '.html', got {str(path)!r}. plot().save(path) writes "
                    "pictures.",
                )
            )
        Path(path).write_text(page(self.frame, self._together), encoding="utf-8", errors="replace")

    @explained
    def show(self) -> None:
        """Show the page: a notebook displays it, a script opens it in the browser.

        Warns where there is no browser; the message says where the file lies.
        """
        show(self, self.save, "text.html")

    def _repr_html_(self) -> str:
        return fragment(self.frame, self._together)

    def __repr__(self) -> str:
        return "\n".join(lines(self.frame, has_colours()))
