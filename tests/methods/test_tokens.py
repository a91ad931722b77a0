"""Numbers that go into an embedding: one number a token or category, beside autograd on the vectors."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from innsight_py import (
    Converter,
    run_conductance,
    run_deeplift,
    run_deepshap,
    run_expgrad,
    run_grad,
    run_intgrad,
    run_lrp,
    run_smoothgrad,
)
from innsight_py.inputs.tokens import token_texts
from innsight_py.spec import SpecError

WORDS = ["[PAD]", "[MASK]", "a", "good", "bad", "film", "very", "not"]


class Reader(nn.Module):
    """A small attention over words, with a mask, positions that follow from the ids, and padding."""

    def __init__(self, masked=True):
        super().__init__()
        self.masked = masked
        self.words, self.positions = nn.Embedding(8, 6, padding_idx=0), nn.Embedding(12, 6)
        self.query, self.key, self.value = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 2)

    def forward(self, input_ids, attention_mask=None):
        return {"logits": self.behind(self.words(input_ids), input_ids, attention_mask)}

    def behind(self, vectors, input_ids, attention_mask):
        there = input_ids.ne(0)
        positions = torch.cumsum(there.int(), 1) * there
        x = vectors + self.positions(positions)
        mask = (attention_mask if self.masked else there)[:, None, None, :].bool()
        q, k, v = (layer(x).unsqueeze(1) for layer in (self.query, self.key, self.value))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)[:, 0]
        y = self.norm(x + mixed).masked_fill(~there[..., None], 0.0).sum(1) / there.sum(1, keepdim=True)
        return self.head(torch.tanh(y))


IDS = torch.tensor([[2, 3, 5, 0, 0], [2, 6, 4, 5, 0], [7, 3, 2, 6, 5]])
MASK = IDS.ne(0).long()


@pytest.fixture(scope="module")
def reader():
    torch.manual_seed(2)
    model = Reader().double().eval()
    batch = {"input_ids": IDS, "attention_mask": MASK}
    return model, batch, Converter(model, example=batch, output="logits", dtype="double", token_names=WORDS)


def behind(model, vectors, ids=IDS, mask=MASK):
    return model.behind(vectors, ids, mask)


def explained(method, converter, data, **keys):
    found = method(converter, data, dtype="double", ignore_last_act=False, **keys)
    return found, found.get_result("torch_tensor")


def test_kinds_and_texts(reader):
    _, batch, converter = reader
    assert [(port.key, port.kind) for port in converter.inputs] == [
        ("input_ids", "tokens"),
        ("attention_mask", "fixed"),
    ]
    found = run_grad(converter, batch)
    assert found.get_result().shape == (3, 5, 2)
    port = found.described.inputs[0]
    assert token_texts(found.data[0][1], port.token_names) == ["a", "very", "bad", "film", "[PAD]"]


def test_gradients_are_autograds(reader):
    model, batch, converter = reader
    vectors = model.words(IDS).detach().requires_grad_()
    out = behind(model, vectors)
    found, mine = explained(run_grad, converter, batch)
    assert torch.allclose(found.preds[0], out.detach(), rtol=0, atol=1e-12)
    for node in range(2):
        (expected,) = torch.autograd.grad(out[:, node].sum(), vectors, retain_graph=True)
        assert torch.allclose(mine[..., node], expected.sum(-1), rtol=0, atol=1e-12)
        _, at_layer = explained(run_grad, converter, batch, layer="words")
        assert torch.allclose(at_layer[..., node], expected, rtol=0, atol=1e-12)


REFERENCES = {
    "nothing": (None, lambda model: torch.zeros(1, 5, 6).double()),
    "zeros": ("zeros", lambda model: torch.zeros(1, 5, 6).double()),
    "an id": (1, lambda model: model.words(torch.ones(1, 5).long())),
    "ids": ([2, 1, 1, 1, 1], lambda model: model.words(torch.tensor([[2, 1, 1, 1, 1]]))),
    "ids of each row": (IDS.flip(0), lambda model: model.words(IDS.flip(0))),
    "an array": (np.array([[1, 2, 3, 4, 5]]), lambda model: model.words(torch.tensor([[1, 2, 3, 4, 5]]))),
    "vectors": (torch.full((5, 6), 0.5), lambda model: torch.full((1, 5, 6), 0.5).double()),
    "by name": ({"input_ids": 1}, lambda model: model.words(torch.ones(1, 5).long())),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_references(reader, name):
    """A reference changes the vectors; masks, positions and padding stay those of the row."""
    model, batch, converter = reader
    given, vectors = REFERENCES[name]
    with torch.no_grad():
        at = vectors(model).expand(3, 5, 6)
        goal = behind(model, model.words(IDS)) - behind(model, at)
    found, mine = explained(run_deeplift, converter, batch, x_ref=given)
    assert torch.allclose(found.decomp_goal[0], goal, rtol=0, atol=1e-12)
    assert torch.allclose(mine.sum(1), goal, rtol=0, atol=1e-12)
    n = 5
    path = explained(quiet(run_intgrad), converter, batch, x_ref=given, n=n)[1]
    start, end = at, model.words(IDS).detach()
    points = [(start + (end - start) * np.float32(j / n)).detach().requires_grad_() for j in range(1, n + 1)]
    gradients = [torch.autograd.grad(behind(model, point)[:, 1].sum(), point)[0] for point in points]
    expected = (torch.stack(gradients).mean(0) * (end - start)).sum(-1)
    assert torch.allclose(path[..., 1], expected, rtol=0, atol=1e-7)


def quiet(method):
    """Run a method that says that its few steps are not enough."""

    def run(*args, **keys):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="(?s).*do not add up")
            return method(*args, **keys)

    return run


def test_means_over_references(reader):
    model, batch, converter = reader
    pool = torch.tensor([[2, 3, 5, 6, 7], [1, 1, 1, 1, 1]])
    with torch.no_grad():
        at = [behind(model, model.words(ids.expand(3, 5))) for ids in pool]
        goal = behind(model, model.words(IDS)) - torch.stack(at).mean(0)
    found, mine = explained(run_deepshap, converter, batch, data_ref=pool)
    assert torch.allclose(found.decomp_goal[0], goal, rtol=0, atol=1e-12)
    assert torch.allclose(mine.sum(1), goal, rtol=0, atol=1e-12)
    drawn, values = explained(quiet(run_expgrad), converter, batch, data_ref=pool, n=800, seed=1)
    assert torch.allclose(drawn.decomp_goal[0], goal, rtol=0, atol=1e-12)
    assert torch.allclose(values.sum(1), goal, rtol=0, atol=0.2)
    still = explained(run_smoothgrad, converter, batch, n=3, noise_level=0)[1]
    assert torch.allclose(still, explained(run_grad, converter, batch)[1], rtol=0, atol=1e-12)
    assert bool((explained(run_smoothgrad, converter, batch, n=3, seed=1)[1] - still).abs().max() > 0)


def test_padding_changes_nothing(reader):
    _, _, converter = reader
    short = {"input_ids": torch.tensor([[2, 3, 5]]), "attention_mask": torch.ones(1, 3).long()}
    with pytest.warns(UserWarning, match=r"have the length 3, the example had 5.*said once") as said:
        found = run_deeplift(converter, short, x_ref=1, dtype="double")
    assert len(said) == 1
    padded = run_deeplift(converter, {"input_ids": IDS[:1], "attention_mask": MASK[:1]}, x_ref=1, dtype="double")
    mine = padded.get_result("torch_tensor")
    assert bool((mine[:, 3:] == 0).all())
    assert torch.allclose(mine[:, :3], found.get_result("torch_tensor"), rtol=0, atol=1e-12)
    again = run_deeplift(converter, short, x_ref=1, dtype="double")
    assert torch.equal(again.get_result("torch_tensor"), found.get_result("torch_tensor"))
    longer = {
        "input_ids": torch.tensor([[2, 3, 5, 0, 0, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 0, 0, 0, 0]]),
    }
    more = run_deeplift(converter, longer, x_ref=1, dtype="double").get_result("torch_tensor")
    assert torch.allclose(more[:, :3], mine[:, :3], rtol=0, atol=1e-12)
    shared = converter.fitting(short).model.layer("words").weight
    assert shared.data_ptr() == converter.model.layer("words").weight.data_ptr()


def test_a_saved_model_answers_alike(reader, tmp_path):
    _, batch, converter = reader
    converter.save(tmp_path / "model.safetensors")
    for again in (Converter.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(converter))):  # noqa: S301
        assert [port.kind for port in again.inputs] == ["tokens", "fixed"]
        for method in (run_grad, run_deeplift):
            ours, theirs = (method(one, batch, dtype="double").get_result() for one in (again, converter))
            assert np.array_equal(ours, theirs)


def test_no_mask_but_that_of_the_ids():
    torch.manual_seed(2)
    model = Reader(masked=False).double().eval()
    converter = Converter(model, example=IDS, output="logits", dtype="double")
    found, mine = explained(run_deeplift, converter, IDS, x_ref=1)
    with torch.no_grad():
        goal = behind(model, model.words(IDS)) - behind(model, model.words(torch.ones_like(IDS)))
    assert torch.allclose(mine.sum(1), goal, rtol=0, atol=1e-12)
    assert found.get_result().shape == (3, 5, 2)


def test_words_label_the_next_word():
    torch.manual_seed(0)

    class Next(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.mix = nn.Embedding(8, 4), nn.GRU(4, 4, batch_first=True)

        def forward(self, ids):
            return self.mix(self.words(ids))[0] @ self.words.weight.T

    model = Next().eval()
    ids = torch.tensor([[2, 6, 3]])
    converter = Converter(
        model, example=ids, output=lambda y: y[:, -1], token_names={w: i for i, w in enumerate(WORDS)}
    )
    assert converter.output_names[0][0] == WORDS
    found = run_deeplift(converter, ids, output_label=["film", "good"], x_ref=1)
    both = found.get_result("torch_tensor")
    assert found.output_label == [["film", "good"]]
    contrast = Converter(model, example=ids, output=lambda y: y[:, -1, 5] - y[:, -1, 3])
    one = run_deeplift(contrast, ids, x_ref=1).get_result("torch_tensor")
    assert torch.allclose(one[..., 0], both[..., 0] - both[..., 1], rtol=0, atol=1e-6)


# -- tables ------------------------------------------------------------------------------------------------------------


class Table(nn.Module):
    """Numbers and categories in one table: two columns go into embeddings of their own."""

    def __init__(self):
        super().__init__()
        self.sex, self.island, self.body = nn.Embedding(2, 3), nn.Embedding(3, 2), nn.Linear(7, 2)

    def forward(self, x):
        parts = [self.sex(x[:, 1].long()), self.island(x[:, 3].long()), x[:, :1], x[:, 2:3]]
        return self.behind(torch.cat(parts, 1))

    def behind(self, joined):
        return torch.tanh(self.body(joined))


def test_one_number_a_column():
    torch.manual_seed(1)
    model = Table().double().eval()
    frame = pd.DataFrame({"bill": [0.5, -1.0], "sex": [1, 0], "mass": [0.2, 2.0], "island": [2, 1]})
    converter = Converter(model, input_dim=4, input_names=list(frame.columns), dtype="double")
    assert [port.kind for port in converter.inputs] == ["table"]
    x = torch.tensor(frame.to_numpy())
    joined = torch.cat([model.sex(x[:, 1].long()), model.island(x[:, 3].long()), x[:, :1], x[:, 2:3]], 1).detach()
    joined.requires_grad_()
    (g,) = torch.autograd.grad(model.behind(joined)[:, 0].sum(), joined)
    expected = torch.stack([g[:, 5], g[:, :3].sum(1), g[:, 6], g[:, 3:5].sum(1)], 1)
    mine = explained(run_grad, converter, frame)[1][..., 0]
    assert torch.allclose(mine, expected, rtol=0, atol=1e-12)
    reference = pd.DataFrame({"bill": [0.1], "sex": [0], "mass": [0.0], "island": [0]})
    found, parts = explained(run_deeplift, converter, frame, x_ref=reference)
    with torch.no_grad():
        goal = model(x) - model(torch.tensor(reference.to_numpy()))
    assert torch.allclose(parts.sum(1), goal, rtol=0, atol=1e-12)
    assert parts[1, 1].tolist() == [0.0, 0.0]
    assert set(found.get_result("data.frame")["feature"]) == set(frame.columns)
    assert parts.shape == (2, 4, 2)


def test_categories_beside_numbers():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = nn.Embedding(10, 3), nn.Linear(8, 2)
            self.register_buffer("offsets", torch.tensor([0, 4]))

        def forward(self, numbers, codes):
            return torch.tanh(self.head(torch.cat([numbers, self.table(codes + self.offsets).flatten(1)], 1)))

    torch.manual_seed(3)
    model, numbers, codes = Two().double().eval(), torch.randn(2, 2).double(), torch.tensor([[3, 5], [0, 1]])
    converter = Converter(model, example=(numbers, codes), dtype="double", input_names=[["a", "b"], ["c", "d"]])
    assert [port.kind for port in converter.inputs] == ["table", "tokens"]
    found = run_deeplift(converter, [numbers, codes], x_ref=[torch.zeros(1, 2), [[1, 5]]], dtype="double")
    parts = list(found.get_result("torch_tensor").values())
    with torch.no_grad():
        goal = torch.atanh(model(numbers, codes)) - torch.atanh(
            model(torch.zeros(2, 2).double(), torch.tensor([[1, 5]] * 2))
        )
    total = sum(part.sum(1) for part in parts)
    assert torch.allclose(total, goal, rtol=0, atol=1e-10)
    assert parts[1][0, 1].tolist() == [0.0, 0.0]
    assert run_lrp(converter, [numbers, codes]).get_result()["Input_2"].shape == (2, 2, 2)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "keys", "said"),
    [
        ([[1, 2, 3, 4, 8]], {}, "from 0 to 7, for which the embedding has vectors, got 8"),
        ([[1, 2, 3, 4, -1]], {}, "got -1"),
        ([[1, 2, 3, 4, 0.5]], {}, r"whole numbers from 0 to 7.*got 0\.5"),
        (IDS, {"x_ref": 9}, "Argument 'x_ref'.*got 9"),
        (IDS, {"x_ref": "mean"}, "numbers of tokens have no 'mean'"),
        (IDS, {"x_ref": [[1, 2]]}, r"'x_ref'.*expected the shape"),
    ],
)
def test_what_is_no_token(reader, data, keys, said):
    torch.manual_seed(2)
    converter = Converter(Reader(masked=False).eval(), example=IDS, output="logits")
    with pytest.raises(ValueError, match=said):
        run_deeplift(converter, data, **keys)


def test_names_of_tokens_are_checked():
    with pytest.raises(TypeError, match=r"'token_names'.*convert_ids_to_tokens"):
        Converter(Reader(masked=False).eval(), example=IDS, output="logits", token_names=5)


class Related(nn.Module):
    """Heads of words beside a table of the model for each head, repeated for each row: a constant like data."""

    def __init__(self, together=torch.matmul):
        super().__init__()
        self.words, self.table, self.together = nn.Embedding(8, 6), nn.Parameter(torch.randn(2, 3, 4)), together

    def forward(self, ids):
        return self.behind(self.words(ids))

    def behind(self, vectors):
        heads = vectors.reshape(len(vectors), -1, 2, 3).transpose(1, 2)
        return self.together(heads, self.table.expand(len(vectors), -1, -1, -1)).tanh().sum((1, 2))


def by_bmm(heads, table):
    return torch.bmm(heads.flatten(0, 1), table.flatten(0, 1)).unflatten(0, heads.shape[:2])


@pytest.mark.parametrize(
    "together", [torch.matmul, by_bmm, lambda heads, table: torch.einsum("bhij,bhjk->bhik", heads, table * table)]
)
def test_a_constant_takes_nothing_from_the_ids(together):
    torch.manual_seed(3)
    model = Related(together).double()
    converter = Converter(model, example=IDS)
    vectors = model.words(IDS).detach().requires_grad_()
    _, found = explained(run_grad, converter, IDS, output_idx=1)
    (expected,) = torch.autograd.grad(model.behind(vectors)[:, 1].sum(), vectors)
    assert [port.kind for port in converter.inputs] == ["tokens"]
    assert torch.allclose(found[..., 0], expected.sum(-1), rtol=0, atol=1e-12)
    at = model.behind(model.words(torch.full_like(IDS, 1)))
    _, parts = explained(run_deeplift, converter, IDS, x_ref=1)
    assert torch.allclose(parts.sum(1), (model(IDS) - at).detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "names",
    [WORDS, dict(enumerate(WORDS)), {word: i for i, word in enumerate(WORDS)}],
    ids=["list", "texts", "numbers"],
)
def test_a_file_keeps_what_tokens_mean(names, tmp_path):
    model = {"input_dim": [3], "layers": [{"type": "Embedding", "weight": torch.randn(8, 2)}, {"type": "Flatten"}]}
    converter = Converter(model, token_names=names)
    converter.save(tmp_path / "words.safetensors")
    for again in (Converter.load(tmp_path / "words.safetensors"), Converter(tmp_path / "words.safetensors")):
        assert token_texts([3, 5, 1], again.inputs[0].token_names) == ["good", "film", "[MASK]"]
    other = Converter(tmp_path / "words.safetensors", token_names=lambda ids: [f"w{i}" for i in ids])
    assert token_texts([3], other.inputs[0].token_names) == ["w3"]
    other.save(tmp_path / "without.safetensors")
    assert Converter.load(tmp_path / "without.safetensors").inputs[0].token_names is None


@pytest.mark.parametrize("names", ["words", [1, 2], {"a": 1.5}, {1: "a"}])
def test_names_of_tokens_in_a_spec_are_texts(names):
    model = {"input_dim": [3], "layers": [{"type": "Embedding", "weight": torch.randn(8, 2)}], "token_names": names}
    with pytest.raises(SpecError, match="'token_names': expected a list of texts"):
        Converter(model)


class Hidden(nn.Module):
    """A layer at each word, of which conductance is asked, with a mask and a number beside."""

    def __init__(self):
        super().__init__()
        self.words, self.inner, self.out = nn.Embedding(8, 4), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, ids, there, weight):
        return self.behind(self.inner(self.words(ids)), there, weight)

    def behind(self, hidden, there, weight):
        return self.out((hidden.tanh() * there.unsqueeze(-1)).sum(1)) * weight


@pytest.mark.parametrize("reference", [1, None], ids=["an id", "zero vectors"])
def test_conductance_goes_along_vectors(reference):
    torch.manual_seed(0)
    model, n = Hidden().double(), 40
    data = {"ids": IDS, "there": MASK, "weight": torch.tensor([[0.5], [2.0], [-1.0]]).double()}
    converter = Converter(model, example=data, dtype="double", fixed=["weight"])
    found = run_conductance(converter, data, x_ref=reference, layer="inner", n=n, dtype="double")
    vectors = model.words(IDS).detach()
    start = torch.zeros_like(vectors) if reference is None else model.words(torch.full_like(IDS, reference)).detach()
    hidden = [model.inner(start + k / n * (vectors - start)).detach() for k in range(n + 1)]

    def slope(h):
        h = h.clone().requires_grad_()
        return torch.autograd.grad(model.behind(h, data["there"], data["weight"])[:, 1].sum(), h)[0]

    slopes = [slope(h) for h in hidden]
    expected = sum((slopes[k] + slopes[k + 1]) / 2 * (hidden[k + 1] - hidden[k]) for k in range(n))
    assert torch.allclose(found.get_result("torch_tensor")[..., 1], expected, rtol=0, atol=1e-12)
    with torch.no_grad():
        goal = model.behind(hidden[-1], data["there"], data["weight"]) - model.behind(
            hidden[0], data["there"], data["weight"]
        )
    assert torch.allclose(found.decomp_goal[0], goal, rtol=0, atol=1e-12)
