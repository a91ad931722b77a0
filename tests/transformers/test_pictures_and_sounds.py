"""Models of pictures and of sound: outputs, gradients and DeepLift's sums as they are, and AttnLRP."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch

pytest.importorskip("transformers", minversion="5")

from transformer_models import of, quietly

from innsight_py import Converter, run_deeplift, run_grad, run_lrp

SMALL = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 8,
    "patch_size": 4,
}  # fmt: skip
MODELS = {
    "ViT": (of("ViTForImageClassification", "ViTConfig", **SMALL, num_labels=3), (3, 8, 8), "logits"),
    "Swin": (of("SwinForImageClassification", "SwinConfig", image_size=16, patch_size=2, embed_dim=8, depths=[1, 2],
        num_heads=[1, 2], window_size=2, num_labels=3), (3, 16, 16), "logits"),
    "CLIP": (of("CLIPVisionModel", "CLIPVisionConfig", **SMALL), (3, 8, 8), "pooler_output"),
    "Wav2Vec2": (of("Wav2Vec2ForSequenceClassification", "Wav2Vec2Config", hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=32, conv_dim=[8, 8], conv_kernel=[4, 3], conv_stride=[3, 2],
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, classifier_proj_size=8, num_labels=3,
        num_feat_extract_layers=2), (40,), "logits"),
}  # fmt: skip


@cache
def made(name):
    build, dim, output = MODELS[name]
    torch.manual_seed(0)
    model = build().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    x = torch.randn(2, *dim)
    return copy.deepcopy(model).double(), x, Converter(model, example=x, output=output), output


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_gradients_are_torchs(name):
    model, x, converter, output = made(name)
    leaf = x.double().requires_grad_()
    out = model(leaf)[output]
    found = run_grad(converter, x, dtype="double", ignore_last_act=False, output_idx=[0, 2])
    assert torch.allclose(found.preds[0], out[:, [0, 2]].detach(), rtol=0, atol=1e-10)
    (expected,) = torch.autograd.grad(out[:, 2].sum(), leaf)
    mine = found.get_result("torch_tensor")[..., 1]
    assert torch.allclose(mine, expected, rtol=0, atol=float(1e-9 * expected.abs().max()))


@pytest.mark.parametrize("zeros", [True, False], ids=["zeros", "noise"])
@pytest.mark.parametrize("name", MODELS)
def test_sums_of_deeplift_are_differences(name, zeros):
    model, x, converter, output = made(name)
    generator = torch.Generator().manual_seed(3)
    reference = torch.zeros_like(x) if zeros else torch.randn(x.shape, generator=generator)
    with torch.no_grad():
        goal = (model(x.double())[output] - model(reference.double())[output])[:, [0, 2]]
    keys = {"x_ref": reference, "ignore_last_act": False, "output_idx": [0, 2]}
    for dtype, tolerance in (("double", 1e-8), ("float", 1e-4)):
        found = quietly(lambda dtype=dtype: run_deeplift(converter, x, dtype=dtype, **keys))
        sums = found.get_result("torch_tensor").double().flatten(1, -2).sum(1)
        assert torch.allclose(sums, goal, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_attnlrp_reaches_the_input(name):
    _, x, converter, _ = made(name)
    found = quietly(lambda: run_lrp(converter, x, rule_name="attnlrp", output_idx=0, ignore_last_act=False))
    relevance = found.get_result("torch_tensor")
    assert relevance.shape == (*x.shape, 1)
    assert bool(relevance.isfinite().all())
    assert bool((relevance != 0).any())
