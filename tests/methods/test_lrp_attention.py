"""AttnLRP and CP-LRP on whole networks: what is kept, what is said, and every way that leads to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from innsight_py import Converter, UnsupportedLayerError, composites, rules, run_lrp


class RMSNorm(nn.Module):
    """As the language models write it."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Attention(nn.Module):
    def __init__(self, width=8, heads=2, fused=False, bias=False):
        super().__init__()
        self.heads, self.fused = heads, fused
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=bias) for _ in range(4))

    def rotated(self, x):
        angles = torch.arange(x.shape[-2])[:, None] / 3.0 ** torch.arange(x.shape[-1] // 2).repeat(2)
        left, right = x.chunk(2, -1)
        return x * angles.cos().to(x.dtype) + torch.cat([-right, left], -1) * angles.sin().to(x.dtype)

    def forward(self, x):
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        q, k = self.rotated(q), self.rotated(k)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            later = torch.full((x.shape[1], x.shape[1]), -torch.inf, dtype=x.dtype).triu(1)
            y = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + later, -1) @ v
        return self.o(y.transpose(1, 2).flatten(2))


class LlamaLike(nn.Module):
    """Two blocks without biases and added positions: norms, rotated queries and keys, a gated feed-forward part."""

    def __init__(self, width=8, fused=False):
        super().__init__()
        self.norms = nn.ModuleList(RMSNorm(width) for _ in range(5))
        self.attention = nn.ModuleList(Attention(width, fused=fused) for _ in range(2))
        self.gate, self.up = (nn.ModuleList(nn.Linear(width, 12, bias=False) for _ in range(2)) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(12, width, bias=False) for _ in range(2))
        self.act = nn.SiLU()
        self.head = nn.Linear(width, 3, bias=False)

    def forward(self, x):
        for i in range(2):
            x = x + self.attention[i](self.norms[2 * i](x))
            y = self.norms[2 * i + 1](x)
            x = x + self.down[i](self.act(self.gate[i](y)) * self.up[i](y))
        return self.head(self.norms[4](x)[:, -1])


X = np.random.default_rng(0).normal(size=(3, 5, 8))


def made(build, dim=(5, 8)):
    torch.manual_seed(0)
    return Converter(build().double().eval(), input_dim=dim, dtype="double")


@pytest.fixture(scope="module")
def llama():
    return made(LlamaLike)


def relevance(converter, x=X, **keys):
    return run_lrp(converter, x, dtype="double", **{"rule_name": "attnlrp"} | keys)


# -- what is kept ------------------------------------------------------------------------------------------------


def test_cp_lrp_keeps_all_without_biases(llama):
    found = relevance(llama, rule_name="cp_lrp")
    sums = found.get_result().sum((1, 2))
    np.testing.assert_allclose(sums, llama.model(torch.tensor(X))[0].numpy(), rtol=1e-9)
    assert float(found.residual.relative[0].abs().max()) < 1e-9
    single = run_lrp(llama, X, rule_name="cp_lrp").get_result().sum((1, 2))
    np.testing.assert_allclose(single, sums, rtol=1e-4, atol=1e-5)


def test_a_gate_may_be_a_constant_too(llama):
    """Ali et al. take gates for constants; both ways keep all, and they differ."""
    blocked = relevance(llama, rule_name=[("act", rules.block()), *composites.cp_lrp()]).get_result()
    halves = relevance(llama, rule_name="cp_lrp").get_result()
    np.testing.assert_allclose(blocked.sum((1, 2)), halves.sum((1, 2)), rtol=1e-8)
    assert not np.allclose(blocked, halves, rtol=1e-2)


def test_attnlrp_says_what_keeps_relevance(llama):
    """No bias is there, so all that is missing is the softmax rule's; that is no warning."""
    reasons = relevance(llama).residual.reasons
    assert any("softmax rule of AttnLRP" in reason for reason in reasons)
    assert not any("bias" in reason or "constants" in reason for reason in reasons)
    assert float(relevance(llama).residual.relative[0].abs().max()) > 1e-3
    assert not any("softmax" in reason for reason in relevance(llama, rule_name="cp_lrp").residual.reasons)


def test_positions_and_biases_are_named():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.place, self.norm, self.head = nn.Parameter(torch.randn(1, 5, 8)), nn.LayerNorm(8), nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.norm(x + self.place).mean(1))

    found = made(Positions)
    reasons = relevance(found).residual.reasons
    assert {"biases keep a part of the relevance"} < set(reasons)
    assert any("positions" in reason for reason in reasons)


def test_queries_and_keys_get_nothing_in_cp_lrp(llama):
    for name in ("attention.0.q", "attention.1.k"):
        found = relevance(llama, rule_name="cp_lrp", layer=name).get_result()
        assert found.shape == (3, 5, 8, 3)
        assert not found.any()
    assert relevance(llama, rule_name="cp_lrp", layer="attention.0.v").get_result().any()
    assert relevance(llama, layer="attention.0.q").get_result().any()


# -- ways to say it, places and neurons -----------------------------------------------------------------------------


def test_attention_in_one_call_or_written_out(llama):
    fused = made(lambda: LlamaLike(fused=True))
    for rule_name in ("attnlrp", "cp_lrp", composites.attnlrp(gamma=0.1)):
        np.testing.assert_allclose(
            relevance(fused, rule_name=rule_name).get_result(), relevance(llama, rule_name=rule_name).get_result(),
            rtol=1e-8, atol=1e-10,
        )  # fmt: skip


def test_inner_layers_get_what_passes_there(llama):
    goal = llama.model(torch.tensor(X))[0].numpy()
    found = relevance(llama, rule_name="cp_lrp", layer="norms.4").get_result()
    np.testing.assert_allclose(found.sum((1, 2)), goal, rtol=1e-8)  # all paths pass here
    gate, up = (relevance(llama, layer=f"{name}.1").get_result() for name in ("gate", "up"))
    assert up.any()
    np.testing.assert_allclose(gate, up, rtol=1e-8, atol=1e-12)  # half to each factor


def test_a_neuron_inside_is_the_output_of_the_model_that_ends_there(llama):
    class Part(LlamaLike):
        def forward(self, x):
            return self.up[0](self.norms[1](x + self.attention[0](self.norms[0](x))))[:, 4, :6]

    part = made(Part)
    whole = relevance(llama, neuron=("up.0", [(4, i) for i in range(6)])).get_result()
    np.testing.assert_allclose(whole, relevance(part).get_result(), rtol=1e-8, atol=1e-12)


def test_rows_and_chunks_do_not_matter(llama):
    whole = relevance(llama).get_result()
    np.testing.assert_allclose(relevance(llama, batch_size=1).get_result(), whole, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(relevance(llama, X[1:2]).get_result(), whole[1:2], rtol=1e-10, atol=1e-14)


def test_gamma_is_for_layers_with_weights(llama):
    chosen = {row.kind: row.rule for row in llama.show_rules(composites.attnlrp(gamma=0.05))}
    assert chosen["Dense_Layer"] == "gamma(0.05)"
    assert chosen["MatMul_Layer"] == chosen["Standardize_Layer"] == "epsilon(0)"
    assert chosen["Multiply_Layer"] == "equal()"
    found = relevance(llama, rule_name=composites.attnlrp(gamma=0.05)).get_result()
    assert not np.allclose(found, relevance(llama).get_result(), rtol=1e-2)


@pytest.mark.parametrize("bias", ["keep", "zero", "share"])
def test_masks_of_minus_infinity_have_no_part(bias):
    found = relevance(made(lambda: LlamaLike(fused=True)), rule_name=composites.attnlrp(bias=bias)).get_result()
    assert np.isfinite(found).all()


# -- what stops, and where it goes on ----------------------------------------------------------------------------

STOPPING = {
    "softmax": lambda: nn.Sequential(nn.Linear(4, 6), nn.Softmax(1), nn.Linear(6, 2)),
    "layer norm": lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2)),
    "root mean square": lambda: nn.Sequential(nn.RMSNorm(4), nn.Linear(4, 2)),
    "written out": lambda: nn.Sequential(RMSNorm(4), nn.Linear(4, 2)),
}


@pytest.mark.parametrize("name", STOPPING)
def test_the_error_leads_to_attnlrp(name):
    converter, x = made(STOPPING[name], (4,)), X[0, :, :4]
    with pytest.raises(UnsupportedLayerError, match=r'LRP has no rule for .* LRP works with rule_name="attnlrp".* See'):
        run_lrp(converter, x)
    assert relevance(converter, x).get_result().shape == (5, 4, 2)


WITH_OWN = {
    "epsilon": '[("family:dense", rules.epsilon(0.001)), ("family:convolution", rules.epsilon(0.001)), '
    "*composites.attnlrp()]",
    "epsilon_plus": "[*composites.epsilon_plus(), *composites.attnlrp()]",
    "a list": "[*your_list, *composites.attnlrp()]",
}


@pytest.mark.parametrize("name", WITH_OWN)
def test_the_error_says_how_to_keep_own_rules(name):
    """What the message says can be run, and the layers with weights follow the rules that were asked for."""
    your_list = [("family:dense", rules.gamma(0.1))]
    converter, x = made(STOPPING["layer norm"], (4,)), X[0, :, :4]
    with pytest.raises(UnsupportedLayerError) as caught:
        run_lrp(converter, x, rule_name=your_list if name == "a list" else name)
    said = f" and with rule_name={WITH_OWN[name]}, where your rules come first."
    assert said in str(caught.value)
    names = {"rules": rules, "composites": composites, "your_list": your_list}
    rule_name = eval(WITH_OWN[name], names)  # noqa: S307 (our own)
    found = relevance(converter, x, rule_name=rule_name)
    expected = {"epsilon": "epsilon(0.001)", "epsilon_plus": "epsilon(1e-06)", "a list": "gamma(0.1)"}[name]
    table = converter.show_rules(rule_name)
    dense = [line for line in str(table).splitlines() if "Dense_Layer" in line]
    assert len(dense) == 2
    assert all(expected in line for line in dense)
    assert np.isfinite(found.get_result()).all()


def test_the_error_has_a_word_for_rules_without_a_short_form():
    converter, x = made(STOPPING["layer norm"], (4,)), X[0, :, :4]
    with pytest.raises(UnsupportedLayerError, match=r'\("family:dense", your_rule\)'):
        run_lrp(converter, x, rule_name=rules.epsilon(0.1, stabilizer=lambda z: z + 1))


def test_the_error_promises_nothing_that_does_not_work():
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.norm(x.sort(1).values))

    converter = made(Sorted, (4,))
    for rule_name in ("simple", "attnlrp"):
        with pytest.raises(UnsupportedLayerError, match="LRP has no rule for") as caught:
            run_lrp(converter, X[0, :, :4], rule_name=rule_name)
        assert "attnlrp" not in str(caught.value)


def test_a_softmax_in_a_layer_of_a_dict_takes_the_rule():
    weights = np.random.default_rng(1).normal(size=(4, 4))
    apart = [{"type": "Dense", "weight": weights}, {"type": "Activation", "act_name": "softmax"}]
    joined = [{"type": "Dense", "weight": weights, "activation_name": "softmax"}]
    end = [{"type": "Dense", "weight": weights[:2]}]
    for rule_name in ("attnlrp", "cp_lrp", [("softmax", rules.gradient())]):
        one, other = (
            relevance(Converter({"input_dim": [4], "layers": layers + end}), X[0, :, :4], rule_name=rule_name)
            for layers in (apart, joined)
        )
        np.testing.assert_allclose(one.get_result(), other.get_result(), rtol=1e-10)
    converter = Converter({"input_dim": [4], "layers": joined + end})
    with pytest.raises(ValueError, match=r"the activation softmax .* it takes pass, gradient, taylor, block"):
        run_lrp(converter, X[0, :, :4], rule_name=[("softmax", rules.equal())])


def test_detached_values_keep_their_part():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.head = nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False)

        def forward(self, x):
            return self.head(x * self.gate(x).sigmoid().detach())

    converter = made(Gate, (4,))
    found = relevance(converter, X[0, :, :4])
    np.testing.assert_allclose(
        found.get_result().sum(1), converter.model(torch.tensor(X[0, :, :4]))[0].numpy(), rtol=1e-9
    )


def test_a_mask_from_the_data_is_a_constant():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 2, bias=False)

        def forward(self, x):
            return self.head(x * (x > 0).to(x.dtype))

    converter = made(Masked, (4,))
    twin = made(lambda: nn.Sequential(nn.ReLU(), nn.Linear(4, 2, bias=False)), (4,))
    np.testing.assert_allclose(
        relevance(converter, X[0, :, :4]).get_result(), relevance(twin, X[0, :, :4]).get_result(), rtol=1e-10
    )


def test_tokens_and_masks_that_come_with_the_row():
    """Embedded ids depend on the tokens, masks do not: CP-LRP keeps all, and what is masked gets nothing."""

    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.norm = nn.Embedding(11, 8), RMSNorm(8)
            self.q, self.k, self.v = (nn.Linear(8, 8, bias=False) for _ in range(3))
            self.head = nn.Linear(8, 3, bias=False)

        def forward(self, ids, mask):
            x = self.embed(ids)
            y = self.norm(x)
            q, k, v = self.q(y)[:, None], self.k(y)[:, None], self.v(y)[:, None]
            x = x + F.scaled_dot_product_attention(q, k, v, attn_mask=mask.bool()[:, None, None])[:, 0]
            kept = mask[..., None].to(x.dtype)
            return self.head((x * kept).sum(1) / kept.sum(1))

    torch.manual_seed(0)
    model, ids = Words().double().eval(), torch.tensor([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]])
    batch = {"ids": ids, "mask": (ids > 0).long()}
    converter = Converter(model, example=batch, dtype="double")
    found = run_lrp(converter, batch, rule_name="cp_lrp", dtype="double").result[0][0]
    torch.testing.assert_close(found.sum(1), model(**batch).detach(), rtol=1e-9, atol=1e-12)
    assert not found[0, 3:].any()
    short = {key: value[:1, :3] for key, value in batch.items()}
    alone = run_lrp(Converter(model, example=short, dtype="double"), short, rule_name="attnlrp", dtype="double")
    both = run_lrp(converter, batch, rule_name="attnlrp", dtype="double")
    torch.testing.assert_close(alone.result[0][0][0], both.result[0][0][0, :3])


class Scored(nn.Module):
    """Attention whose scores have a factor, with a mask or without, in one call of torch or written out."""

    def __init__(self, written):
        super().__init__()
        self.written = written
        self.q, self.k, self.v = (nn.Linear(8, 8) for _ in range(3))
        self.head = nn.Linear(8, 2)

    def forward(self, x, mask=None):
        q, k, v = self.q(x), self.k(x), self.v(x)
        if self.written:
            scores = q @ k.transpose(1, 2) * 8**-0.5
            if mask is not None:
                scores = scores.masked_fill(mask[:, None, :] == 0, float("-inf"))
            y = scores.softmax(-1) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, :].bool())
        return self.head((x + y).mean(1))


def test_the_factor_of_scores_is_found_behind_masks_and_in_one_call():
    x, mask = torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.long)
    torch.manual_seed(3)
    weights = Scored(True).state_dict()
    answers = []
    for written in (True, False):
        net = Scored(written).eval()
        net.load_state_dict(weights)
        for keys, rows in (({"input_dim": (5, 8)}, x), ({"example": (x, mask)}, [x, mask])):
            converter = Converter(net, **keys)
            (rule,) = {row.rule for row in converter.show_rules("attnlrp") if row.kind == "Scale_Layer"}
            assert rule == "gradient()"
            answers.append(run_lrp(converter, rows, rule_name="attnlrp").get_result())
    for found in answers[1:]:
        np.testing.assert_allclose(found, answers[0], rtol=1e-4, atol=1e-6)
    passed = run_lrp(converter, rows, rule_name=composites.attnlrp(scores="pass")).get_result()
    assert np.abs(passed - answers[0]).max() > 1e-4


def test_only_what_stands_between_the_product_and_the_softmax_is_a_factor_of_scores():
    """A factor before a dense layer is none; many sums on the way take no time that grows with their paths."""

    class Behind(nn.Module):
        def __init__(self, head):
            super().__init__()
            self.head = head

        def forward(self, x):
            y = (x @ x.transpose(1, 2) * 0.5).flatten(1)
            return (y if self.head is None else self.head(y)).softmax(1)

    class Doubled(nn.Module):
        def forward(self, x):
            y = x @ x.transpose(1, 2) * 0.5
            for _ in range(40):
                y = y + y.flip(1)
            return y.flatten(1).softmax(1)

    nets = (Behind(nn.Linear(9, 9)), Behind(None), Doubled())
    found = [Converter(net.eval(), input_dim=(3, 2)).show_rules(composites.attnlrp()) for net in nets]
    assert [{r.rule for r in rows if r.kind == "Scale_Layer"} for rows in found] == [
        {"epsilon(0)"}, {"gradient()"}, {"gradient()"},
    ]  # fmt: skip
