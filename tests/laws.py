"""What holds for every method, every layer and every door: one tester, in the spirit of torchmetrics' ``MetricTester``.

A `Method` says how a method is called and which laws mathematics exempts it from, a `Subject` is a model with data.
`check` puts a method on a subject to all laws. Results are compared relative to the largest value of their kind.
"""

from __future__ import annotations

import contextlib
import copy
import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from one_of_each import LAYERS

import innsight_py
from innsight_py import Converter, rules

Arrays = list[np.ndarray]
ROWS, REFERENCES = 4, 3
#: How near answers must be that go another way to the same number, in double precision and (for LIME, SHAP) single.
NEAR, SINGLE = 1e-9, 2e-5


@dataclass(frozen=True)
class Method:
    """A method with its arguments, and the laws that it is exempt from.

    Attributes
    ----------
    function : str
        Name of the public function.
    keys : dict
        Its arguments.
    reference : str, optional
        The argument that takes references; ``x_ref`` takes one row.
    kind : {"converter", "module", "agnostic"}
        What it explains.
    positions : bool
        Whether draws belong to the position of a row in the batch, so that other orders of rows have other draws.
    noisy : bool
        Whether draws belong to features, or come out of the range of all of them.
    samples : bool
        Whether the answer is an estimate even where nothing depends on the draws.
    power : int
        With which power of a feature's scale its values go: -1 for a gradient, 0 for a contribution.
    idle : str, optional
        Why an input of weight 0 may get something; None: it gets nothing.
    """

    function: str
    keys: dict[str, Any] = field(default_factory=dict)
    reference: str | None = None
    kind: str = "converter"
    positions: bool = False
    noisy: bool = False
    samples: bool = False
    power: int = 0
    idle: str | None = None
    #: How near single precision comes. Rules that divide by stabilised or nearly cancelling sums have other
    #: constants there, as in R. A max pooling whose winner does not take all goes another way in single precision
    #: where the differences in a window nearly cancel: no bound.
    single: float = 2e-3

    @property
    def data_free(self) -> bool:
        """Whether the method answers without data."""
        return self.function == "run_cw" and not self.keys.get("times_input")


def _noise(function: str, kind: str = "converter", **keys: Any) -> Method:
    power = 0 if keys.get("times_input") else -1
    return Method(function, {"n": 6, "seed": 3, **keys}, kind=kind, positions=True, noisy=True, power=power)


#: Every public function that explains, with each of its rules. `test_no_method_is_forgotten` compares with the package.
METHODS: dict[str, Method] = {
    "Gradient": Method("run_grad", power=-1),
    "Gradient x Input": Method("run_grad", {"times_input": True}),
    "SmoothGrad": _noise("run_smoothgrad"),
    "SmoothGrad x Input": _noise("run_smoothgrad", times_input=True),
    "IntegratedGradient": Method("run_intgrad", {"n": 6}, "x_ref"),
    "IntegratedGradient, mean": Method("run_intgrad", {"n": 6, "times_input": False}, "x_ref", power=-1),
    "ExpectedGradient": Method("run_expgrad", {"n": 6, "seed": 3}, "data_ref", positions=True),
    "DeepLift": Method("run_deeplift", {}, "x_ref"),
    "DeepLift, mean": Method("run_deeplift", {"winner_takes_all": False}, "x_ref", single=np.inf),
    "DeepLift, reveal-cancel": Method("run_deeplift", {"rule_name": "reveal_cancel"}, "x_ref"),
    "DeepSHAP": Method("run_deepshap", {}, "data_ref"),
    "DeepSHAP, drawn": Method("run_deepshap", {"limit_ref": 2, "seed": 3}, "data_ref"),
    "LRP": Method("run_lrp"),
    "LRP, mean": Method("run_lrp", {"winner_takes_all": False}),
    "LRP, epsilon": Method("run_lrp", {"rule_name": "epsilon", "rule_param": 0.1}),
    "LRP, alpha-beta": Method("run_lrp", {"rule_name": "alpha_beta", "rule_param": 2.0}, single=2e-2),
    "LRP, gamma": Method("run_lrp", {"rule_name": rules.gamma(0.5, bias="share")},
        idle="bias='share' gives the bias's part to all inputs of an output in equal shares"),
    "LRP, composite": Method("run_lrp", {"rule_name": "epsilon_plus_flat", "merge_batch_norm": True},
        idle="the flat rule gives all inputs of an output equal shares, whatever their weights"),
    # The small number is 1e-6 in single precision: next to sums of few terms above 0 it counts. See
    # `test_single_precision_differs_by_the_small_number`.
    "LRP, excitation": Method("run_lrp", {"rule_name": "excitation_backprop"}, single=2e-2),
    "ConnectionWeights": Method("run_cw", power=-1),
    "ConnectionWeights x Input": Method("run_cw", {"times_input": True}),
    "LIME": Method("run_lime", {"n_permutations": 60, "seed": 3}, "data_ref", "agnostic", True, True, True,
        idle="a regression on a sample gives every feature something"),
    "SHAP": Method("run_shap", {"seed": 3}, "data_ref", "agnostic", True, True, True),
    "torch_grad": Method("torch_grad", kind="module", power=-1),
    "torch_smoothgrad": _noise("torch_smoothgrad", "module"),
    "torch_intgrad": Method("torch_intgrad", {"n": 6}, "x_ref", "module"),
    "torch_expgrad": Method("torch_expgrad", {"n": 6, "seed": 3}, "data_ref", "module", positions=True),
}  # fmt: skip

#: Methods that explain a layer alone, which models of one layer do not have; see `tests/methods/test_inner.py`.
INNER = {"run_conductance", "run_gradcam"}


@dataclass
class Subject:
    """A model, what is given to methods of each kind, and data with references."""

    converter: Converter
    data: Arrays
    references: Arrays
    module: torch.nn.Module | None = None
    #: Pairs of output nodes that have the same weights.
    twins: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, converter: Converter, seed: int = 7, **keys: Any) -> Subject:
        """Draw data that fit to a converter."""
        rng = np.random.default_rng(seed)
        dims = converter.input_dim
        return cls(
            converter, [rng.standard_normal((ROWS, *d)) for d in dims],
            [rng.standard_normal((REFERENCES, *d)) for d in dims], **keys,
        )  # fmt: skip

    @property
    def single(self) -> bool:
        """Whether the model has one input and one output layer, as LIME and SHAP need."""
        return len(self.converter.input_dim) == len(self.converter.output_dim) == 1


#: Which methods have no rule for a layer, by the beginning of their names.
REFUSED = {
    "Operator": ("DeepLift", "DeepSHAP", "LRP", "ConnectionWeights"),
    "Standardize": ("LRP", "ConnectionWeights"),
    "Multiply": ("ConnectionWeights",),
    "MatMul": ("LRP, alpha-beta", "LRP, gamma", "ConnectionWeights"),
    "Detach": ("ConnectionWeights",),
}


def refuses(kind: str, name: str) -> bool:
    return name.startswith(REFUSED.get(kind, ()))


def in_the_middle(kind: str) -> Subject:
    """Return a model with a layer behind others and before others, so that nothing about it is special."""
    rng = np.random.default_rng(5)
    dims, keys = LAYERS[kind]
    before = [
        {"type": "Scale", "name": f"scale_{i}", "inputs": [f"input_{i}"], "factor": [0.8], "shift": [0.1]}
        for i in range(1, len(dims) + 1)
    ]
    layer = {"type": kind, "name": "it", "inputs": [x["name"] for x in before], **keys}
    flat = {"type": "Flatten", "name": "flat", "inputs": ["it"]}
    (width,) = Converter({"input_dim": dims, "layers": [*before, layer, flat]}).output_dim[0]
    dense = {"type": "Dense", "name": "dense", "weight": rng.standard_normal((5, width)) / np.sqrt(width),
             "bias": 0.3 * rng.standard_normal(5), "activation_name": "tanh"}  # fmt: skip
    rows = rng.standard_normal((4, 5))
    end = {"type": "Dense", "name": "end", "weight": rows[[0, 1, 2, 1]], "bias": np.array([0.1, 0.2, 0.3, 0.2])}
    spec = {"input_dim": dims, "layers": [*before, layer, flat, dense, end]}
    return Subject.of(Converter(spec, dtype="double"), twins=((1, 3),))


@dataclass
class Trial:
    """A method on a subject."""

    method: Method
    subject: Subject

    def answer(self, rows: Any = None, **changes: Any) -> Arrays:
        """Run the method on some rows; return the result for each pair of an output and an input, ``(B, *dims, K)``."""
        result = self.run(rows, **changes)
        if isinstance(result, torch.Tensor):
            return [result.numpy()]
        return [np.zeros(0) if x is None else x.numpy() for row in result.result for x in row or []]

    def run(self, rows: Any = None, data: Any = None, references: Any = None, last: bool = False, **keys: Any) -> Any:
        """Call the public function; `last` gives the data channels last."""
        method, subject = self.method, self.subject
        data = subject.data if data is None else data
        references = subject.references if references is None else references
        data = data if rows is None else [x[rows] for x in data]
        single = method.kind != "converter"
        keys = {**method.keys, **keys}
        if method.kind != "module":
            keys["verbose"] = False
        if method.kind != "agnostic":
            keys.setdefault("dtype", "double")
        if last:
            keys["channels_first"] = False
            data, references = ([np.moveaxis(x, 1, -1) for x in xs] for xs in (data, references))
        if method.reference:
            references = [x[:1] for x in references] if method.reference == "x_ref" else references
            keys[method.reference] = references[0] if single else references
        model = subject.module if method.kind == "module" else subject.converter
        if method.kind != "module" and "output_idx" not in keys:
            keys["output_idx"] = [list(range(dim[0])) for dim in subject.converter.output_dim]
        function: Callable[..., Any] = getattr(innsight_py, method.function)
        if method.data_free:
            return function(model, **keys)
        return function(model, data[0] if single else data, **keys)

    def near(self, found: Arrays, expected: Arrays, tolerance: float | None = None) -> None:
        """Compare relative to the largest value of each result."""
        tolerance = tolerance or (SINGLE if self.method.kind == "agnostic" else NEAR)
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.shape == theirs.shape
            assert np.isfinite(ours).all()
            scale = np.abs(theirs).max(initial=0)
            error = float(np.abs(ours - theirs).max(initial=0))
            assert error <= tolerance * scale

    def same(self, found: Arrays, expected: Arrays) -> None:
        """Compare bit for bit."""
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)

    # -- laws of the calculation ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Check what holds for every model."""
        self.whole = self.answer()
        assert any(np.abs(x).max(initial=0) > 0 for x in self.whole), "the answer is 0 throughout"
        self.check_repetition()
        self.check_rows()
        self.check_chunks()
        self.check_outputs()
        self.check_layouts()
        self.check_precisions()
        self.check_failure()
        self.check_copies()

    def check_repetition(self) -> None:
        """Repeat the call: bit for bit the same."""
        self.same(self.answer(), self.whole)

    def check_rows(self) -> None:
        """Rows do not influence each other; their order does not matter; a subset has its part of the answer."""
        method = self.method
        if method.data_free:
            return
        others = [x.copy() for x in self.subject.data]
        for x in others:  # the same values in another order: the range, which SmoothGrad looks at, stays
            x[1:] = x[1:][::-1]
        self.near([x[:1] for x in self.answer(data=others)], [x[:1] for x in self.whole])
        if method.positions:
            return
        order = [2, 0, 3, 1]
        self.near(self.answer(order), [x[order] if x.size else x for x in self.whole])
        for some in ([1], [3, 0]):
            self.near(self.answer(some), [x[some] if x.size else x for x in self.whole])

    def check_chunks(self) -> None:
        """How many rows travel together does not matter, and neither does the order in which they do."""
        for size in (1, 3):
            self.near(self.answer(batch_size=size), self.whole)

    def check_outputs(self) -> None:
        """Take outputs in another order, or some of them: their part of the answer; equal nodes have equal answers."""
        dims = self.subject.converter.output_dim
        for a, b in self.subject.twins:
            self.near([x[..., a] for x in self.whole], [x[..., b] for x in self.whole])
        for choice in (slice(None, None, -1), slice(0, 1)):
            nodes = [list(range(dim[0]))[choice] for dim in dims]
            chosen = self.answer(output_idx=nodes[0] if self.method.kind == "module" else nodes)
            self.near(chosen, [x[..., choice] for x in self.whole])

    def check_layouts(self) -> None:
        """Channels first or last: the same answers."""
        if self.method.kind == "module":
            return  # takes data as the module does
        last = self.answer(last=True)
        first = [x if x.ndim < 4 else np.moveaxis(x, 1, -2) for x in self.whole]
        if self.method.noisy and any(x.ndim > 2 for x in self.subject.data):
            # LIME and SHAP go through the features in the order of the data.
            assert [x.shape for x in last] == [x.shape for x in first]
        if not self.method.noisy or self.method.kind == "converter":
            self.near(last, first)

    def check_precisions(self) -> None:
        """Single precision is near to double precision, and says what it is."""
        if self.method.kind == "agnostic":
            return  # single precision throughout
        single = self.answer(dtype="float")
        assert all(x.dtype == np.float32 for x in single if x.size)
        self.near([x.astype(np.float64) for x in single], self.whole, self.method.single)

    def check_failure(self) -> None:
        """Let a call fail: it leaves nothing behind."""
        if self.method.kind == "module":
            wrong = {"output_idx": [10**6]}
        else:
            wrong = {"output_idx": [[10**6]] * len(self.subject.converter.output_dim)}
        with pytest.raises(ValueError, match="output_idx"):
            self.run(**wrong)
        if not self.method.data_free:
            # What stops it midway is no number: NaN is refused, or travels through the model and is no answer.
            broken = [np.full_like(x, np.nan) for x in self.subject.data]
            with contextlib.suppress(ValueError):
                self.run(data=broken)
        self.same(self.answer(), self.whole)

    def check_copies(self) -> None:
        """Ask copies of the model, which give the same answers; results survive pickling."""
        result = self.run()
        thawed = pickle.loads(pickle.dumps(result))  # noqa: S301  (our own)
        arrays = [result] if isinstance(result, torch.Tensor) else [x for row in result.result for x in row or []]
        again = [thawed] if isinstance(thawed, torch.Tensor) else [x for row in thawed.result for x in row or []]
        for ours, theirs in zip(again, arrays, strict=True):
            assert (ours is None) == (theirs is None)
            assert ours is None or torch.equal(ours, theirs)
        frozen = pickle.dumps(self.subject.converter)
        for converter in (pickle.loads(frozen), copy.deepcopy(self.subject.converter)):  # noqa: S301
            subject = Subject(converter, self.subject.data, self.subject.references, self.subject.module)
            self.same(Trial(self.method, subject).answer(), self.whole)

    def check_threads(self, threads: int = 3) -> None:
        """Several threads share a model."""
        expected, found, errors = self.answer(), [[] for _ in range(threads)], []

        def work(i: int) -> None:
            try:
                torch.set_num_threads(1)
                found[i] = [self.answer() for _ in range(2)]
            except Exception as error:  # shown by the main thread
                errors.append(error)

        workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert not errors, errors
        for answers in found:
            for answer in answers:
                self.same(answer, expected)
