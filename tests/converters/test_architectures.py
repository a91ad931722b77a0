"""Architectures as people write them, no wrapper: a token classifier, a forecaster, a detector head."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from innsight_py import Converter, run_deeplift, run_grad


class TokenClassifier(nn.Module):
    """Every token has classes, from embeddings: logits ``(B, tokens, classes)``."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 3)

    def forward(self, inputs_embeds):
        return {"logits": self.head(self.encoder(inputs_embeds))}


class Forecaster(nn.Module):
    """The next two days of three series, from the last eight: a GRU, dilated convolutions, what was last."""

    def __init__(self):
        super().__init__()
        self.past = nn.Conv1d(3, 4, 3, padding=2, dilation=2)
        self.gru, self.head = nn.GRU(4, 5, batch_first=True), nn.Linear(5, 6)

    def forward(self, x):
        y = torch.relu(self.past(x.transpose(1, 2))).transpose(1, 2)
        return self.head(self.gru(y)[1][-1]).view(-1, 2, 3) + x[:, -1:]


class Detector(nn.Module):
    """A head over two scales: boxes and scores of every anchor, as single-shot detectors have them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 2, 1)
        self.scores = nn.ModuleList([nn.Conv2d(6, 2 * 3, 3, padding=1) for _ in range(2)])
        self.boxes = nn.ModuleList([nn.Conv2d(6, 2 * 4, 3, padding=1) for _ in range(2)])

    def forward(self, x):
        maps = [torch.relu(self.first(x))]
        maps.append(torch.relu(self.second(maps[0])))

        def gather(heads, width):
            return torch.cat([h(m).permute(0, 2, 3, 1).reshape(len(x), -1, width) for h, m in zip(heads, maps)], 1)  # noqa: B905

        return {"scores": gather(self.scores, 3), "boxes": gather(self.boxes, 4).sigmoid()}


CASES = {
    "tokens": (TokenClassifier, (4, 8), {"output": "logits", "channels_first": False}, (2, 1)),
    "forecaster": (Forecaster, (8, 3), {"channels_first": False}, (2, 0)),
    "detector, one anchor": (Detector, (3, 8, 8), {"output": "scores"}, (5, 2)),
    "detector, best score": (Detector, (3, 8, 8), {"output": lambda y: y["scores"].amax(1)}, (1,)),
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_gradients_and_sums(name):
    torch.manual_seed(6)
    build, dim, keys, node = CASES[name]
    model = build().double().eval()
    converter = Converter(model, example=torch.zeros(1, *dim), dtype="double", **keys)
    last = not keys.get("channels_first", True)

    def explained(x):
        out = model(x)
        output = keys.get("output")
        out = out if output is None else output(out) if callable(output) else out[output]
        return (out.movedim(-1, 1) if last and out.dim() > 2 else out)[(slice(None), *node)]

    x = torch.randn(2, *dim).double()
    chosen = node if len(node) > 1 else node[0]
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(explained(leaf).sum(), leaf)
    found = run_grad(converter, x, output_idx=[chosen], ignore_last_act=False, dtype="double")
    assert torch.allclose(found.preds[0][:, 0], explained(x).detach(), rtol=0, atol=1e-12)
    assert torch.allclose(found.get_result("torch_tensor")[..., 0], expected, rtol=0, atol=1e-12)
    if "best" not in name:  # the winner takes all of a maximum, as of every max pooling
        x_ref = torch.randn(1, *dim).double()
        lift = run_deeplift(converter, x, x_ref=x_ref, output_idx=[chosen], ignore_last_act=False, dtype="double")
        goal = (explained(x) - explained(x_ref)).detach()
        assert torch.allclose(lift.get_result("torch_tensor").flatten(1).sum(1), goal, rtol=0, atol=1e-10)
