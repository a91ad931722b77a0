"""Showing a figure of matplotlib in a notebook or in a window; the only place where pyplot is used."""

from __future__ import annotations

import sys
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from innsight_py._errors import see


def show(figure: Figure, display: Any) -> None:
    """Show a figure: below the cell of a notebook, or in a window until it is closed.

    Parameters
    ----------
    figure : Figure
        What a window shows.
    display : Display
        What a notebook shows.

    Raises
    ------
    OSError
        If there is no screen.
    """
    interactive = sys.modules.get("IPython")
    if interactive is not None:
        shell = interactive.get_ipython()
        if shell is not None and shell.has_trait("kernel"):
            interactive.display.display(display)
            return
    from matplotlib import pyplot as plt

    if mpl.get_backend().lower() not in {name.lower() for name in _windows()}:
        raise OSError(
            see(
                "saved-pictures",
                f"matplotlib cannot open a window here (its backend is {mpl.get_backend()!r}). Save the picture "
                "instead: result.plot().save('picture.png').",
            )
        )
    before = figure.canvas
    given: Any = lambda *_, **__: figure  # noqa: E731
    plt.figure(FigureClass=given)
    try:
        plt.show(block=True)
    finally:
        plt.close(figure)
        figure.set_canvas(before)


def _windows() -> list[str]:
    """Return the names of the backends that open windows."""
    registry = getattr(mpl.backends, "backend_registry", None)
    if registry is None:  # before matplotlib 3.9
        return list(getattr(mpl.rcsetup, "interactive_bk"))  # noqa: B009
    return list(registry.list_builtin(mpl.backends.BackendFilter.INTERACTIVE))
