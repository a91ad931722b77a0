"""How weights lie in memory: once, in half precision where they came in it, and no copy stays without need."""

from __future__ import annotations

import gc
import pickle
import weakref
from typing import Any

import pytest
import torch
from peaks import MIB, images, peak
from torch import nn

from innsight_py import Converter, run_deeplift, run_grad, run_lrp
from innsight_py._checks import checked
from innsight_py.model import held

pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")

RUNS = [run_grad, run_deeplift, run_lrp]
DENSE = 3 * 32 * 32


def net(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return (
        nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(DENSE, 512), nn.ReLU(), nn.Linear(512, 200), nn.ReLU(), nn.Linear(200, 4),
        ).eval().to(dtype)
    )  # fmt: skip


def convert(module: nn.Module, **options) -> Converter:
    return Converter(module, input_dim=(3, 32, 32), **options)


def at_rest(converter: Converter) -> int:
    """Count the bytes of all weights that a converter holds, each storage once."""
    seen = {}
    tensors = [*converter.model.buffers(), *(getattr(s, k, None) for s in converter._spec.layers for k in ("weight",))]
    tensors += [getattr(s, "bias", None) for s in converter._spec.layers]
    tensors += [x for other in converter._others.made._used.values() for x in other.buffers()]
    for x in tensors:
        if isinstance(x, torch.Tensor):
            seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
    return sum(seen.values())


def test_weights_lie_in_memory_once():
    """Graph and spec share them, also the kernels, whose channels the graph has last."""
    module = net()
    converter = convert(module)
    for layer in converter._spec.layers:
        own = getattr(layer, "weight", None)
        if own is not None:
            assert converter.model.layer(layer.name).weight.data_ptr() == own.data_ptr(), layer.name
    weights = sum(x.numel() * 4 for x in module.parameters())
    assert weights <= at_rest(converter) <= 1.01 * weights
    for run in RUNS:
        run(converter, images(2, 32))
    assert at_rest(converter) <= 1.01 * weights


@pytest.mark.parametrize("run", RUNS)
def test_a_method_in_the_precision_of_the_model_copies_no_weights(run):
    """The weights take 6 MiB, and a call for one row far less."""
    converter, x = convert(net()), images(1, 32)
    assert sum(w.numel() * 4 for w in converter.model.buffers()) > 6 * MIB
    run(converter, x, verbose=False)
    assert peak(lambda: run(converter, x, verbose=False)) < 2 * MIB


def test_the_module_stays_and_the_converter_keeps_what_was_converted():
    module = net()
    before = {name: (x.data_ptr(), x._version, x.clone()) for name, x in module.named_parameters()}
    converter, x = convert(module), images(2, 32)
    expected = run_grad(converter, x).result[0][0]
    for name, parameter in module.named_parameters():
        place, version, value = before[name]
        assert (parameter.data_ptr(), parameter._version) == (place, version)
        assert torch.equal(parameter, value)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3)
    assert torch.equal(run_grad(converter, x).result[0][0], expected)


def test_a_large_copy_lives_as_long_as_its_results(monkeypatch):
    monkeypatch.setattr(held, "KEPT_BYTES", 1000)
    converter, x = convert(net()), images(2, 32)
    result = run_grad(converter, x, dtype="double")
    copies = converter._others.made._used
    assert len(copies) == 1
    again = run_deeplift(converter, x, dtype="double")
    assert again._in_use is result._in_use
    assert pickle.loads(pickle.dumps(result))._in_use is None  # noqa: S301
    del result, again
    gc.collect()
    assert len(copies) == 0


def test_a_small_copy_is_kept():
    converter, x = convert(net()), images(2, 32)
    kept = run_grad(converter, x, dtype="double")._in_use
    gc.collect()
    assert run_grad(converter, x, dtype="double")._in_use is kept


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", ["float", "double"])
@pytest.mark.parametrize("run", RUNS)
def test_half_precision_is_explained_like_its_float(half, dtype, run):
    """To the last digit, since each number of half precision is one of single precision."""
    module, x = net(half), images(2, 32)
    converter = convert(module)
    matrix = converter.model.layer("5")
    assert matrix._buffers.get("weight").dtype == half
    assert matrix.weight.dtype == torch.float32
    found = run(converter, x, dtype=dtype).result[0][0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("innsight_py.spec.fields.LARGE", 2**40)
        plain = convert(module.float())
    assert plain.model.layer("5")._buffers.get("weight").dtype == torch.float32
    assert torch.equal(found, run(plain, x, dtype=dtype).result[0][0])


def test_half_precision_takes_half_the_memory():
    module = net(torch.bfloat16)
    weights = sum(x.numel() for x in module.parameters())
    converter = convert(module)
    assert at_rest(converter) <= 1.02 * 2 * weights
    result = run_deeplift(converter, images(2, 32), dtype="double")
    assert at_rest(converter) <= 1.1 * 2 * weights  # small arrays are copied, not the matrices
    assert result is not None


def test_half_precision_is_saved_and_read(tmp_path):
    converter, x = convert(net(torch.bfloat16)), images(2, 32)
    converter.save(tmp_path / "half.safetensors")
    read = Converter.load(tmp_path / "half.safetensors")
    assert read.model.layer("5")._buffers.get("weight").dtype == torch.bfloat16
    assert torch.equal(run_grad(read, x).result[0][0], run_grad(converter, x).result[0][0])


def test_numbers_that_half_precision_cannot_hold_stay():
    module = net(torch.bfloat16).float()
    with torch.no_grad():
        module[5].weight[-1, -1] += 1e-6
    held_weight = convert(module).model.layer("5")._buffers.get("weight")
    assert held_weight.dtype == torch.float32
    assert torch.equal(held_weight, module[5].weight)


def test_the_first_call_of_a_function_keeps_none_of_its_data():
    """What pydantic keeps for good of its caller was the data, the model and the result of a first call."""

    @checked
    def explain(x: Any) -> int:
        return len(x)

    module = nn.Linear(1, 1)
    seen = weakref.ref(module)
    assert explain([module]) == 1
    del module
    gc.collect()
    assert seen() is None


class Attention(nn.Module):
    """Attention of many tokens with four heads, whose scores are by far the widest values."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.end = nn.Linear(16, 10)

    def forward(self, x):
        rows, tokens, _ = x.shape
        parts = (part(x).view(rows, tokens, 4, 4).transpose(1, 2) for part in (self.query, self.key, self.value))
        y = nn.functional.scaled_dot_product_attention(*parts).transpose(1, 2).reshape(rows, tokens, 16)
        return self.end((x + y).mean(1))


@pytest.mark.parametrize(
    ("run", "options"),
    [
        (run_grad, {}),
        (run_deeplift, {}),
        (run_lrp, {"rule_name": "attnlrp"}),
    ],
    ids=["gradient", "deeplift", "attnlrp"],
)
def test_scores_of_attention_come_in_chunks(run, options):
    """Ten outputs take what one takes: the scores of 512 tokens, 4 MiB each, never come ten at a time."""
    tokens, few, many = 512, [0], list(range(10))
    torch.manual_seed(0)
    converter = Converter(Attention().eval(), input_dim=(tokens, 16))
    x = torch.randn(1, tokens, 16)
    run(converter, x, output_idx=few, verbose=False, **options)
    one, ten = (peak(lambda k=k: run(converter, x, output_idx=k, verbose=False, **options)) for k in (few, many))
    scores = 4 * tokens * tokens * 4
    assert one > 4 * scores
    assert ten <= one + 1.5 * scores  # what LRP divides by is kept for the next of the ten
