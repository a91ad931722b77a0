"""What zennit 1.0.0 answered: every rule and composite on eleven networks (`lrp/README.md`)."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest
import torch
from goldens import FOLDER, relative_error
from lrp_nets import NETS

from innsight_py import Converter, composites, rules, run_lrp

#: What all other layers have in zennit.
OTHERS = [
    ("activation", rules.pass_()), ("batch_norm", rules.pass_()), ("sum", rules.proportional()),
    ("average_pooling", rules.proportional()),
]  # fmt: skip
WEIGHTS = ("dense", "convolution")


@functools.cache
def golden(name: str):
    """Read a file, and convert the network with its weights."""
    with np.load(FOLDER / "lrp" / f"{name}.npz") as file:
        held = {key: file[key] for key in file.files}
    build, dim = NETS[name]
    model = build().double().eval()
    weights = {key.removeprefix("weights/"): torch.tensor(v) for key, v in held.items() if key.startswith("weights/")}
    model.load_state_dict(weights)
    return held, Converter(model, input_dim=dim, dtype="double")


def rule_of(text: str, held: dict):
    """Return the rule that a configuration calls so."""
    found = {
        "zplus": rules.z_plus, "alpha=2,beta=1": lambda: rules.alpha_beta(2, beta=1),
        "alpha=1,beta=0": lambda: rules.alpha_beta(1, beta=0), "wsquare": rules.w_square, "flat": rules.flat,
        "zbox": lambda: rules.z_box(held["low"], held["high"]), "epsilon=0.01": lambda: rules.epsilon(0.01),
        "gamma=0.25": lambda: rules.gamma(0.25),
    }  # fmt: skip
    return found[text]()


def rule_name(configuration: str, held: dict):
    """Say in our words what a configuration is."""
    text = configuration.removeprefix("merged batch norm; ")
    if text.startswith("composite "):
        name, arguments = re.fullmatch(r"composite (\w+)(?:\((.*)\))?", text).groups()
        given = {key: float(value) for key, value in (pair.split("=") for pair in (arguments or "").split(",") if pair)}
        if name == "epsilon_gamma_box":
            given |= {"low": held["low"], "high": held["high"]}
        return getattr(composites, name)(**given)
    first = re.fullmatch(r"first=(\w+),else (.*)", text)
    start = [("first", rule_of(first[1], held))] if first else []
    rule = rule_of(first[2] if first else text, held)
    return [*start, *((family, rule) for family in WEIGHTS), *OTHERS]


@functools.cache
def configurations() -> list[tuple[str, str]]:
    found = []
    for name in NETS:
        with np.load(FOLDER / "lrp" / f"{name}.npz") as file:
            found += [(name, key.removeprefix("answer/")) for key in file.files if key.startswith("answer/")]
    return found


def test_all_answers_are_there():
    assert len(configurations()) == 208


@pytest.mark.filterwarnings("ignore:.*z_box is made for values between:UserWarning")
@pytest.mark.parametrize(("name", "configuration"), configurations())
def test_zennit(name, configuration):
    held, converter = golden(name)
    found = run_lrp(
        converter, held["x"], rule_name=rule_name(configuration, held), dtype="double",
        merge_batch_norm=configuration.startswith("merged"), ignore_last_act=False,
    )  # fmt: skip
    np.testing.assert_allclose(found.preds[0].numpy(), held["output"], rtol=1e-9)
    assert relative_error(found.get_result(), held[f"answer/{configuration}"]) < 1e-7
