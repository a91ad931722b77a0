"""Draw ``docs/gradcam.png``, the picture of the page about inner layers: three maps of a digit.

Run ``python docs/make_gradcam.py`` with ``pip install ".[sklearn]" pillow``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn

from innsight_py import Converter, run_gradcam

OUT = Path(__file__).with_name("gradcam.png")


def train() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """Train a small network on the digits that scikit-learn ships; return it, the images and what they show."""
    torch.manual_seed(1)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images).float().reshape(-1, 1, 8, 8) / 16, torch.tensor(labels)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        for some in torch.randperm(len(x)).split(256):
            loss = nn.functional.cross_entropy(model(x[some]), y[some])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval(), x, y


def main() -> None:
    """Draw a three, and where three layers see what speaks for it."""
    model, x, y = train()
    image = x[y == 3][:1]
    figure = Figure(figsize=(8, 2.2), layout="constrained")
    axes = figure.subplots(1, 4)
    axes[0].imshow(image[0, 0], cmap="gray")
    axes[0].set_title("a three", fontsize=10)
    converter = Converter(model, input_dim=(1, 8, 8), output_names=[str(digit) for digit in range(10)])
    for ax, name in zip(axes[1:], ["1", "3", "6"], strict=True):
        cam = run_gradcam(converter, image, layer=name, output_label="3").get_result()[0, 0, :, :, 0]
        ax.imshow(image[0, 0], cmap="gray")
        ax.imshow(cam, cmap="Reds", alpha=0.65)
        ax.set_title(f'layer="{name}"', fontsize=10)
    for ax in axes:
        ax.set_axis_off()
    figure.savefig(OUT, dpi=90)
    Image.open(OUT).convert("RGB").quantize(128).save(OUT, optimize=True)


if __name__ == "__main__":
    main()
