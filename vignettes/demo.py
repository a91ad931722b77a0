"""Which measurements tell a penguin's species? A small network, explained with three methods.

Run it with ``nox -s demo``. It trains a network on the palmerpenguins data, prints what three methods say about it,
checks that they add up, and leaves all numbers in ``demo_penguins.csv``, a picture in ``demo_penguins.png`` and an
interactive page in ``demo_penguins.html``.
"""

from pathlib import Path

import pandas as pd
import torch
from palmerpenguins import load_penguins

from innsight_py import Converter, Explanation, run_deeplift, run_intgrad, run_lrp

FEATURES = {
    "bill_length_mm": "bill length",
    "bill_depth_mm": "bill depth",
    "flipper_length_mm": "flipper length",
    "body_mass_g": "body mass",
}
OUT, PICTURE, PAGE = (Path(f"demo_penguins.{ending}") for ending in ("csv", "png", "html"))


def train(x: torch.Tensor, y: torch.Tensor, classes: int) -> torch.nn.Module:
    """Train a network with one hidden layer; full batches, no tuning."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(
        torch.nn.Linear(x.shape[1], 16), torch.nn.Tanh(), torch.nn.Linear(16, classes), torch.nn.Softmax(dim=-1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=1e-3)
    for _ in range(300):
        optimizer.zero_grad()
        torch.nn.functional.nll_loss(model(x).log(), y).backward()
        optimizer.step()
    return model


def main() -> None:
    """Train, explain, print, save."""
    penguins = load_penguins().dropna(subset=[*FEATURES, "species"]).reset_index(drop=True)
    species = pd.Categorical(penguins["species"])
    raw = penguins[list(FEATURES)]
    x = torch.tensor(((raw - raw.mean()) / raw.std()).to_numpy(), dtype=torch.float32)
    y = torch.tensor(species.codes, dtype=torch.long)
    model = train(x, y, len(species.categories))
    accuracy = float((model(x).argmax(1) == y).float().mean())
    print(f"A network with 16 hidden nodes names the species of {accuracy:.1%} of {len(x)} penguins (in training).\n")

    # The three steps: convert the model, run a method, look at the result.
    converter = Converter(
        model, input_dim=(4,), input_names=list(FEATURES.values()), output_names=list(species.categories)
    )
    reference = x.mean(0, keepdim=True)  # the average penguin
    methods = {
        "DeepLift": run_deeplift(converter, x, x_ref=reference),
        "IntegratedGradient": run_intgrad(converter, x, x_ref=reference),
        "LRP (epsilon)": run_lrp(converter, x, rule_name="epsilon", rule_param=0.01),
    }
    frames = {name: method.get_result("data.frame") for name, method in methods.items()}

    report_means(frames, species)
    report_one_penguin(frames["DeepLift"], raw, species, row=0)
    pd.concat(frames, names=["method"]).reset_index("method").to_csv(OUT, index=False)
    leave_pictures(methods["DeepLift"], species)
    print("What is left to look at:")
    print(f"  all {sum(map(len, frames.values())):,} values of the three methods   {OUT.resolve()}")
    print(f"  a picture of three penguins, one of each species   {PICTURE.resolve()}")
    size = f"{PAGE.stat().st_size / 1e6:.1f} MB"
    print(f"  an interactive page, on which you can mark every penguin ({size}); open it in a browser")
    print(f"    {PAGE.resolve().as_uri()}")


def leave_pictures(result: Explanation, species: pd.Categorical) -> None:
    """Draw one penguin of each species, and all of them on a page."""
    first_of_each = [list(species).index(label) for label in species.categories]
    nodes = list(range(len(species.categories)))
    result.plot(first_of_each, output_idx=nodes).save(PICTURE, dpi=120)
    result.plot_global(
        output_idx=nodes, preprocess_fun=lambda values: values, ref_data_idx=0, individual_max=len(species),
        as_plotly=True,
    ).save(PAGE)  # fmt: skip


def report_means(frames: dict[str, pd.DataFrame], species: pd.Categorical) -> None:
    """Print what speaks for each species, on average over its own penguins."""
    own = dict(zip((f"data_{i + 1}" for i in range(len(species))), species, strict=True))
    print("What speaks for a species, on average over the penguins of that species")
    print("(positive: for it; negative: against it; DeepLift and IntegratedGradient compare with the average penguin)")
    for name, frame in frames.items():
        mine = frame[frame["output_node"].astype(str) == frame["data"].astype(str).map(own)]
        table = mine.pivot_table(index="output_node", columns="feature", values="value", observed=True)
        table.index.name, table.columns.name = name, None
        print(f"\n{table.to_string(float_format='{:+.2f}'.format)}")


def report_one_penguin(frame: pd.DataFrame, raw: pd.DataFrame, species: pd.Categorical, row: int) -> None:
    """Print the explanation of one penguin, and that it adds up."""
    label = species[row]
    mine = frame[(frame["data"] == f"data_{row + 1}") & (frame["output_node"] == label)]
    pred, total, goal = (float(mine[column].iloc[0]) for column in ("pred", "decomp_sum", "decomp_goal"))
    print(f"\nPenguin {row + 1} is of the species {label}; the network says so with {pred:.1%}. Why, by DeepLift:")
    ordered = mine.sort_values("value", key=abs, ascending=False)
    for feature, value in zip(ordered["feature"], ordered["value"], strict=True):
        column = next(key for key, text in FEATURES.items() if text == feature)
        unit = "g" if column.endswith("_g") else "mm"
        print(f"  {feature:<15}{raw[column][row]:>7.0f} {unit:<3}{value:>+7.2f}  {'█' * round(abs(value) * 6)}")
    print(f"  {'sum':<26}{total:>+7.2f}  (the network's score above that of the average penguin: {goal:+.2f})\n")


if __name__ == "__main__":
    main()
