"""Draw the pictures of `choosing-a-reference.md` and `reading-a-result.md`.

Run ``python docs/make_page_pictures.py`` with the packages of ``nox -s docs``.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from palmerpenguins import load_penguins
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from innsight_py import Converter, run_deeplift

HERE = Path(__file__).parent
FEATURES = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]


def penguins() -> tuple[Converter, pd.DataFrame]:
    """Train the network of the pages, and return it with birds to explain."""
    table = load_penguins().dropna().reset_index(drop=True)
    pipeline = make_pipeline(StandardScaler(), MLPClassifier((16,), max_iter=2000, random_state=0))
    pipeline.fit(table[FEATURES], table["species"])
    birds = table.groupby("species").nth(10)
    return Converter(pipeline), birds.set_axis([f"penguin {row}" for row in birds.index])[FEATURES]


def main() -> None:
    """Draw one Adelie against three references, and three birds for the class that was predicted."""
    converter, birds = penguins()
    everything = load_penguins().dropna()
    gentoo = everything[everything["species"] == "Gentoo"][FEATURES].mean()
    bird = birds.iloc[:1]
    references = {
        "compared with the average penguin": everything[FEATURES].mean(),
        "compared with the average Gentoo": gentoo,
        "compared with 0 mm and 0 g": "zeros",
    }
    figure = Figure(figsize=(11, 3.4))
    axes = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.05, right=0.99, top=0.72, bottom=0.2, wspace=0.2)
    for ax, (title, reference) in zip(axes, references.items(), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            result = run_deeplift(converter, bird, x_ref=reference, output_label="Adelie")
        result.plot(ax=ax)
        ax.set_xlabel("")
        ax.tick_params(axis="x", labelrotation=20)
        ax.text(0.5, 1.3, title, transform=ax.transAxes, ha="center", fontsize=11)
    figure.savefig(HERE / "choosing_a_reference.png", dpi=80)
    result = run_deeplift(converter, birds, target="predicted")
    result.plot([0, 1, 2]).save(HERE / "reading_a_result.png", dpi=80)
    print(result.summary())


if __name__ == "__main__":
    main()
