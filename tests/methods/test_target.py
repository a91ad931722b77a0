"""One node for each row: `target`, on every method, at the cost of one output."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import innsight_py as ip
from innsight_py.methods.registry import RUNNERS
from innsight_py.methods.walk import Walk

LABELS = ["ape", "bee", "cat", "dog"]
SETTINGS = {
    "cw": {"times_input": True}, "smoothgrad": {"n": 3}, "intgrad": {"n": 3, "times_input": False},
    "expgrad": {"n": 3}, "lime": {"n_permutations": 100},
}  # fmt: skip


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 4), nn.Softmax(1))


@pytest.fixture
def converter():
    return ip.Converter(net(), input_dim=(5,), output_names=LABELS)


X = torch.randn(6, 5, generator=torch.Generator().manual_seed(3)) * 3


def predicted() -> list[int]:
    return net()(X).argmax(1).tolist()


def settings(name: str) -> dict:
    more = dict(SETTINGS.get(name, {}))
    if name == "conductance":
        more["layer"] = "0"
    if name in ("smoothgrad", "expgrad", "deepshap", "lime", "shap"):
        more["seed"] = 1
    if name in ("expgrad", "deepshap", "shap"):
        more["data_ref"] = X[:4] / 2
    return more


def diagonal(values: np.ndarray, nodes: list[int]) -> np.ndarray:
    return np.stack([values[b, ..., [node]] for b, node in enumerate(nodes)])[:, 0].reshape(*values.shape[:-1], 1)


@pytest.mark.parametrize("name", [name for name in RUNNERS if name != "gradcam"])  # it needs images: test_inner.py
def test_a_target_is_the_diagonal_of_all_outputs(converter, name):
    assert len(set(predicted())) > 1
    everything = RUNNERS[name](converter, X, **settings(name))
    given = [3, 0, 2, 2, 1, 0]
    for target, nodes in (("predicted", predicted()), (given, given), ([LABELS[n] for n in given], given)):
        result = RUNNERS[name](converter, X, target=target, **settings(name))
        np.testing.assert_allclose(
            result.get_result(), diagonal(everything.get_result(), nodes), rtol=1e-5, atol=1e-6
        )  # fmt: skip
        assert result.target_idx == [nodes]
        assert result.target_label == [[LABELS[n] for n in nodes]]
        for of_one, of_all in ((result.preds, everything.preds), (result.decomp_goal, everything.decomp_goal)):
            if of_all is not None:
                expected = of_all[0][torch.arange(6), nodes].unsqueeze(1)
                torch.testing.assert_close(of_one[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["torch_grad", "torch_intgrad", "torch_smoothgrad", "torch_expgrad"])
def test_modules_as_they_are_take_one_too(name):
    more = {"seed": 1} if name in ("torch_smoothgrad", "torch_expgrad") else {}
    run = getattr(ip, name)
    found, everything = run(net(), X, target="predicted", **more), run(net(), X, **more)
    torch.testing.assert_close(found.numpy(), diagonal(everything.numpy(), predicted()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["grad", "lrp", "deeplift", "deepshap", "intgrad"])
def test_the_walk_carries_one_output(converter, name, monkeypatch):
    seeds, real = [], Walk._one_hot

    def note(self, *arguments):
        seed = real(self, *arguments)
        seeds.append(seed.shape[0])
        return seed

    monkeypatch.setattr(Walk, "_one_hot", note)
    RUNNERS[name](converter, X, target="predicted", **settings(name))
    assert set(seeds) == {1}


@pytest.mark.parametrize(
    "target",
    [2, "cat", np.full(6, 2), torch.full((6,), 2), pd.Series(["cat"] * 6), pd.Categorical(["cat"] * 6), [2] * 6],
    ids=["number", "label", "array", "tensor", "series", "categorical", "list"],
)
def test_forms_of_a_target(converter, target):
    assert ip.run_grad(converter, X, target=target).target_idx == [[2] * 6]


@pytest.mark.parametrize(
    ("target", "kind", "said"),
    [
        ([1, 2], ValueError, "expected 6 node(s), one for each row, got 2"),
        (4, ValueError, "has the nodes 0 to 3, got 4"),
        ("cats", ValueError, "did you mean 'cat'?"),
        ([0.5] * 6, TypeError, "expected node numbers or labels, got 0.5"),
        (1.5, TypeError, "expected 'predicted', a node number or label, or one of these for each row, got 1.5"),
    ],
)
@pytest.mark.parametrize("name", ["grad", "lime"])
def test_what_is_no_target(converter, name, target, kind, said):
    with pytest.raises(kind, match="Argument 'target'") as error:
        RUNNERS[name](converter, X, target=target)
    assert said in str(error.value)


def test_a_target_and_nodes_contradict_each_other(converter):
    with pytest.raises(ValueError, match="'target' and 'output_idx' both say what is explained"):
        ip.run_grad(converter, X, target="predicted", output_idx=1)


def test_several_output_layers():
    dense = {"type": "Dense", "weight": np.eye(3)[:2], "inputs": ["input_1"], "name": "two"}
    three = {"type": "Dense", "weight": -np.eye(3), "inputs": ["input_1"], "name": "three"}
    spec = {"input_dim": [3], "layers": [dense, three], "outputs": ["two", "three"], "output_keys": ["two", "three"]}
    converter, x = ip.Converter(spec), np.array([[1.0, 2.0, 3.0], [3.0, 2.0, -1.0]])
    assert ip.run_grad(converter, x, target="predicted").target_idx == [[1, 0], None]
    result = ip.run_grad(converter, x, target={"three": "predicted", "two": 0})
    assert result.target_idx == [[0, 0], [0, 2]]
    assert set(result.get_result()) == {"Output_1", "Output_2"}
    frame = result.get_result("data.frame")
    assert list(frame["output_node"].drop_duplicates()) == ["Y1", "Y3"]
    assert ip.run_grad(converter, x, target={"three": "predicted"}).result[0] is None


def test_weights_of_each_rows_own_class_take_data(converter):
    with pytest.raises(ValueError, match=r"a node for each row \(target\) needs"):
        ip.run_cw(converter, target="predicted")
    everything, own = ip.run_cw(converter).get_result(), ip.run_cw(converter, X, target="predicted").get_result()
    np.testing.assert_allclose(own[:, :, 0], everything[0].T[predicted()], rtol=1e-6)


# -- what is shown --------------------------------------------------------------------------------------------------


def test_frames_have_the_label_of_each_row(converter):
    frame = ip.run_deeplift(converter, X, target="predicted").get_result("data.frame")
    labels = frame.groupby("data", observed=True)["output_node"].unique()
    assert [list(labels[f"data_{b + 1}"]) for b in range(6)] == [[LABELS[n]] for n in predicted()]
    assert list(frame["output_node"].cat.categories) == LABELS


def test_the_summary_is_one_of_each_class(converter):
    result = ip.run_grad(converter, X, target="predicted")
    summary, values = result.summary(), np.abs(result.get_result()[:, :, 0])
    for node in set(predicted()):
        of_class = summary[summary["output_node"] == LABELS[node]].set_index("feature")["mean_abs"]
        expected = values[np.array(predicted()) == node].mean(0)
        np.testing.assert_allclose(of_class[[f"X{i + 1}" for i in range(5)]], expected, rtol=1e-6)


def test_pictures_say_which_class_each_row_has(converter):
    result = ip.run_grad(converter, X, target="predicted")
    rows = [predicted().index(node) for node in sorted(set(predicted()))][:2]
    frame = result.plot(rows).frame
    assert frame.nodes == ["predicted"]
    assert frame.instances == [f"data_{row + 1}: {LABELS[predicted()[row]]}" for row in rows]
    assert [panel.place.node for panel in frame.panels.flat] == [LABELS[predicted()[row]] for row in rows]
    assert result.plot(rows[0]).frame.nodes == [LABELS[predicted()[rows[0]]]]
    with pytest.raises(ValueError, match="each row was explained for a node of its own"):
        result.plot(output_idx=0)


def test_a_class_that_is_not_explained_is_named(converter):
    node = next(n for n in range(4) if n != predicted()[0])
    result = ip.run_grad(converter, X, output_idx=node)
    said = f"The largest output of data_1, '{LABELS[predicted()[0]]}', is not explained"
    assert said in " ".join(repr(result).split())
    assert said.replace("'", "&#x27;") in result._repr_html_()
    assert result.get_result("data.frame").attrs["note"].startswith(said)
    assert ("Largest", LABELS[predicted()[0]]) in result.plot(0).frame.info[0, 0].lines
    everything = ip.run_grad(converter, X, output_idx=range(4))
    assert "largest output" not in repr(everything)
    assert "note" not in everything.get_result("data.frame").attrs


def test_of_many_classes_the_first_ten_are_not_the_answer():
    torch.manual_seed(0)
    converter = ip.Converter(nn.Linear(3, 1000), input_dim=(3,))
    x = torch.randn(1, 3)
    node = int(converter.model(x)[0].argmax())
    assert node >= 10
    assert "target='predicted'" in " ".join(repr(ip.run_grad(converter, x)).split())
    assert ip.run_grad(converter, x, target="predicted").target_idx == [[node]]


# -- names of instances ---------------------------------------------------------------------------------------------


def test_instances_have_names(converter):
    table = pd.DataFrame(X.numpy(), index=[f"bird {b}" for b in range(6)])
    table.columns = [f"X{i + 1}" for i in range(5)]
    for result in (ip.run_grad(converter, table), ip.run_shap(converter, table, seed=1)):
        assert result.data_names == list(table.index)
        assert list(result.get_result("data.frame")["data"].cat.categories) == list(table.index)
    assert ip.run_grad(converter, table).plot([0, 2]).frame.instances == ["bird 0", "bird 2"]
    named = ip.run_grad(converter, X, data_names=list("abcdef"))
    assert named.get_result("xarray")["data"].values.tolist() == list("abcdef")
    assert named.plot_global(ref_data_idx=1).frame.panels[0, 0, 0].reference == "b"
    assert ip.torch_grad(net(), table, return_object=True).data_names == list(table.index)


def test_a_plain_count_is_no_name(converter):
    table = pd.DataFrame(X.numpy(), columns=[f"X{i + 1}" for i in range(5)])
    assert ip.run_grad(converter, table).data_names[0] == "data_1"
    assert ip.run_grad(converter, table.iloc[3:]).data_names == ["3", "4", "5"]
    twice = table.set_axis([1, 1, 2, 3, 4, 5])
    assert ip.run_grad(converter, twice).data_names[0] == "data_1"


@pytest.mark.parametrize(("names", "said"), [(["a"], "expected 6 names"), (list("aabcde"), "the name 'a' is there")])
def test_what_is_no_name(converter, names, said):
    with pytest.raises(ValueError, match=said):
        ip.run_grad(converter, X, data_names=names)


def maps():
    torch.manual_seed(5)
    layers = nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 4, 1)
    return ip.Converter(nn.Sequential(*layers), input_dim=(2, 4, 3)), torch.randn(2, 2, 4, 3)


@pytest.mark.parametrize("run", [ip.run_deeplift, ip.run_grad, ip.run_lrp, ip.run_intgrad])
@pytest.mark.parametrize("target", [
    [(3, 2, 1), (0, 3, 2)], torch.tensor([[3, 2, 1], [0, 3, 2]]), [("C4", "H3", "W2"), (0, "H4", 2)],
])  # fmt: skip
def test_targets_of_an_output_with_several_axes_are_tuples(run, target):
    converter, x = maps()
    result = run(converter, x, target=target)
    both = run(converter, x, output_idx=[(3, 2, 1), (0, 3, 2)])
    np.testing.assert_allclose(result.get_result(), diagonal(both.get_result(), [0, 1]), atol=1e-7)
    assert result.target_idx == [[(3, 2, 1), (0, 3, 2)]]
    assert result.target_label == [["C4, H3, W2", "C1, H4, W3"]]
    assert list(result.get_result("data.frame")["output_node"].unique()) == ["C4, H3, W2", "C1, H4, W3"]
    assert list(result.summary(1)["output_node"]) == ["C4, H3, W2", "C1, H4, W3"]


def test_one_target_of_an_output_with_several_axes_is_for_all_rows():
    converter, x = maps()
    result, other = ip.run_grad(converter, x, target=(1, 0, 2)), ip.run_grad(converter, x, output_idx=[(1, 0, 2)])
    np.testing.assert_array_equal(result.get_result(), other.get_result())


@pytest.mark.parametrize("target", ["predicted", 3, [], (4, 0, 0), [(0, 0), (1, 1)], [3, 1], [(0, 0, 0)]])
def test_targets_that_are_no_node_of_several_axes(target):
    converter, x = maps()
    with pytest.raises(ValueError, match="Argument 'target'"):
        ip.run_grad(converter, x, target=target)


def test_labels_that_are_truth_values():
    converter = ip.Converter(nn.Linear(3, 2), input_dim=3, output_names=["False", "True"])
    result = ip.run_grad(converter, torch.ones(2, 3), target=np.array([True, False]))
    assert result.target_label == [["True", "False"]]


# -- a target of what is explained already -----------------------------------------------------------------------


@pytest.mark.parametrize("target", ["predicted", [3, 0, 2, 2, 1, 0], ["dog", "ape", "cat", "cat", "bee", "ape"], 2])
@pytest.mark.parametrize("kind", ["array", "torch_tensor", "data.frame", "wide"])
def test_of_all_outputs_a_frame_shows_the_target(converter, target, kind):
    everything = ip.run_deeplift(converter, X, x_ref="mean")
    found, expected = (
        everything.get_result(kind, target=target),
        ip.run_deeplift(converter, X, x_ref="mean", target=target),
    )
    if kind in ("array", "torch_tensor"):
        torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(expected.get_result()), rtol=1e-5, atol=1e-6)
    else:
        pd.testing.assert_frame_equal(found, expected.get_result(kind), rtol=1e-4, atol=1e-5, check_dtype=False)
    assert everything.get_result().shape[-1] == 4


def test_of_all_outputs_pictures_show_the_target(converter):
    everything = ip.run_grad(converter, X, times_input=True)
    expected = ip.run_grad(converter, X, times_input=True, target="predicted")
    for found, its in (
        (everything.plot([0, 4], target="predicted"), expected.plot([0, 4])),
        (everything.plot_global(target="predicted"), expected.plot_global()),
        (everything.boxplot(target="predicted"), expected.boxplot()),
    ):
        assert found.frame.shape == its.frame.shape
        assert [p.place.output for p in found.frame.panels.flat] == [p.place.output for p in its.frame.panels.flat]
    (found, _), (its, _) = (
        p.frame.panels[:, 0, 0]
        for p in (everything.plot([0, 4], target=[1] * 6), everything.plot([0, 4], output_idx=1))
    )
    np.testing.assert_array_equal(found.values, its.values)
    with pytest.raises(ValueError, match="Arguments 'target' and 'output_idx' both say which nodes are shown"):
        everything.plot(target=0, output_idx=1)


def test_a_target_that_was_not_explained(converter):
    some = ip.run_grad(converter, X, output_idx=[0, 1])
    with pytest.raises(ValueError, match=r"node 2 \('cat'\) of .* was not explained for data_3 \(nor those of 1 other"):
        some.get_result(target=[0, 1, 2, 3, 0, 1])
    with pytest.raises(ValueError, match="expected 6 node"):
        some.plot(target=[0, 1])
    one_each = ip.run_grad(converter, X, target=[0, 1, 2, 3, 0, 1])
    np.testing.assert_array_equal(one_each.get_result(target=[0, 1, 2, 3, 0, 1]), one_each.get_result())
    with pytest.raises(ValueError, match="Run the method with this target"):
        one_each.get_result(target="bee")
    of_weights = ip.run_cw(converter)
    with pytest.raises(ValueError, match="without data has no rows"):
        of_weights.get_result(target=0)


def test_a_target_of_one_of_two_output_layers():
    torch.manual_seed(0)
    trunk, first, second = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 3)

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.first, self.second = trunk, first, second

        def forward(self, x):
            return self.first(self.trunk(x).tanh()), self.second(self.trunk(x).tanh())

    x = torch.randn(3, 3)
    both = ip.Converter(Two(), input_dim=(3,))
    everything = ip.run_grad(both, x, output_idx=[[0, 1], [2, 0]])
    key = both.output_keys[1]
    found = everything.get_result(target={key: [0, 2, 2]})
    np.testing.assert_allclose(found, ip.run_grad(both, x, target={key: [0, 2, 2]}).get_result(), rtol=1e-6)
