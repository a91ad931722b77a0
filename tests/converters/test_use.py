"""`example`, `output`, `fixed` and `channels_first` for models that say themselves how they are called."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from innsight_py import Converter, run_deeplift, run_grad, run_lrp

RNG = np.random.default_rng(8)


def dense(name: str, source: str, out: int, size: int, act: str = "linear") -> dict:
    weight = RNG.standard_normal((out, size))
    return {"type": "Dense", "name": name, "inputs": [source], "weight": weight, "activation_name": act}


def two_heads() -> dict:
    """Return a spec with two inputs and two outputs."""
    return {
        "input_dim": [[2], [3]],
        "input_keys": ["context", "x"],
        "layers": [
            dense("a", "input_1", 4, 2),
            dense("b", "input_2", 4, 3),
            {"type": "Add", "name": "sum", "inputs": ["a", "b"]},
            {"type": "Activation", "name": "relu", "inputs": ["sum"], "act_name": "relu"},
            dense("score", "relu", 2, 4),
            dense("size", "relu", 1, 4),
        ],
        "outputs": ["score", "size"],
        "output_keys": ["score", "size"],
        "output_names": [["yes", "no"], ["size"]],
    }


DATA = {"context": RNG.standard_normal((3, 2)), "x": RNG.standard_normal((3, 3))}


@pytest.fixture(scope="module")
def spec():
    return two_heads()


@pytest.mark.parametrize(
    ("output", "keys", "numbers"),
    [("size", ["size"], [1]), (0, ["score"], [0]), (-1, ["size"], [1]), (["size", "score"], ["size", "score"], [1, 0]),
     ({"how large": "size"}, ["how large"], [1])],
)  # fmt: skip
def test_outputs_of_a_spec(spec, output, keys, numbers):
    whole, part = Converter(spec), Converter(spec, output=output)
    assert part.output_keys == keys
    assert part.output_names == [whole.output_names[number] for number in numbers]
    nodes = [[0, 1], [0]]
    expected = run_grad(whole, DATA, output_idx=nodes).result
    found = run_grad(part, DATA, output_idx=[nodes[number] for number in numbers]).result
    for i, number in enumerate(numbers):
        assert all(torch.equal(a, b) for a, b in zip(found[i], expected[number], strict=True))
    assert len(part.model.nodes) == (5 if len(numbers) == 1 else 6)


def test_a_fixed_input_of_a_spec(spec, tmp_path):
    """It gets nothing, LRP says what went there, and a file keeps it."""
    converter = Converter(spec, fixed="context", output="score")
    assert [port.kind for port in converter.inputs] == ["fixed", "table"]
    whole = Converter(spec, output="score")
    for run in (run_grad, run_lrp):
        expected = run(whole, DATA, dtype="double").get_result()["Input_2"]
        assert np.array_equal(run(converter, DATA, dtype="double").get_result(), expected)
    converter.save(tmp_path / "m.safetensors")
    again = Converter(tmp_path / "m.safetensors")
    assert again.inputs == converter.inputs
    assert np.array_equal(
        run_lrp(again, DATA, dtype="double").get_result(), run_lrp(converter, DATA, dtype="double").get_result()
    )
    later = Converter(tmp_path / "m.safetensors", fixed=["context"])
    assert later.inputs == converter.inputs


def test_an_example_of_a_spec(spec):
    assert Converter(spec, example=DATA).input_dim == [(2,), (3,)]
    assert Converter(spec, example=(DATA["context"], DATA["x"])).input_keys == ["context", "x"]
    with pytest.raises(ValueError, match=r"'x' of the model has the shape \(3,\).*example is \(4,\)"):
        Converter(spec, example=(DATA["context"], np.zeros((3, 4))))


def test_channels_last_of_a_spec():
    weight = RNG.standard_normal((2, 3, 2))
    model = {"input_dim": [3, 5], "layers": [{"type": "Conv1D", "weight": weight}, {"type": "Flatten"}]}
    x = RNG.standard_normal((2, 5, 3))
    last = Converter(model, channels_first=False)
    first = run_grad(Converter(model), x.transpose(0, 2, 1)).get_result()
    assert np.array_equal(run_grad(last, x).get_result(), first.transpose(0, 2, 1, 3))
    with pytest.raises(ValueError, match=r"'channels_first'.*tables"):
        Converter({"input_dim": [3], "layers": [{"type": "Dense", "weight": [[1.0, 2.0, 3.0]]}]}, channels_first=False)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"output": "scor"}, r"no output 'scor'.*'score'"),
        ({"output": 2}, "no output 2"),
        ({"output": True}, "no output True"),
        ({"output": lambda y: y}, "a function is traced with a PyTorch module"),
        ({"output": ["size", 1]}, "twice"),
        ({"fixed": "contxt"}, "no input 'contxt'"),
        ({"fixed": ["context", "x"]}, "no input is left"),
        ({"example": DATA["x"]}, r"2 input\(s\), 'context', 'x'; got 1"),
        ({"example": {"x": DATA["x"]}}, "none for 'context'"),
        ({"example": (np.zeros((2, 2)), np.zeros((1, 3)))}, "as many in each"),
    ],
)
def test_what_does_not_fit(spec, keys, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Converter(spec, **keys)


def test_an_example_without_numbers(spec):
    with pytest.raises(TypeError, match="expected arrays of numbers"):
        Converter(spec, example=(DATA["context"], "abc"))


# -- exported programs -----------------------------------------------------------------------------------------------


class Series(nn.Module):
    """A forecaster with its channels last, a mask of whole numbers, and two answers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.lift, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x, mask):
        y = torch.tanh(self.lift(x)) * mask[..., None].to(x.dtype)
        return {"mean": self.head(y.mean(1)), "last": self.head(y[:, -1])}


@pytest.fixture(params=["program", "file"])
def exported(request, tmp_path):
    example = (torch.randn(2, 5, 3), torch.ones(2, 5, dtype=torch.long))
    batch = torch.export.Dim("batch")
    program = torch.export.export(Series().eval(), example, dynamic_shapes=({0: batch}, {0: batch}))
    if request.param == "program":
        return program
    torch.export.save(program, tmp_path / "series.pt2")
    return str(tmp_path / "series.pt2")


MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])


@pytest.mark.parametrize("output", ["mean", 1, lambda y: y["mean"]], ids=["key", "number", "function"])
def test_an_exported_program_as_it_is_called(exported, output):
    """Whole numbers are fixed; the result is the module's own, through its own door."""
    if not isinstance(output, int) and isinstance(exported, str):
        output = 0
    x = RNG.standard_normal((2, 5, 3)).astype(np.float32)
    converter = Converter(exported, output=output, channels_first=False)
    assert [(port.dim, port.kind) for port in converter.inputs] == [((3, 5), "signal"), ((5,), "fixed")]
    own = Converter(
        Series().eval(), example=(torch.randn(1, 5, 3), torch.ones(1, 5, dtype=torch.long)),
        output="last" if output == 1 else "mean", channels_first=False,
    )  # fmt: skip
    for run in (run_grad, run_deeplift):
        found, expected = (run(c, [x, MASK]).get_result() for c in (converter, own))
        assert found.shape == (2, 5, 3, 2)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert not run_grad(converter, [x, MASK]).get_result()[1, 2:].any()


def test_an_example_fills_in_what_a_program_leaves_open():
    net = nn.Sequential(nn.Conv1d(2, 3, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    shapes = ({0: torch.export.Dim("b"), 2: torch.export.Dim("t", min=4)},)
    program = torch.export.export(net, (torch.randn(2, 2, 8),), dynamic_shapes=shapes)
    assert Converter(program, example=torch.randn(1, 2, 6)).input_dim == [(2, 6)]
    with pytest.raises(ValueError, match=r"Converter\(program, example=x\)"):
        Converter(program)


def test_a_fixed_input_of_a_program():
    class Two(nn.Module):
        def forward(self, x, z):
            return torch.relu(x) * z.sum(1, keepdim=True)

    program = torch.export.export(Two(), (torch.randn(1, 3), torch.randn(1, 2)))
    converter = Converter(program, fixed="z")
    x, z = RNG.standard_normal((2, 3)), RNG.standard_normal((2, 2))
    gradient = run_grad(converter, [x, z], dtype="double").get_result()
    expected = np.eye(3) * ((x > 0)[:, :, None] * z.sum(1)[:, None, None])
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-12)


def test_estimators():
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = RNG.standard_normal((40, 3))
    net = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", max_iter=500, random_state=0)
    pipe = make_pipeline(StandardScaler(), net).fit(x, x[:, 0])
    whole, converter = Converter(pipe), Converter(pipe, example=x, output=0)
    assert np.array_equal(run_lrp(converter, x).get_result(), run_lrp(whole, x).get_result())
    with pytest.raises(ValueError, match="no input is left"):
        Converter(pipe, fixed="input_1")
