"""Random tiny models of Hugging Face, as they are, with the ids and masks that they take."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
import transformers as hf
from torch import Tensor, nn

from innsight_py import Converter

hf.logging.set_verbosity_error()

WORDS, LENGTH = 30, 6
BERT = {
    "vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "max_position_embeddings": 20,
}  # fmt: skip
LLAMA = BERT | {"num_key_value_heads": 1, "pad_token_id": 0, "head_dim": 8}
PHI = {key: value for key, value in LLAMA.items() if key != "head_dim"}
EXPERTS = {
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8,
}  # fmt: skip
LOCAL = {"sliding_window": 4}
DEBERTA = {
    "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_biased_input": False, "position_buckets": 4,
    "norm_rel_ebd": "layer_norm", "share_att_key": True,
}  # fmt: skip


def last(y: Any) -> Tensor:
    """Take the next word's logits."""
    logits: Tensor = y.logits[:, -1]
    return logits


def first(y: Any) -> Tensor:
    """Take what an encoder makes of the first token."""
    hidden: Tensor = y.last_hidden_state[:, 0]
    return hidden


class Text(NamedTuple):
    """A model of texts: what builds it, what of its output is explained, where it is padded, and what it computes in.

    `single` says that something in it has single precision whatever its own is (angles, rates), so that a double copy
    of it has no more digits.
    """

    build: Callable[[], nn.Module]
    output: Any
    left: bool = False
    single: bool = False


def of(name: str, config: str, **keys: Any) -> Callable[[], nn.Module]:
    """Return what builds a random model of a class and a configuration."""
    return lambda: getattr(hf, name)(getattr(hf, config)(**keys))


TEXTS = {
    "BERT": Text(of("BertForSequenceClassification", "BertConfig", **BERT, num_labels=3), "logits"),
    "DistilBERT": Text(of("DistilBertForSequenceClassification", "DistilBertConfig", vocab_size=WORDS, dim=16,
        n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=20, num_labels=3), "logits"),
    "RoBERTa": Text(
        of("RobertaForSequenceClassification", "RobertaConfig", **BERT, num_labels=3, pad_token_id=0), "logits"),
    "ALBERT": Text(
        of("AlbertForSequenceClassification", "AlbertConfig", **BERT, embedding_size=8, num_labels=3), "logits"),
    "ELECTRA": Text(
        of("ElectraForSequenceClassification", "ElectraConfig", **BERT, embedding_size=8, num_labels=3), "logits"),
    "DeBERTa-v2": Text(
        of("DebertaV2ForSequenceClassification", "DebertaV2Config", **BERT, **DEBERTA, num_labels=3), "logits",
        single=True),
    "ModernBERT": Text(of("ModernBertForSequenceClassification", "ModernBertConfig", **BERT, num_labels=3,
        pad_token_id=0, local_attention=4, global_attn_every_n_layers=2), "logits", single=True),
    "GPT-2": Text(of("GPT2LMHeadModel", "GPT2Config", vocab_size=WORDS, n_positions=20, n_embd=16, n_layer=2, n_head=2),
        last, left=True),
    "GPT-2 classes": Text(of("GPT2ForSequenceClassification", "GPT2Config", vocab_size=WORDS, n_positions=20,
        n_embd=16, n_layer=2, n_head=2, pad_token_id=0, num_labels=3), "logits"),
    "Llama": Text(of("LlamaForCausalLM", "LlamaConfig", **LLAMA), last, left=True, single=True),
    "Mistral": Text(of("MistralForCausalLM", "MistralConfig", **LLAMA, **LOCAL), last, left=True, single=True),
    "Qwen3": Text(of("Qwen3ForCausalLM", "Qwen3Config", **LLAMA), last, left=True, single=True),
    "Gemma-3": Text(of("Gemma3ForCausalLM", "Gemma3TextConfig", **LLAMA, **LOCAL,
        layer_types=["sliding_attention", "full_attention"]), last, left=True, single=True),
    "Phi-3": Text(of("Phi3ForCausalLM", "Phi3Config", **PHI), last, left=True, single=True),
    "Mixtral": Text(of("MixtralForCausalLM", "MixtralConfig", **LLAMA, num_local_experts=4), last, left=True,
        single=True),
    "Qwen2-MoE": Text(of("Qwen2MoeForCausalLM", "Qwen2MoeConfig", **LLAMA, **EXPERTS), last, left=True, single=True),
    "Qwen3-MoE": Text(of("Qwen3MoeForCausalLM", "Qwen3MoeConfig", **LLAMA, **EXPERTS, norm_topk_prob=True), last,
        left=True, single=True),
    "T5": Text(of("T5EncoderModel", "T5Config", vocab_size=WORDS, d_model=16, d_kv=8, d_ff=32, num_layers=2,
        num_heads=2), first, single=True),
    "BART": Text(lambda: of("BartModel", "BartConfig", vocab_size=WORDS, d_model=16, encoder_layers=2,
        decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        max_position_embeddings=20)().encoder, first),
    "Mamba": Text(of("MambaForCausalLM", "MambaConfig", vocab_size=WORDS, hidden_size=16, state_size=4,
        num_hidden_layers=1), last, left=True, single=True),
}  # fmt: skip


class Case:
    """A model of texts beside its converter: what it computes from vectors that take the place of its embedding's."""

    def __init__(self, text: Text, eager: bool = False) -> None:
        torch.manual_seed(0)
        self.single, self.output = text.single, text.output
        model = text.build().eval()
        if eager:
            model.set_attn_implementation("eager")
        with torch.no_grad():
            for parameter in model.parameters():  # biases and norms that are not 0 and 1
                parameter.add_(0.05 * torch.randn_like(parameter))
        self.ids, self.batch = ids_and_mask(text.left)
        self.converter = Converter(model, example=self.batch, output=text.output)
        self.model = copy.deepcopy(model).double()
        if hasattr(self.model, "set_experts_implementation"):  # the usual one is for single precision alone
            self.model.set_experts_implementation("eager")
        self.embedding = self._embedding()
        self._instead: Tensor | None = None
        self.vectors = torch.empty(0)
        self.embedding.register_forward_hook(self._put)

    def _embedding(self) -> nn.Module:
        """Return the embedding of words: of T5 and BART the encoder's own."""
        found = [m for m in self.model.modules() if isinstance(m, nn.Embedding) and m.num_embeddings == WORDS]
        return next((m for m in found if m is getattr(getattr(self.model, "encoder", None), "embed_tokens", None)),
                    found[0])  # fmt: skip

    def _put(self, module: nn.Module, inputs: Any, out: Tensor) -> Tensor:
        self.vectors = out
        return out if self._instead is None else self._instead * getattr(module, "scalar_embed_scale", 1.0)

    def __call__(self, vectors: Tensor | None = None, **batch: Tensor) -> Tensor:
        """Run the model, on vectors that take the place of those of the words."""
        self._instead = vectors
        found = self.model(**(self.batch | batch))
        value: Tensor = found[self.output] if isinstance(self.output, str) else self.output(found)
        return value.double()  # some return logits of single precision, whatever they compute in

    def looked_up(self, ids: Tensor) -> Tensor:
        """Return the vectors of words, before a model multiplies them by anything."""
        return nn.functional.embedding(ids, self.embedding.weight).detach()  # type: ignore[arg-type]


def ids_and_mask(left: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """Return two texts of which one is padded."""
    ids = torch.tensor([[2, 5, 7, 9, 3, 1], [2, 6, 8, 11, 12, 3]])
    mask = torch.ones_like(ids)
    at = 0 if left else -1
    ids[0, at], mask[0, at] = 0, 0
    return ids, {"input_ids": ids, "attention_mask": mask}


@cache
def case(name: str, eager: bool = False) -> Case:
    """Return a model by its name; it is made once."""
    return Case(TEXTS[name], eager)


def quietly(function: Callable[[], Any]) -> Any:
    """Run something that says how far sums are off, where that is rounding, steps are few, or a route jumps."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*(rounding|too few|TopK_Layer)")
        return function()
