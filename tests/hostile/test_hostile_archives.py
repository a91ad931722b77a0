"""Files of ``torch.export.save`` from strangers: none does anything, each is refused, with little work and memory."""

from __future__ import annotations

import json
import pickle
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import torch
from archives import Parts, first, harmless, last, node, overlapping, packed, two_lists
from sealed_files import memory

from innsight_py import Converter

MEGABYTE = 2**20
#: Calls of functions that a refusal may take, Python's own included; 2 seconds are about twenty million.
WORK = 12_000_000

i = lambda value: {"as_int": value}  # noqa: E731
ints = lambda *values: {"as_ints": list(values)}  # noqa: E731


@pytest.fixture(scope="module")
def honest() -> Parts:
    return harmless()


@pytest.fixture
def marker(tmp_path: Path, monkeypatch) -> Path:
    """Name a file that every attempt would leave behind; a module in the folder would leave it as well."""
    path = tmp_path / "MARK"
    (tmp_path / "some_module.py").write_text(f"import pathlib; pathlib.Path({str(path)!r}).touch(); x = None")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return path


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def set_formula(parts, text):
    parts.graph["tensor_values"]["relu"]["sizes"][0] = {"as_expr": {"expr_str": text, "hint": {"as_int": 1}}}


def set_structure(parts, kind, context, key="in_spec"):
    leaf = {"type": None, "context": None, "children_spec": []}
    spec = json.loads(parts.signature[key])
    spec[1] = {"type": kind, "context": context, "children_spec": [leaf]}
    parts.signature[key] = json.dumps(spec)


def set_meta(parts, **changed):
    parts.weights["config"]["0.weight"]["tensor_meta"].update(changed)


def set_payload(parts, **changed):
    parts.weights["config"]["0.weight"].update(changed)


def grown(parts, nodes):
    last(*nodes)(parts)


def repeated(n, target="relu.default", **more):
    """Make so many calls one after the other."""
    names = ["linear_1", *(f"v{k}" for k in range(n))]
    return [node(target, {"self": names[k], **more}, names[k + 1]) for k in range(n)]


def changes(mark: Path) -> dict:
    """Name attempts: what each changes in the parts, or makes of them."""
    text = {"as_string": str(mark)}
    yes = {"as_bool": True}
    enum = json.dumps([{"__enum__": True, "fqn": "some_module:x", "name": "y"}])
    expr = [{"as_expr": {"expr_str": f"__import__('pathlib').Path({str(mark)!r}).touch()"}}]
    return {
        # -- what would run or write something --
        "a file as memory": first(
            node("from_file.default", {"filename": text, "shared": yes, "size": i(3)}, "ff"),
            node("copy_.default", {"self": "ff", "src": "p_0_bias"}, "cp"),
        ),
        "an operator of another library": lambda p: p.graph["nodes"][0].update(target="torch.ops.custom.run.default"),
        "a function of Python": lambda p: p.graph["nodes"][0].update(target="os.system"),
        "a function of torch": lambda p: p.graph["nodes"][0].update(target="torch.ops.load_library"),
        "an attribute of an operator": lambda p: p.graph["nodes"][0].update(target="torch.ops.aten.relu.__class__"),
        "operators of the packet": lambda p: p.graph["nodes"][0].update(target="torch.ops.aten.__init__"),
        "a higher-order operator": lambda p: p.graph["nodes"][0].update(target="torch.ops.higher_order.cond"),
        "a class by its name": lambda p: set_structure(p, "builtins.dict", enum),
        "a class by its name in the outputs": lambda p: set_structure(p, "builtins.dict", enum, "out_spec"),
        "a registered container": lambda p: set_structure(p, "collections.namedtuple", '"some_module.x"'),
        "a default dict": lambda p: set_structure(p, "collections.defaultdict", enum),
        "a formula that is a program": lambda p: p.graph["tensor_values"][
            "x" if "x" in p.graph["tensor_values"] else "input"
        ].update(sizes=expr),
        "a formula that never ends": lambda p: set_formula(p, "9**9**9**9"),
        "a formula of calls": lambda p: set_formula(p, "Pow(Pow(Integer(9), Integer(9)), Integer(999999999))"),
        "a formula with attributes": lambda p: set_formula(p, "Symbol('s0').__class__"),
        "a symbol that is a program": lambda p: set_formula(p, "Symbol('s0', cls=__import__('some_module'))"),
        "a formula too deep": lambda p: set_formula(p, "(" * 5000 + "1" + ")" * 5000),
        "a range that is a program": lambda p: (
            p.model.update(guards_code=[f"open({str(mark)!r}, 'w')"]) or set_formula(p, "open(1)")
        ),
        "pickled weights": lambda p: set_payload(p, use_pickle=True),
        "weights in a pickle": lambda p: p.entries.update({"m/data/weights/model.pt": pickle.dumps(Payload(mark))}),
        "example inputs": lambda p: p.entries.update({"m/data/sample_inputs/model.pt": pickle.dumps(Payload(mark))}),
        "a custom object": lambda p: set_payload(p, path_name="custom_obj_0", use_pickle=False),
        "a path out of the archive": lambda p: set_payload(p, path_name="../../../etc/hostname"),
        "compiled code": lambda p: p.entries.update({"m/data/aotinductor/model/x.so": b"\x7fELF"}),
        "an argument with a graph": first(node("relu.default", {"self": {"as_graph": {"name": "x", "graph": {}}}})),
        "an argument that is an operator": first(node("relu.default", {"self": {"as_operator": "os.system"}})),
        "an argument that is an object": first(
            node("relu.default", {"self": {"as_custom_obj": {"name": "x", "class_fqn": "y"}}})
        ),
        # -- what draws, leaks or crashes --
        "random numbers": last(node("rand_like.default", {"self": "linear_1"})),
        "random places": last(node("bernoulli.default", {"self": "linear_1"})),
        "memory never written": last(node("empty_like.default", {"self": "linear_1"})),
        "an index that is not checked": last(
            node("_unsafe_index.Tensor", {"self": "linear_1", "indices": {"as_tensors": [{"name": "linear_1"}]}})
        ),
        "a result written elsewhere": last(
            node("add.out", {"self": "linear_1", "other": "linear_1", "out": "linear_1"})
        ),
        "a storage that changes": last(node("set_.source_Tensor", {"self": "linear_1", "source": "p_0_bias"})),
        "a tensor that grows": last(node("resize_.default", {"self": "linear_1", "size": ints(10**12)})),
        "a view beyond its memory": last(
            node(
                "as_strided.default",
                {"self": "linear_1", "size": ints(1, 2), "stride": ints(1, 1), "storage_offset": i(10**6)},
            )
        ),
        # -- what is not there, or there twice --
        "a weight of more numbers than bytes": lambda p: set_meta(p, sizes=[i(2**24), i(2**25)]),
        "a weight of four petabytes": lambda p: set_meta(p, sizes=[i(2**25), i(2**25)], strides=[i(0), i(0)]),
        "a weight beyond its file": lambda p: set_meta(p, storage_offset=i(10**9)),
        "negative strides": lambda p: set_meta(p, strides=[i(-4), i(1)]),
        "a dtype that is none": lambda p: set_meta(p, dtype=99),
        "no numbers at all": lambda p: p.entries.update({"m/data/weights/weight_0": b""}),
        "a value that nothing computes": last(node("relu.default", {"self": "nothing"})),
        "a value of its own future": first(node("relu.default", {"self": "linear_1"})),
        "two values of a name": last(node("relu.default", {"self": "linear_1"}, "linear")),
        "an argument that the operator has not": last(node("relu.default", {"self": "linear_1", "file": text})),
        "a program with lists too deep": lambda p: p.entries.update(
            {"m/data/constants/model_constants_config.json": b"[" * 100_000}
        ),
        # -- what takes too much --
        "a value of any size": last(
            node("repeat.default", {"self": "linear_1", "repeats": ints(10**7, 10**7)}),
            node("sum.default", {"self": "new"}, "s"),
        ),
        "a value of some gigabytes": last(
            node("repeat.default", {"self": "linear_1", "repeats": ints(10**5, 10**4)}, "r"),
            node("sum.default", {"self": "r"}, "s"),
        ),
        "a value of nothing": last(
            node("full.default", {"size": ints(10**6, 10**6), "fill_value": i(1)}, "f"),
            node("add.Tensor", {"self": "f", "other": "linear_1"}, "s"),
        ),
        "numbers without end": last(
            node("arange.default", {"end": i(10**12)}, "f"), node("sum.default", {"self": "f"}, "s")
        ),
        "doubling": lambda p: grown(
            p,
            [
                n
                for k in range(40)
                for n in [
                    node(
                        "cat.default",
                        {"tensors": {"as_tensors": [{"name": f"c{k - 1}" if k else "linear_1"}] * 2}, "dim": i(1)},
                        f"c{k}",
                    )
                ]
            ],
        ),
        "a polynomial of any degree": last(
            node("special_legendre_polynomial_p.n_scalar", {"x": "linear_1", "n": i(10**15)})
        ),
        "a recurrent layer without end": last(
            node("expand.default", {"self": "linear_1", "size": ints(10**7, 1, 2)}, "e"),
            node("zeros.default", {"size": ints(1, 1, 2)}, "h"),
            node("zeros.default", {"size": ints(2, 2)}, "w"),
            {
                **node(
                    "rnn_tanh.input",
                    {
                        "input": "e",
                        "hx": "h",
                        "params": {"as_tensors": [{"name": "w"}, {"name": "w"}]},
                        "has_biases": {"as_bool": False},
                        "num_layers": i(1),
                        "dropout": {"as_float": 0.0},
                        "train": {"as_bool": False},
                        "bidirectional": {"as_bool": False},
                        "batch_first": {"as_bool": False},
                    },
                ),
                "outputs": [{"as_tensor": {"name": "o"}}, {"as_tensor": {"name": "g"}}],
            },
            node("sum.default", {"self": "o"}, "s"),
        ),
        "parts without end": last(
            node("expand.default", {"self": "linear_1", "size": ints(10**6, 1, 2)}, "e"),
            node("unbind.int", {"self": "e"}, ["a", "b"]),
            node("relu.default", {"self": "a"}, "s"),
        ),
        "differences without end": last(
            node("expand.default", {"self": "linear_1", "size": ints(10**7, 1, 2)}, "e"),
            node("diff.default", {"self": "e", "n": i(10**7), "dim": i(0)}, "d"),
            node("sum.default", {"self": "d"}, "s"),
        ),
        "a size to a power": lambda p: grown(
            p,
            [
                {
                    "target": "torch.ops.aten.sym_size.int",
                    "inputs": [
                        {"name": "self", "arg": {"as_tensor": {"name": "linear_1"}}},
                        {"name": "dim", "arg": i(1)},
                    ],
                    "outputs": [{"as_sym_int": {"as_name": "n"}}],
                    "metadata": {},
                },
                {
                    "target": "_operator.pow",
                    "inputs": [{"name": "a", "arg": {"as_sym_int": {"as_name": "n"}}}, {"name": "b", "arg": i(10**12)}],
                    "outputs": [{"as_sym_int": {"as_name": "m"}}],
                    "metadata": {},
                },
                node(
                    "repeat.default",
                    {"self": "linear_1", "repeats": {"as_sym_ints": [{"as_int": 1}, {"as_name": "m"}]}},
                    "s",
                ),
            ],
        ),
        "many nodes and a mistake at the end": lambda p: grown(
            p, [*repeated(5000), node("relu.default", {"self": "nothing"})]
        ),
        "many nodes and a wrong shape": lambda p: grown(
            p, [*repeated(5000), node("view.default", {"self": "v4999", "size": ints(7, 7)})]
        ),
        "many nodes and an unknown operator": lambda p: grown(
            p, [*repeated(5000), node("from_file.default", {"filename": text})]
        ),
        # -- archives --
        "two archives in one": two_lists,
        "entries that share their bytes": overlapping,
        "compressed": lambda p: p.bytes(zipfile.ZIP_DEFLATED),
        "compressed zeros": lambda p: packed([("m/models/model.json", b" " * 500 * MEGABYTE)], zipfile.ZIP_DEFLATED),
        "two entries of a name": lambda p: p.bytes()[:0] + _twice(p),
        "something behind the end": lambda p: p.bytes() + b"PK\x05\x06" + b"\0" * 18,
        "another archive before it": lambda p: packed([("m/models/model.json", b"{}")]) + p.bytes(),
        "two programs": lambda p: p.entries.update({"m/models/other.json": b"{}"}),
        "cut short": lambda p: p.bytes()[:-100],
    }


def _twice(parts: Parts) -> bytes:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return packed([*parts.entries.items(), ("m/models/model.json", b"{}"), ("m/models/model.json", b"{}")])


NAMES = sorted(changes(Path("x")))


def made(parts: Parts, name: str, mark: Path) -> bytes:
    parts = parts.copy()
    result = changes(mark)[name](parts)
    return result if isinstance(result, bytes) else parts.bytes()


class _TooMuchError(BaseException):
    pass


def within_bounds(path: Path) -> str:
    """Open a file that must be refused; return why, and fail if that takes too much work."""
    count = 0

    def watch(frame, event, argument):
        nonlocal count
        count += 1
        if count > WORK:
            sys.setprofile(None)
            raise _TooMuchError

    sys.setprofile(watch)
    try:
        Converter(path)
    except ValueError as error:
        return str(error)
    finally:
        sys.setprofile(None)
    pytest.fail("was not refused")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_happens(name, honest, marker, tmp_path):
    path = tmp_path / "model.pt2"
    path.write_bytes(made(honest, name, marker))
    assert path.stat().st_size < 2 * MEGABYTE
    threads = threading.active_count()
    with memory() as peak:
        why = within_bounds(path)
    assert not marker.exists()
    assert "some_module" not in sys.modules
    assert why
    assert threading.active_count() == threads
    assert peak[0] < 200 * MEGABYTE


def test_the_harmless_one_is_read(honest, tmp_path):
    """And what stands behind the changes is right: nothing else is why the others are refused."""
    path = tmp_path / "model.pt2"
    path.write_bytes(honest.copy().bytes())
    x = torch.randn(3, 4)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    torch.manual_seed(0)
    for layer in (module[0], module[2]):
        layer.reset_parameters()
    assert Converter(path).model(x)[0].shape == (3, 2)
    more = honest.copy()
    last(*repeated(3))(more)
    path.write_bytes(more.bytes())
    torch.testing.assert_close(Converter(path).model(x)[0], torch.relu(module(x)))
