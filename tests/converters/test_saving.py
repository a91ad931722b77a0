"""Saved models: what comes back answers bit for bit as what went in, and files that are not right are refused."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from goldens import FOLDER
from one_of_each import GENERATOR, LAYERS, LOOKUPS, draw
from torch import nn

import innsight_py
from innsight_py import Converter, UnsupportedLayerError
from innsight_py.spec.layers import LAYER_SPECS

# Few steps and winner-takes-all are quick and R's default: that sums are then not exact is tested in test_residual.py.
pytestmark = pytest.mark.filterwarnings("ignore:.*attributions do not add up:UserWarning")


def model(kind: str) -> dict:
    """Return a model with the layer in the middle of a graph, in single and double precision, with names of its own."""
    dims, keys = LAYERS[kind]
    inputs = [f"input_{i + 1}" for i in range(len(dims))]
    # The output is Dense: its width is that of the layer in question.
    layer = {"type": kind, "name": "it: ä/1", "inputs": inputs, **keys}
    flat = {"type": "Flatten", "name": "flat", "inputs": ["it: ä/1"]}
    probe = Converter({"input_dim": dims, "layers": [layer, flat]})
    (width,) = probe.output_dim[0]
    last = {"type": "Dense", "weight": np.float32(draw(2, width)), "bias": draw(2), "activation_name": "sigmoid"}
    return {"input_dim": dims, "layers": [layer, flat, {**last, "name": "end", "inputs": ["flat"]}]}


def attempt(method: str, converter: Converter, *args, **kwargs):
    """Return an answer, or the error that says that there is none."""
    try:
        return getattr(innsight_py, method)(converter, *args, verbose=False, **kwargs)
    except UnsupportedLayerError as error:
        return str(error)


def entries(answer) -> list:
    """All tensors of an answer, and None where there is none."""
    flat = [x for row in answer.result for x in row]
    return flat + [x for part in (answer.preds, answer.decomp_goal) for x in part or []]


def compare(ours, theirs) -> None:
    """Compare two answers of a method bit for bit."""
    if isinstance(ours, str) or isinstance(theirs, str):
        assert ours == theirs
        return
    for x, y in zip(entries(ours), entries(theirs), strict=True):
        if x is None or y is None:  # an input that does not reach the output
            assert x is y
            continue
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x.numpy(), y.numpy())
    pd.testing.assert_frame_equal(ours.get_result("data.frame"), theirs.get_result("data.frame"), check_exact=True)


CALLS = [
    ("run_grad", {"times_input": True}),
    ("run_smoothgrad", {"n": 3, "seed": 1}),
    ("run_intgrad", {"n": 4}),
    ("run_deeplift", {"rule_name": "reveal_cancel"}),
    ("run_lrp", {"rule_name": "epsilon"}),
]


@pytest.mark.parametrize("dtype", ["float", "double"])
@pytest.mark.parametrize("kind", LAYERS)
def test_round_trip(kind, dtype, tmp_path):
    path = tmp_path / "model.safetensors"
    dims = LAYERS[kind][0]
    names = [[[f"{axis}.{i}" for i in range(n)] for axis, n in enumerate(dim)] for dim in dims]
    before = Converter(model(kind), dtype=dtype, input_names=names, output_names=["yes", "no"])
    before.save(path)
    after = Converter.load(path)
    assert after.dtype == before.dtype == dtype
    assert (after.input_dim, after.output_dim) == (before.input_dim, before.output_dim)
    assert (after.input_names, after.output_names) == (before.input_names, before.output_names)
    assert [spec.given().keys() for spec in after._spec.layers] == [spec.given().keys() for spec in before._spec.layers]
    for ours, theirs in zip(after._spec.layers, before._spec.layers, strict=True):
        for key, value in theirs.given().items():
            if isinstance(value, torch.Tensor):
                assert getattr(ours, key).dtype == value.dtype
                assert torch.equal(getattr(ours, key), value)
    rows = [draw(3, *dim) for dim in dims]
    for method, options in CALLS:
        compare(*(attempt(method, c, rows, dtype=dtype, **options) for c in (before, after)))
    compare(*(attempt("run_cw", c) for c in (before, after)))


def test_every_type_of_layer_is_saved():
    assert {*LAYERS, *LOOKUPS} == set(LAYER_SPECS)


class Odd(nn.Module):
    """Uses operators without a layer, with tensors among their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("points", torch.randn(3, 4))
        self.inner = nn.Linear(4, 3)

    def forward(self, x, y):
        a, _ = torch.sort(self.inner(x))
        b = torch.cdist(x, self.points).cumprod(1)
        return a * b, torch.softmax(torch.special.i1(y), -1)


def test_a_module_with_operators_of_its_own(tmp_path):
    path = tmp_path / "model.safetensors"
    before = Converter(
        Odd(), [(4,), (2,)], output_names=[pd.Categorical(list("abc"), categories=list("cab")), ["u", "v"]]
    )
    before.save(path)
    kinds = [layer.type for layer in before._spec.layers]
    assert kinds.count("Operator") >= 4
    after = Converter.load(path)
    labels = after.output_names[0][0]
    assert (list(labels), list(labels.categories)) == (list("abc"), list("cab"))
    rows = [draw(3, 4), draw(3, 2)]
    for method, options in CALLS[:3]:
        compare(*(attempt(method, c, rows, output_idx=[[0, 2], [1]], **options) for c in (before, after)))
    for method in ("run_deeplift", "run_lrp"):
        ours, theirs = (attempt(method, c, rows) for c in (before, after))
        assert isinstance(ours, str)
        assert ours == theirs  # also where in the user's module the operator stands


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        ("aten::to.dtype", [{"input": 0}, torch.float64]),
        ("aten::to.device", [{"input": 0}, torch.device("cpu"), torch.float32, False, True, torch.contiguous_format]),
        ("aten::clamp", [{"input": 0}, -math.inf, 0.5]),
        ("aten::cat", [[{"input": 0}, torch.ones(1, 2), {"input": 0}], 1]),
        ("aten::einsum", ["bi,bj->bi", [{"input": 0}, {"input": 0}]]),
    ],
)
def test_arguments_of_operators(operator, arguments, tmp_path):
    layer = {"type": "Operator", "operator": operator, "arguments": arguments, "shapes": [[1, 3]]}
    before = Converter({"input_dim": [3], "layers": [layer]})
    before.save(tmp_path / "m.safetensors")
    after = Converter.load(tmp_path / "m.safetensors")
    found = after._spec.layers[0].arguments
    for ours, theirs in zip(found, before._spec.layers[0].arguments, strict=True):
        assert type(ours) is type(theirs)
        assert str(ours) == str(theirs)
    x = torch.tensor(draw(2, 3), dtype=torch.float32)
    assert torch.equal(before.model(x)[0], after.model(x)[0])


def test_what_has_no_form_is_refused(tmp_path):
    layer = {"type": "Operator", "operator": "aten::relu", "arguments": [{"input": 0}], "shapes": [[1, 3]]}
    converter = Converter({"input_dim": [3], "layers": [layer]})
    converter._spec.layers[0].arguments.append(len)
    with pytest.raises(
        ValueError, match=r"cannot be saved: there is no form for 'Operator_1.arguments.1', the function"
    ):
        converter.save(tmp_path / "m.safetensors")


def test_the_spec_kept_as_a_dict_has_the_arguments_of_operators():
    before = Converter(model("Operator"), save_model_as_dict=True)
    after = Converter(before.model_as_dict)
    rows = draw(3, 5)
    compare(*(attempt("run_grad", c, rows) for c in (before, after)))


def test_a_path_is_a_model(tmp_path):
    path = tmp_path / "model.SAFETENSORS"
    Converter(model("Dense"), dtype="double", input_names=list("abcd")).save(str(path))
    for given in (path, str(path)):
        assert Converter(given).dtype == "float"  # what the call says
        assert Converter(given).input_names == [[list("abcd")]]
        assert Converter(given, input_names=list("efgh"), dtype="double").input_names == [[list("efgh")]]
    with pytest.raises(ValueError, match="'input_dim': the model takes"):
        Converter(path, input_dim=5)


def test_names_that_were_changed_later_are_saved(tmp_path):
    converter = Converter(model("Dense"))
    converter.output_names = [[["new", "names"]]]
    converter.save(tmp_path / "m.safetensors")
    assert Converter.load(tmp_path / "m.safetensors").output_names == [[["new", "names"]]]
    with pytest.raises(ValueError, match="output_names"):
        converter.output_names = [[["too", "many", "names"]]]
    converter.output_names[0][0].append("of all the nodes")
    with pytest.raises(ValueError, match="output_names"):
        converter.save(tmp_path / "m.safetensors")


def test_the_file_outlives_what_is_loaded_from_it(tmp_path):
    """Loaded weights are copies: what happens to the file later does not reach them."""
    path = tmp_path / "m.safetensors"
    Converter(model("Operator")).save(path)
    loaded = Converter.load(path)
    x = draw(2, 5)
    expected = innsight_py.run_grad(loaded, x).get_result()
    content = path.read_bytes()
    with open(path, "r+b") as file:
        file.write(bytes(len(content)))
    np.testing.assert_array_equal(innsight_py.run_grad(loaded, x).get_result(), expected)


def test_a_fresh_process_needs_no_framework(tmp_path):
    """A model that was converted where scikit-learn is can be explained where it is not."""
    path = tmp_path / "m.safetensors"
    Converter(FOLDER / "neuralnet" / "penguins.rds").save(path)
    code = (
        "import sys; from innsight_py import Converter, run_grad; c = Converter.load(sys.argv[1]);"
        "print(run_grad(c, [[1.0, 2.0, 3.0, 4.0]]).get_result().shape, c.output_names,"
        "[m for m in ('sklearn', 'rdata', 'keras', 'pickle5') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.split("\n")[0] == "(1, 4, 3) [[['Adelie', 'Gentoo', 'Chinstrap']]] []"


# -- files that are not right -------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    Converter(model("Conv2D"), dtype="double").save(path)
    return path


def rewrite(path, change, seal: bool = True) -> None:
    """Change the parts of a saved file, and its digest with them, as whoever means ill would."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    ours = json.loads(header["__metadata__"]["innsight_py"])
    spec = json.loads(ours["spec"])
    change(ours, spec)
    ours["spec"] = json.dumps(spec) if isinstance(ours["spec"], str) else ours["spec"]
    if seal:
        from safetensors.torch import load

        digest = hashlib.sha256(f"{ours['dtype']} {ours['spec']}".encode())
        for name, tensor in sorted(load(content).items()):
            digest.update(f" {name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.numpy().tobytes())
        ours["digest"] = digest.hexdigest()
    header["__metadata__"]["innsight_py"] = json.dumps(ours)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def test_the_seal_of_these_tests_is_right(saved):
    rewrite(saved, lambda ours, spec: None)
    Converter.load(saved)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_truncated(saved, part):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match="damaged, truncated or no safetensors file"):
        Converter.load(saved)


def test_every_changed_byte_of_the_arrays_is_noticed(saved):
    content = saved.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    for i in range(8 + length, len(content)):
        changed = bytearray(content)
        changed[i] ^= 1
        saved.write_bytes(changed)
        with pytest.raises(ValueError, match="is damaged: it is not what"):
            Converter.load(saved)


def test_changed_bytes_of_the_header_never_change_an_answer(saved):
    x = [draw(2, 2, 5, 6)]
    expected = innsight_py.run_grad(Converter.load(saved), x).get_result()
    content = saved.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    refused = 0
    for i in GENERATOR.choice(8 + length, 200, replace=False):
        changed = bytearray(content)
        changed[i] ^= 1 << GENERATOR.integers(8)
        saved.write_bytes(changed)
        try:
            converter = Converter.load(saved)
        except ValueError:
            refused += 1
        else:
            np.testing.assert_array_equal(innsight_py.run_grad(converter, x).get_result(), expected)
    assert refused > 150


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ours, spec: ours.update(version=2), "version 2 of the format.*reads version 1.*newer innsight_py"),
        (lambda ours, spec: ours.update(version="one"), "version 'one'"),
        (lambda ours, spec: ours.pop("version"), "holds no model that 'Converter.save'"),
        (lambda ours, spec: ours.update(dtype="half"), "damaged"),
        (lambda ours, spec: ours.update(spec=3), "damaged"),
        (lambda ours, spec: spec.pop("input_dim"), "lacks the key 'input_dim'"),
        (lambda ours, spec: spec["layers"][0].update(type="Exec"), "key 'type': expected one of"),
        (lambda ours, spec: spec["layers"][0].update(weight={"$tensor": "other"}), "KeyError: 'other'"),
        (lambda ours, spec: spec["layers"][0].update(weight={"$tensor": ["a"]}), "TypeError"),
        (lambda ours, spec: spec["layers"][0].update(weight=[[1.0]]), "expected an array with the axes"),
        (lambda ours, spec: spec["layers"][0].update(stride={"$float": "much"}), "could not convert"),
        (lambda ours, spec: spec["layers"][0].update(stride={"$float": "1e999"}), "whole numbers"),
        (lambda ours, spec: spec["layers"][0].update(stride={"$torch": "load"}), "torch.load is no type"),
        (lambda ours, spec: spec["layers"][0].update(stride={"$device": "nowhere"}), "RuntimeError"),
        (lambda ours, spec: spec["layers"][0].update(stride=2**70), "cannot take an input of shape"),
        (lambda ours, spec: spec.update(input_dim=[[2, 2**70]]), "no room for an input of shape"),
        (lambda ours, spec: spec["layers"][0].update(code="import os"), "unknown key 'code'"),
        (lambda ours, spec: spec["layers"][0].update(inputs=["nowhere"]), "there is no layer or input 'nowhere'"),
        (lambda ours, spec: spec.update(output_dim=[[7]]), "'output_dim': calculated"),
        (lambda ours, spec: spec.update(input_names=[[["a"]]]), "input_names"),
        (lambda ours, spec: spec.update(input_names=7), "input_names"),
        (lambda ours, spec: spec.update(input_names={"$labels": ["b"], "$levels": ["b", "b"]}), "must be unique"),
        (lambda ours, spec: spec.update(input_names={"$labels": ["a"], "$levels": ["b"]}), "not among the levels"),
        (lambda ours, spec: spec.update(layers="[]"), "at least one layer"),
    ],
)  # fmt: skip
def test_tampered(saved, change, message):
    rewrite(saved, change)
    with pytest.raises(ValueError, match=message) as caught:
        Converter.load(saved)
    assert str(saved) in str(caught.value)


def test_tampered_without_the_digest(saved):
    rewrite(saved, lambda ours, spec: spec["layers"][0].update(stride=[1, 1]), seal=False)
    with pytest.raises(ValueError, match="damaged"):
        Converter.load(saved)


@pytest.mark.parametrize(
    "operator",
    [
        "aten::from_file",  # opens a file
        "aten::save",
        "aten::relu_",  # changes its input
        "aten::add.out",
        "aten::item",  # gives no tensor
        "aten::arange",  # takes none
        "aten::nonsense",
        "aten::sort.nonsense",
        "aten::__class__",
        "aten::sort.__call__",
        "aten::sort.__class__",
        "prim::Print",
        "os::system",
        "sort",
        "aten::sort; import os",
        7,
    ],
)
def test_operators_that_are_more_than_a_calculation_are_refused(tmp_path, operator):
    path = tmp_path / "m.safetensors"
    Converter(model("Operator")).save(path)
    rewrite(path, lambda ours, spec: spec["layers"][0].update(operator=operator))
    with pytest.raises(ValueError, match="expected the name of an ATen operator"):
        Converter.load(path)


def test_a_deep_header_is_refused(saved):
    def nest(ours, spec):
        ours["spec"] = "[" * 100_000

    content = saved.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["innsight_py"] = "[" * 100_000
    text = json.dumps(header).encode()
    saved.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    with pytest.raises(ValueError, match="holds no model"):
        Converter.load(saved)


def test_foreign_files(tmp_path):
    from safetensors.torch import save_file

    foreign = tmp_path / "weights.safetensors"
    save_file({"weight": torch.zeros(2)}, foreign, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"holds no model that 'Converter.save' has written"):
        Converter.load(foreign)
    save_file({"weight": torch.zeros(2)}, foreign)
    with pytest.raises(ValueError, match=r"holds no model that 'Converter.save' has written"):
        Converter(foreign)
    foreign.write_bytes(b"PK\x03\x04 this is a zip file, not a safetensors file")
    with pytest.raises(ValueError, match="no safetensors file"):
        Converter.load(foreign)
    with pytest.raises(FileNotFoundError):
        Converter.load(tmp_path / "none.safetensors")


def test_paths(tmp_path):
    converter = Converter(model("Dense"))
    with pytest.raises(
        ValueError, match=r"Argument 'path': expected a path that ends in '.safetensors', got 'model.pt'"
    ):
        converter.save("model.pt")
    for call in (converter.save, Converter.load):
        with pytest.raises(TypeError, match="Argument 'path': expected a path, got 3"):
            call(3)
    with pytest.raises(OSError, match="cannot be written"):
        converter.save(tmp_path / "no" / "folder.safetensors")


def test_a_graph_on_another_precision_or_in_threads_is_saved_as_it_was_given(tmp_path):
    """What is saved are the weights as they were given, not those of the precision that was chosen."""
    converter = Converter(model("Dense"), dtype="float")
    converter.save(tmp_path / "m.safetensors")
    weight = Converter.load(tmp_path / "m.safetensors")._spec.layers[0].weight
    assert weight.dtype == torch.float64
    np.testing.assert_array_equal(weight.numpy(), LAYERS["Dense"][1]["weight"])
