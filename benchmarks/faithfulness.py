"""Deletion and insertion: how well each method finds what a trained network looks at.

    python benchmarks/faithfulness.py docs/faithfulness.inc

trains five small networks in seconds (two tables, a signal, two for images of digits; nothing is downloaded), explains
the predicted class of rows that were not trained on, and replaces features by a reference, the most important first
(deletion: the probability of the class should fall soon, small is good), or puts them in place of the reference, the
most important first (insertion: large is good). A number is the mean probability on the way.

Source: Petsiuk et al. (2018), arXiv:1806.07421.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import innsight_py as ip

ROWS, STEPS = 60, 16


@dataclass
class Case:
    """A trained network and rows to explain."""

    name: str
    module: nn.Module  # gives logits
    x: Tensor
    reference: Tensor  # one row
    background: Tensor


def trained(name: str, module: nn.Module, x: np.ndarray, y: np.ndarray, black: bool, epochs: int) -> Case:
    """Train a network; the reference is black (or silence), or the mean."""
    x_train, x_test, y_train, _ = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)
    data, labels = torch.tensor(x_train, dtype=torch.float32), torch.tensor(y_train, dtype=torch.long)
    optimizer = torch.optim.Adam(module.parameters(), 0.005, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(0)
    module.train()
    for _ in range(epochs):
        for some in torch.randperm(len(data), generator=generator).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(data[some]), labels[some]).backward()
            optimizer.step()
    module.eval()
    reference = torch.zeros_like(data[:1]) if black else data.mean(0, keepdim=True)
    background = data[torch.randperm(len(data), generator=generator)[:30]]
    return Case(name, module, torch.tensor(x_test[:ROWS], dtype=torch.float32), reference, background)


def penguins() -> Case:
    """Make the network of a table with four features, scaled."""
    from palmerpenguins import load_penguins

    table = load_penguins().dropna()
    x = table[["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]].to_numpy(float)
    y = table["species"].astype("category").cat.codes.to_numpy()
    module = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    return trained("penguins (table)", module, (x - x.mean(0)) / x.std(0), y, black=False, epochs=40)


def cancer() -> Case:
    """Make the network of a table with thirty features, scaled."""
    x, y = load_breast_cancer(return_X_y=True)
    module = nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2))
    return trained("tumours (table)", module, (x - x.mean(0)) / x.std(0), y, black=False, epochs=30)


def bumps() -> Case:
    """Make the network of a signal: one of three shapes somewhere in noise."""
    rng, t = np.random.default_rng(0), np.arange(64)
    y = rng.integers(0, 3, 900)
    at, width = rng.uniform(12, 52, (900, 1)), 4.0
    gauss = np.exp(-(((t - at) / width) ** 2))
    shapes = np.stack([gauss, gauss * np.sin((t - at) / 1.5), -gauss])
    x = 2 * shapes[y, np.arange(900)] + rng.normal(0, 0.3, (900, 64))
    module = nn.Sequential(
        nn.Conv1d(1, 12, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(12, 16, 5), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * 26, 3),
    )  # fmt: skip
    return trained("shapes (signal)", module, x[:, None], y, black=True, epochs=10)


def digits(batch_norm: bool) -> Case:
    """Make a network of images, with max pooling, or with batch normalisation and a residual connection."""
    x, y = load_digits(return_X_y=True)
    images = x.reshape(-1, 1, 8, 8) / 16
    if batch_norm:
        module: nn.Module = Residual()
    else:
        module = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 24, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(24 * 9, 10),
        )  # fmt: skip
    name = "digits, batch norm (image)" if batch_norm else "digits (image)"
    return trained(name, module, images, y, black=True, epochs=12)


class Residual(nn.Module):
    """Two convolutions with batch normalisation, around which a connection leads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm_1 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.second, self.norm_2 = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.pool, self.last = nn.AvgPool2d(2), nn.Linear(16 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Give ten logits."""
        x = torch.relu(self.norm_1(self.first(x)))
        x = torch.relu(x + self.norm_2(self.second(x)))
        return self.last(self.pool(x).flatten(1))


Explain = Callable[[ip.Converter, Case], Tensor]


def methods() -> dict[str, Explain]:
    """Return what is compared; a method without a sign is ranked by magnitude."""
    every = {"target": "predicted"}

    def first(result: ip.Gradient) -> Tensor:
        return torch.as_tensor(result.get_result()[..., 0])

    return {
        "by chance": lambda c, case: torch.rand(case.x.shape, generator=torch.Generator().manual_seed(0)),
        "Gradient (magnitude)": lambda c, case: first(ip.run_grad(c, case.x, **every)).abs(),
        "SmoothGrad (magnitude)": lambda c, case: first(ip.run_smoothgrad(c, case.x, seed=1, **every)).abs(),
        "Gradient x Input": lambda c, case: first(ip.run_grad(c, case.x, times_input=True, **every)),
        "LRP, simple (R's default)": lambda c, case: first(ip.run_lrp(c, case.x, **every)),
        "LRP, epsilon 0.01": lambda c, case: first(
            ip.run_lrp(c, case.x, rule_name="epsilon", rule_param=0.01, **every)
        ),
        "LRP, epsilon_plus": lambda c, case: first(ip.run_lrp(c, case.x, rule_name="epsilon_plus", **every)),
        "DeepLift": lambda c, case: first(
            ip.run_deeplift(c, case.x, x_ref=case.reference, winner_takes_all=False, **every)
        ),
        "DeepLift, reveal_cancel": lambda c, case: first(
            ip.run_deeplift(c, case.x, x_ref=case.reference, rule_name="reveal_cancel", winner_takes_all=False, **every)
        ),
        "IntegratedGradient": lambda c, case: first(ip.run_intgrad(c, case.x, x_ref=case.reference, n=100, **every)),
        "DeepSHAP, 30 references": lambda c, case: first(
            ip.run_deepshap(c, case.x, data_ref=case.background, winner_takes_all=False, **every)
        ),
        "ExpectedGradient, 30 references": lambda c, case: first(
            ip.run_expgrad(c, case.x, data_ref=case.background, n=100, seed=1, **every)
        ),
    }


@torch.no_grad()
def curves(case: Case, values: Tensor) -> tuple[float, float]:
    """Return the mean probability of the predicted class while features are deleted, and while they are inserted."""
    flat, reference = case.x.flatten(1), case.reference.flatten(1).expand(len(case.x), -1)
    order = values.reshape(len(case.x), -1).argsort(1, descending=True)
    rank = order.argsort(1)
    predicted = case.module(case.x).argmax(1)
    sums = np.zeros(2)
    counts = np.unique(np.linspace(0, flat.shape[1], min(STEPS, flat.shape[1]) + 1).round().astype(int))
    for count in counts:
        chosen = rank < count
        for i, mixed in enumerate((torch.where(chosen, reference, flat), torch.where(chosen, flat, reference))):
            probabilities = case.module(mixed.reshape(case.x.shape)).softmax(1)
            sums[i] += float(probabilities.gather(1, predicted[:, None]).mean())
    return float(sums[0] / len(counts)), float(sums[1] / len(counts))


def measure() -> tuple[list[Case], dict[str, list[tuple[float, float]]]]:
    """Explain and measure everything."""
    torch.manual_seed(0)
    cases = [penguins(), cancer(), bumps(), digits(batch_norm=False), digits(batch_norm=True)]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in methods()}
    for case in cases:
        converter = ip.Converter(case.module, input_dim=tuple(case.x.shape[1:]))
        for name, explain in methods().items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                found[name].append(curves(case, explain(converter, case)))
    return cases, found


def table(cases: list[Case], found: dict[str, list[tuple[float, float]]]) -> str:
    """Write the table of the page; what is best within 0.01 is bold."""
    lines = ["| | " + " | ".join(case.name for case in cases) + " |", "|---" * (len(cases) + 1) + "|"]
    best = [
        (min(row[j][0] for row in found.values()), max(row[j][1] for row in found.values()))
        for j in range(len(cases))
    ]  # fmt: skip
    for name, row in found.items():
        cells = []
        for (low, high), (deletion, insertion) in zip(best, row, strict=True):
            one = f"**{deletion:.2f}**" if deletion <= low + 0.01 else f"{deletion:.2f}"
            other = f"**{insertion:.2f}**" if insertion >= high - 0.01 else f"{insertion:.2f}"
            cells.append(f"{one} / {other}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", help="where the table goes; without it, to the terminal")
    out = parser.parse_args().out
    text = table(*measure())
    if out is None:
        print(text)
    else:
        out.write_text(text)


if __name__ == "__main__":
    main()
