"""Draw the thumbnails of the gallery: run each vignette, and keep one of its pictures as ``docs/thumbnails/NAME.png``.

Run ``python docs/make_thumbnails.py [NAME ...]`` with the packages of ``nox -s docs``.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import jupytext
import matplotlib as mpl
from PIL import Image

ROOT = Path(__file__).parents[1]
OUT = Path(__file__).with_name("thumbnails")
#: The picture of a vignette that is its thumbnail, counted from 0; the first where none is named.
CHOSEN = {"time-series": 1, "penguins": 1, "regression": 0}
SIZE = (480, 300)


def pictures(path: Path) -> list[Image.Image]:
    """Run a vignette, and return what it draws: values of last lines, and figures of pyplot."""
    import matplotlib.pyplot as plt

    names: dict[str, Any] = {"__name__": "__main__"}
    drawn: list[Any] = []
    for cell in jupytext.read(path).cells:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, path.name, "exec"), names)  # noqa: S102  (ours)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), path.name, "eval"), names)  # noqa: S307
        drawn += [value.figure] if hasattr(value, "_repr_png_") and hasattr(value, "figure") else []
        drawn += [plt.figure(number) for number in plt.get_fignums()]
        plt.close("all")
    return [_image(figure) for figure in drawn]


def _image(figure: Any) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, dpi=80, format="png")
    return Image.open(file).convert("RGB")


def main(chosen: list[str]) -> None:
    """Write the thumbnails of some vignettes, or of all."""
    mpl.use("agg")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    OUT.mkdir(exist_ok=True)
    os.chdir(ROOT / "vignettes")
    for path in sorted((ROOT / "vignettes").glob("*.md")):
        if chosen and path.stem not in chosen:
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            found = pictures(path)
        if not found:
            print(f"{path.stem}: draws nothing")
            continue
        image = found[CHOSEN.get(path.stem, 0)]
        image.thumbnail(SIZE, Image.Resampling.LANCZOS)
        image.save(OUT / f"{path.stem}.png", optimize=True)
        print(f"{path.stem}: {len(found)} pictures")


if __name__ == "__main__":
    main(sys.argv[1:])
