"""Padding on the left or on the right does not change the answer of the tokens that are there."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers", minversion="5")

from transformer_models import case

from innsight_py import run_deeplift, run_grad, run_lrp

METHODS = {
    "gradient": (run_grad, {}),
    "DeepLift": (run_deeplift, {"x_ref": 4}),
    "AttnLRP": (run_lrp, {"rule_name": "attnlrp"}),
}
WORDS = [5, 7, 9, 3]


def padded(before: int, after: int) -> dict[str, torch.Tensor]:
    ids, mask = [0] * before + WORDS + [0] * after, [0] * before + [1] * len(WORDS) + [0] * after
    return {"input_ids": torch.tensor([ids]), "attention_mask": torch.tensor([mask])}


@pytest.mark.filterwarnings("ignore:The texts in 'input_ids' have the length")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("name", "before", "after"), [("BERT", 0, 2), ("RoBERTa", 0, 2), ("Llama", 2, 0)])
def test_answers_are_those_of_the_unpadded(name, before, after, method):
    """Models that are padded on the left know distances only, and read their answer at the last token."""
    run, keys = METHODS[method]
    converter = case(name).converter
    found = [
        run(converter, batch, **keys, dtype="double", output_idx=1).get_result("torch_tensor")[0]
        for batch in (padded(before, after), padded(0, 0))
    ]
    with_padding, without = found
    there = with_padding[before : before + len(WORDS)]
    assert torch.allclose(there, without, rtol=0, atol=float(1e-5 * without.abs().max()))
    assert bool((torch.cat([with_padding[:before], with_padding[before + len(WORDS) :]]) == 0).all())
