"""The calls that R answered in `golden/zoo`, and the answers that decisions of ours make different."""

from __future__ import annotations

import functools

import numpy as np
from goldens import FOLDER, r_model, read, single

import innsight_py

MODELS = sorted(path.name.removesuffix(".json.gz") for path in (FOLDER / "zoo").glob("*.json.gz"))
ENTRIES = [(name, i) for name in MODELS for i in range(len(read(f"zoo/{name}.json.gz")["results"]))]

# What decisions of ours make different, entry by entry.

# R returns zeros for the pair (Output_1, Input_2), which is not connected; here it is None (quirk Q33, decision F).
UNCONNECTED = {("unconnected", i) for i in (3, 4, *range(6, 17), 21, 22, *range(24, 35), 37, 38)}
# Reveal-cancel where a part of the difference is exactly 0: R divides what rounding leaves of its effect by 1e-15, so
# the answer carries noise of the machine it ran on (see `rules.reveal_cancel_factors`). It is 0 here. The bound is R's
# noise.
NOISE = {
    ("conv1d_geometry", 10): 2e-4,
    ("conv1d_geometry", 39): 2e-4,
    ("conv1d_geometry", 67): 4e-4,
    ("mlp_relu", 9): 5e-4,
}


@functools.cache
def golden(name: str) -> dict:
    return read(f"zoo/{name}.json.gz")


@functools.cache
def converter(name: str, channels_first: bool) -> innsight_py.Converter:
    return r_model(golden(name)["model"], channels_first)


def run(name: str, number: int):
    """Make the call that a golden entry records; return the entry and our method."""
    model = golden(name)
    entry = model["results"][number]
    channels_first = single(entry["channels_first"])
    config = {
        key: {k: single(v) for k, v in value.items()} if isinstance(value, dict) else single(value)
        for key, value in entry["config"].items()
    }
    method, reference = config.pop("method"), config.pop("ref", None)

    def layout(arrays):
        return list(arrays) if channels_first else [np.moveaxis(array, 1, -1) for array in arrays]

    if reference in ("x_ref", "data_ref"):
        config[reference] = layout(model[reference])
    data = layout(model["x"])
    if method == "ConnectionWeights" and not config["times_input"]:
        data = None
    output_idx = [[node - 1 for node in nodes] for nodes in model["output_idx"]]
    result = getattr(innsight_py, method)(
        converter(name, channels_first), data, output_idx=output_idx, channels_first=channels_first, dtype="double",
        **config,
    )  # fmt: skip
    return entry, result
