"""Mutation testing: break the code that computes in every small way, and see whether a test notices.

    python tests/mutants.py innsight_py/layers innsight_py/methods
    python tests/mutants.py innsight_py/layers/rules.py --line 57
    python tests/mutants.py innsight_py/layers --imports

Each mutant is one change of the syntax tree of one module: an operator, a comparison, a condition, a constant, an
argument of a clamp, a function for its opposite. It lives in a process of its own, forked after the tests have been
collected, where the functions of the module get the mutant's code; nothing on the disk is touched. The tests run in a
random order, those first that noticed other mutants, until one fails. What survives is printed. Messages, names and
checks of arguments are left alone: they are no numbers.

(mutmut 3.8 skips functions with decorators, where the bodies of all methods lie: their ``__init__`` are ``@checked``.)
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import gc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FunctionType

import numpy as np
import pandas as pd  # noqa: F401  (what is slow is imported before the processes fork)
import pytest
import torch  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
#: Tests that look at numbers, those that are likely to notice first.
LAYERS = ["test_every_layer.py", "test_layer_oracle.py", "test_numbers.py", "test_invariants.py"]
METHODS = ["test_invariants.py", "test_numbers.py", "test_golden_small.py", "test_engine.py"]
OF_MODULE = {
    "agnostic": ["test_agnostic.py"], "lime": ["test_agnostic.py"], "shap": ["test_agnostic.py"],
    "direct": ["test_direct.py"],
}  # fmt: skip
#: Functions that make texts or check arguments.
SILENT = {
    "_fields", "__repr__", "extra_repr", "_unsupported", "kind", "reference_text", "_rule_name_text", "_rule_param_text",
    "_check_classes", "_check_rule_name", "_check_rule_param", "__init_subclass__", "_document", "_documented",
    "_explainable", "import_extra", "_runner", "check", "needs_axes", "not_the_batch", "expect",
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPPOSITES = {
    "min": "max", "max": "min", "amax": "amin", "minimum": "maximum", "maximum": "minimum", "mean": "sum",
    "sum": "mean", "zeros_like": "ones_like", "ones_like": "zeros_like", "new_zeros": "new_ones",
    "new_ones": "new_zeros", "zeros": "ones", "ones": "zeros", "any": "all", "all": "any", "ceil": "floor",
    "reshape": None, "sgn": "abs", "abs": "sgn", "exp": "expm1", "rsqrt": "sqrt", "scatter_add_": "scatter_",
}  # fmt: skip


def _variants(node: ast.AST) -> Iterator[ast.AST]:
    """Yield nodes that may stand for a node."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
    if isinstance(node, ast.AugAssign) and type(node.op) in OPERATORS:
        yield ast.AugAssign(node.target, OPERATORS[type(node.op)](), node.value)
        yield ast.Assign([node.target], node.value, lineno=node.lineno)
    if isinstance(node, ast.Compare):
        other = copy.copy(node)
        other.ops = [COMPARISONS[type(node.ops[0])](), *node.ops[1:]]
        yield other
    if isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.UAdd):
        yield node.operand
    if isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    if isinstance(node, ast.If | ast.While):
        other = copy.copy(node)
        other.test = ast.UnaryOp(ast.Not(), node.test)
        yield other
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, bool):
        yield ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)
        if not isinstance(node.value, bool) and node.value not in (0, -1):
            yield ast.Constant(0)
    if isinstance(node, ast.Call):
        yield from _calls(node)


def _calls(node: ast.Call) -> Iterator[ast.Call]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    opposite = OPPOSITES.get(name)
    if opposite:
        other = copy.copy(node)
        other.func = copy.copy(node.func)
        setattr(other.func, "attr" if isinstance(node.func, ast.Attribute) else "id", opposite)
        yield other
    if name == "clamp":
        for keyword in node.keywords:
            other = copy.copy(node)
            other.keywords = [ast.keyword({"min": "max", "max": "min"}[str(keyword.arg)], keyword.value)]
            yield other
    if name == "where" and len(node.args) == 3:
        yield ast.Call(node.func, [node.args[0], node.args[2], node.args[1]], [])


class _Places(ast.NodeVisitor):
    """Lists the nodes of a module that may be mutated."""

    def __init__(self) -> None:
        self.found: list[ast.AST] = []

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom):
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in SILENT:
            return
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("tqdm", "TypeVar"):
            return
        self.found.append(node)
        for field, value in ast.iter_fields(node):
            if field in ("decorator_list", "annotation", "returns", "type_comment"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self.visit(child)


#: Words in the names of tests that go through the code of a base class.
WORDS = {
    "_Diagonal": ("BatchNorm", "Scale"), "_Averaging": ("Average",), "_WindowMean": ("Average", "Max"),
    "_DilatedMean": ("dilat", "Max"), "_AdaptiveMean": ("Adaptive",), "_GlobalMean": ("Global",), "_Winner": ("Max",),
    "_Product": ("Multiply", "MatMul"), "_Convolution": ("Conv",), "_TransposedConvolution": ("Transpose",),
    "_Weighted": ("Dense",), "Walk": ("chunk", "invariants"), "GlobalMaxPooling": ("Global",),
    "GradientBased": ("Grad",), "LRP": ("LRP", "lrp"), "ConnectionWeights": ("Connection", "cw"),
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A changed module.

    Attributes
    ----------
    line, change : int, str
        Where, and what.
    tree : ast.Module
        The module.
    inside : bool
        Whether the change lies within the body of a function.
    words : tuple of str
        What tests of the place are likely to have in their names.
    """

    line: int
    change: str
    tree: ast.Module
    inside: bool
    words: tuple[str, ...] = ()


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module, one at a time: they share a tree."""
    tree = ast.parse(source)
    places = _Places()
    places.visit(tree)
    bodies = [
        (f.body[0].lineno, f.end_lineno or 0) if isinstance(f, ast.FunctionDef) else (f.lineno, f.end_lineno or 0)
        for f in ast.walk(tree)
        if isinstance(f, ast.FunctionDef | ast.Lambda)
    ]
    scopes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    scopes = [(scope.name, scope.lineno, scope.end_lineno or 0) for scope in scopes]
    for node in places.found:
        for variant in _variants(node):
            kept, kind = dict(vars(node)), type(node)
            line = kept["lineno"]
            before = ast.unparse(node).splitlines()[0]
            after = ast.unparse(variant).splitlines()[0]
            _become(node, variant)
            ast.copy_location(node, ast.Constant(0, **{k: v for k, v in kept.items() if k.endswith(("no", "offset"))}))
            ast.fix_missing_locations(tree)
            names = [name for name, first, last in scopes if first <= line <= last]
            words = tuple(word for name in names for word in WORDS.get(name, (name.strip("_"),)))
            yield Mutant(line, f"{before}  ->  {after}", tree, any(a <= line <= b for a, b in bodies), words)
            node.__class__ = kind
            vars(node).clear()
            vars(node).update(kept)


def _become(node: ast.AST, other: ast.AST) -> None:
    content = dict(vars(other))
    node.__class__ = type(other)
    vars(node).clear()
    vars(node).update(content)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def implant(tree: ast.Module, path: Path) -> None:
    """Give all functions of a loaded module the code of its mutant."""
    fresh = {(c.co_qualname, c.co_firstlineno): c for c in _codes(compile(tree, str(path), "exec"))}
    for function in gc.get_objects():
        if type(function) is FunctionType and function.__code__.co_filename == str(path):
            code = fresh.get((function.__code__.co_qualname, function.__code__.co_firstlineno))
            if code is not None:
                function.__code__ = code


class _Loader(importlib.machinery.SourceFileLoader):
    """Finds one module, with other code in it."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        super().__init__(name, path)
        self.code = compile(tree, path, "exec")

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == self.name else None

    def get_code(self, name: str) -> CodeType:
        return self.code


class Hunt:
    """A plugin of pytest: runs the collected tests not once, but once a mutant, in processes forked off."""

    def __init__(self, file: Path, options: argparse.Namespace) -> None:
        self.file, self.options = file, options
        self.survivors: list[str] = []
        self.total = 0
        self.kills: Counter[int] = Counter()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        numbers = [int(n) for n in np.random.default_rng(1).permutation(len(session.items))]
        started = time.monotonic()
        intact = Mutant(0, "", ast.parse(self.file.read_text()), inside=True)
        if (failed := self._fate(session, intact, numbers)) is not None:
            what = session.items[failed].nodeid if failed >= 0 else "a test ends the process"
            raise pytest.UsageError(f"the tests fail without any mutant: {what}")
        for i, mutant in enumerate(mutants(self.file.read_text())):
            chosen = not self.options.line or mutant.line == self.options.line
            if not chosen or i % self.options.every != self.options.start or not mutant.inside:
                continue
            self.total += 1
            fits = [sum(word in item.nodeid for word in mutant.words) for item in session.items]
            order = sorted(numbers, key=lambda n: (-fits[n] if self.kills[n] < 3 else -9, -self.kills[n]))
            killer = self._fate(session, mutant, order)
            if killer is None:
                self.survivors.append(f"{self.file.relative_to(ROOT)}:{mutant.line}: {mutant.change}")
                print(self.survivors[-1], file=sys.__stderr__, flush=True)
            elif killer >= 0:
                self.kills[killer] += 1
        print(
            f"# {self.file.relative_to(ROOT)}: {self.total} mutants, {len(self.survivors)} survived, "
            f"{time.monotonic() - started:.0f} s", file=sys.__stderr__, flush=True,
        )  # fmt: skip
        return True

    def _fate(self, session: pytest.Session, mutant: Mutant, order: list[int]) -> int | None:
        """Return the number of the test that noticed, -1 if the process ended otherwise, None if none did."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            signal.alarm(int(self.options.seconds) + 60)
            try:
                implant(mutant.tree, self.file)
                end = time.monotonic() + self.options.seconds
                items = [session.items[n] for n in order]
                for n, item, following in zip(order, items, [*items[1:], None], strict=True):
                    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                    if session.testsfailed:
                        os.write(writer, str(n).encode())
                        break
                    if time.monotonic() > end:
                        os.write(writer, b"none")
                        break
                else:
                    os.write(writer, b"none")
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as answers:
            answer = answers.read()
        os.waitpid(child, 0)
        return None if answer == "none" else int(answer or -1)


def outside(file: Path, name: str, mutant: Mutant, tests: list[str]) -> bool:
    """Tell whether tests miss a mutant of what runs at import: in a process that has not imported the package yet."""
    child = os.fork()
    if child == 0:
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        signal.alarm(300)
        try:
            sys.meta_path.insert(0, _Loader(name, str(file), mutant.tree))
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])
        except BaseException:
            code = 1
        os._exit(int(bool(code)))
    return os.waitpid(child, 0)[1] == 0


def main() -> int:
    """Mutate the modules named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--line", type=int, help="only mutants of this line")
    parser.add_argument("--tests", nargs="*", help="test files instead of the usual ones")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long tests may try to notice a mutant")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th mutant")
    parser.add_argument("--start", type=int, default=0, help="which of them is the first")
    parser.add_argument("--imports", action="store_true", help="mutants of what runs at import; takes longer")
    options = parser.parse_args()
    os.chdir(ROOT)
    os.environ |= {"CI": "1", "KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
    files = [f for path in options.paths for f in (sorted(path.glob("*.py")) if path.is_dir() else [path])]
    alive = False
    for file in (file.resolve() for file in files):
        usual = OF_MODULE.get(file.stem, LAYERS if file.parent.name == "layers" else METHODS)
        tests = [f"tests/{t}" for t in (options.tests or usual) if (ROOT / "tests" / t).exists()]
        if options.imports:
            alive |= _at_import(file, options, tests)
        elif (child := os.fork()) == 0:  # each module in a process of its own, which imports the package
            hunt = Hunt(file, options)
            with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
                pytest.main(["-q", "-s", "-p", "no:cacheprovider", *tests], plugins=[hunt])
            os._exit(int(bool(hunt.survivors)))
        else:
            alive |= os.waitpid(child, 0)[1] != 0
    return int(alive)


def _at_import(file: Path, options: argparse.Namespace, tests: list[str]) -> bool:
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    alive = False
    for mutant in mutants(file.read_text()):
        if (
            not mutant.inside
            and (not options.line or mutant.line == options.line)
            and outside(file, name, mutant, tests)
        ):
            alive = True
            print(f"{file.relative_to(ROOT)}:{mutant.line}: {mutant.change}", file=sys.stderr, flush=True)
    return alive


if __name__ == "__main__":
    sys.exit(main())
