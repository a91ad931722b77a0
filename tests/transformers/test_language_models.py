"""Models of texts: ids and masks in, one number a token out, beside autograd, differences of outputs, and captum."""

from __future__ import annotations

import re

import pytest
import torch

pytest.importorskip("transformers", minversion="5")

from transformer_models import TEXTS, WORDS, case, quietly

from innsight_py import Converter, run_deeplift, run_grad, run_intgrad, run_lrp

NODES = [0, 2]


@pytest.mark.parametrize("name", TEXTS)
def test_outputs_and_gradients_are_torchs(name):
    it = case(name)
    assert [port.kind for port in it.converter.inputs] == ["tokens", "fixed"]
    vectors = it.looked_up(it.ids).requires_grad_()
    out = it(vectors)
    found = run_grad(it.converter, it.batch, dtype="double", ignore_last_act=False, output_idx=NODES)
    tolerance = 1e-6 if it.single else 1e-11
    assert torch.allclose(found.preds[0], out[:, NODES].detach(), rtol=0, atol=tolerance)
    mine = found.get_result("torch_tensor")
    for k, node in enumerate(NODES):
        (expected,) = torch.autograd.grad(out[:, node].sum(), vectors, retain_graph=True)
        scale = expected.abs().max()
        assert torch.allclose(mine[..., k], expected.sum(-1), rtol=0, atol=float(10 * tolerance * scale))


@pytest.mark.parametrize("reference", [None, 4], ids=["zero vectors", "an id"])
@pytest.mark.parametrize("name", TEXTS)
def test_sums_of_deeplift_are_differences(name, reference):
    it = case(name)
    at = it.looked_up(torch.full_like(it.ids, reference or 0))
    with torch.no_grad():
        goal = (it() - it(at if reference else torch.zeros_like(at)))[:, NODES]
    keys = {"x_ref": reference, "ignore_last_act": False, "output_idx": NODES}
    double = run_deeplift(it.converter, it.batch, dtype="double", **keys)
    sums = double.get_result("torch_tensor").sum(1)
    assert torch.allclose(sums, double.decomp_goal[0], rtol=0, atol=1e-8)
    assert torch.allclose(sums, goal, rtol=0, atol=1e-6 if it.single else 1e-8)
    single = quietly(lambda: run_deeplift(it.converter, it.batch, **keys))
    assert torch.allclose(single.get_result("torch_tensor").double().sum(1), goal, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", TEXTS)
def test_integrated_gradients_are_captums(name):
    attr = pytest.importorskip("captum.attr")
    it, ids = case(name), torch.full_like(case(name).ids, 4)
    layer = attr.LayerIntegratedGradients(lambda input_ids, mask: it(input_ids=input_ids, attention_mask=mask),
                                          it.embedding)  # fmt: skip
    expected = layer.attribute(
        it.ids, ids, target=2, additional_forward_args=it.batch["attention_mask"], n_steps=4, method="riemann_right"
    )
    found = quietly(lambda: run_intgrad(it.converter, it.batch, x_ref=4, n=4, output_idx=2, dtype="double",
                                        ignore_last_act=False))  # fmt: skip
    tolerance = 1e-6 if it.single else 1e-9
    mine = found.get_result("torch_tensor")[..., 0]
    assert torch.allclose(mine, expected.sum(-1), rtol=0, atol=float(tolerance * expected.abs().max()))


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "Mamba"])
def test_attnlrp_reaches_the_tokens(name):
    it = case(name)
    found = run_lrp(it.converter, it.batch, rule_name="attnlrp", output_idx=0, ignore_last_act=False)
    relevance = found.get_result("torch_tensor")
    assert relevance.shape == (2, 6, 1)
    assert bool(relevance.isfinite().all())
    there = it.batch["attention_mask"] == 1
    assert bool((relevance[..., 0][~there] == 0).all())
    assert bool((relevance[..., 0][there] != 0).any())


@pytest.mark.parametrize("name", ["BERT", "GPT-2", "Llama", "DeBERTa-v2"])
def test_eager_attention_is_the_same(name):
    plain, eager = case(name), case(name, eager=True)
    found = [
        run_deeplift(it.converter, it.batch, x_ref=4, dtype="double", output_idx=0).get_result()
        for it in (plain, eager)
    ]
    assert torch.allclose(*map(torch.as_tensor, found), rtol=0, atol=1e-7)


def test_a_layer_has_vectors():
    it = case("BERT")
    name = "bert.embeddings.word_embeddings"
    vectors = it.looked_up(torch.full_like(it.ids, 4)[:1])
    by_id = run_deeplift(it.converter, it.batch, x_ref=4, layer=name, dtype="double")
    by_vectors = run_deeplift(it.converter, it.batch, x_ref=vectors, layer=name, dtype="double")
    at_tokens = run_deeplift(it.converter, it.batch, x_ref=4, dtype="double").get_result("torch_tensor")
    assert by_id.get_result().shape == (2, 6, 16, 3)
    assert torch.equal(by_id.get_result("torch_tensor"), by_vectors.get_result("torch_tensor"))
    assert torch.allclose(by_id.get_result("torch_tensor").sum(2), at_tokens, rtol=0, atol=1e-14)
    inner = run_deeplift(it.converter, it.batch, x_ref=4, layer="bert.encoder.layer.0", dtype="double")
    assert torch.allclose(inner.get_result("torch_tensor").sum((1, 2)), inner.decomp_goal[0], rtol=0, atol=1e-12)
    assert torch.allclose(inner.decomp_goal[0], by_id.decomp_goal[0], rtol=0, atol=1e-12)


def test_the_ids_of_a_result():
    it = case("BERT")
    found = run_grad(it.converter, it.batch)
    assert it.ids.tolist() == found.data[0].long().tolist()
    assert int(found.data[0].max()) < WORDS


def test_generated_words_by_the_words_before(tmp_path):
    """What a language model says after each word is a table: a line for each word, and nothing from later words."""
    torch.manual_seed(0)
    words = [f"\u0120w{i}" for i in range(WORDS)]
    ids = torch.tensor([[2, 5, 7, 9, 3, 1]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    converter = Converter(TEXTS["Llama"].build().eval(), example=batch, output="logits", token_names=words)
    assert converter.output_dim == [(6, WORDS)]
    assert converter.output_names[0] == [["1", "2", "3", "4", "5", "6"], words]
    said = [(place, int(ids[0, place + 1])) for place in range(2, 5)]
    found = run_lrp(converter, batch, rule_name="attnlrp", output_idx=said)
    assert found.output_label == [["3, \u0120w9", "4, \u0120w3", "5, \u0120w1"]]
    relevance = found.get_result("torch_tensor")[0]
    for k, (place, _) in enumerate(said):
        assert bool((relevance[place + 1 :, k] == 0).all())
        assert bool((relevance[: place + 1, k] != 0).all())
    found.text(0).save(tmp_path / "why.html")
    page = (tmp_path / "why.html").read_text(encoding="utf-8")
    cells = re.findall(r'data-v="(\d), \u0120w(\d+): w(\d+): ([-\d.e]+)', page)
    assert [(int(place), int(word)) for place, word, *_ in cells[::6]] == [(p + 1, w) for p, w in said]
    assert [int(before) for *_, before, _ in cells[:6]] == ids[0].tolist()
    shown = torch.tensor([float(value) for *_, value in cells]).reshape(3, 6)
    assert torch.allclose(shown, relevance.T, rtol=1e-3, atol=1e-9)
    assert re.search(r'value="3" checked', page), "the table is shown first"
