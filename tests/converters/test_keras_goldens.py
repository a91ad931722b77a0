"""R's answers for six Keras models (`golden/keras`): weights are single precision, so 1e-6 relative to the largest."""

from __future__ import annotations

import numpy as np
import pytest
from goldens import FOLDER, KERAS_CALLS, read, relative_error, single

import innsight_py
from innsight_py import Converter
from innsight_py.layers import affine

# Few steps and winner-takes-all are quick and R's default: that sums are then not exact is tested in test_residual.py.
pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")

keras = pytest.importorskip("keras")

MODELS = sorted(path.name.removesuffix(".json.gz") for path in (FOLDER / "keras").glob("*.json.gz"))


@pytest.fixture(scope="module")
def converted():
    return {
        name: Converter(keras.models.load_model(FOLDER / "keras" / f"{name}.h5", compile=False), dtype="double")
        for name in MODELS
    }


# Reveal-cancel where a part of a difference is exactly 0: R divides what rounding leaves of its effect (multiples of
# 2^-54 or so) by its stabiliser, so that its answer carries noise of its machine; see `rules.reveal_cancel_factors`.
# `test_reveal_cancel_but_for_noise` proves that nothing else differs.
NOISE = ("dense", "deeplift_reveal_cancel")


def explain(name, call, converter):
    """Make the call of an answer; return it and our method."""
    golden = read(f"keras/{name}.json.gz")
    method, arguments = KERAS_CALLS[call]
    filled = {key: golden[key] if value is ... else value for key, value in arguments.items()}
    index = [[int(i) - 1 for i in (each if isinstance(each, list) else [each])] for each in golden["output_idx"]]
    ours = getattr(innsight_py, method)(
        converter, golden["x"], output_idx=index, channels_first=False, dtype="double", **filled
    )
    return golden["results"][call], ours


@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`:UserWarning")  # how R keras wrote the models
@pytest.mark.parametrize("call", KERAS_CALLS)
@pytest.mark.parametrize("name", MODELS)
def test_answer(name, call, converted):
    theirs, ours = explain(name, call, converted[name])
    for i, row in enumerate(theirs["result"]):
        for j, values in enumerate(row):
            if values is None:
                assert ours.result[i][j] is None
            else:
                assert relative_error(ours.result[i][j], values) <= (2e-2 if (name, call) == NOISE else 1e-6)
        for key in ("preds", "decomp_goal"):
            if theirs[key] is not None and theirs[key][i] is not None:
                assert relative_error(getattr(ours, key)[i], theirs[key][i]) <= 1e-6


@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`:UserWarning")
def test_reveal_cancel_but_for_noise(converted, monkeypatch):
    """R's answer is ours plus multiples of what each part of exactly 0 would add: whole rounding errors."""
    name, call = NOISE
    theirs, _ = explain(name, call, converted[name])
    original = affine.reveal_cancel_factors
    places = []  # (which call, part, node): where a part is exactly 0

    def effect_at(place):
        """Explain with an effect of 1 at one place."""
        calls = iter(range(1000))

        def factors(activation, z, z_ref, positive, negative):
            number = next(calls)
            result = original(activation, z, z_ref, positive, negative)
            for part, value in enumerate((positive, negative)):
                for node in (value == 0).nonzero().tolist() if place is None else []:
                    places.append((number, part, tuple(node)))
            if place is not None and place[0] == number:
                result[place[1]][place[2]] += 1.0
            return result

        monkeypatch.setattr(affine, "reveal_cancel_factors", factors)
        return explain(name, call, converted[name])[1].result[0][0].numpy().ravel()

    base = effect_at(None)
    assert places
    basis = np.stack([effect_at(place) - base for place in places], 1)
    missing = theirs["result"][0][0].ravel() - base
    effects, *_ = np.linalg.lstsq(basis, missing, rcond=None)
    assert np.abs(missing - basis @ effects).max() <= 1e-6 * np.abs(base).max()
    errors = effects[np.abs(basis).max(0) > 1e-12] * 1e-15 / 2.0**-54
    assert np.abs(errors - np.round(errors)).max() < 1e-2
    assert np.abs(errors).max() <= 8


def test_there_are_66_answers():
    assert sum(len(read(f"keras/{name}.json.gz")["results"]) for name in MODELS) == 66
    assert all(set(read(f"keras/{name}.json.gz")["results"]) == set(KERAS_CALLS) for name in MODELS)


def test_names_and_shapes(converted):
    golden = read("keras/functional.json.gz")
    converter = converted["functional"]
    first_last = [tuple(dim) for dim in golden["input_dim"]]
    assert [tuple(dim) for dim in converter.input_dim] == [tuple(int(n) for n in dim) for dim in first_last]
    assert converter._spec.layers[0].name == "conv2d_3"
    assert single(golden["name"]) == "functional"
