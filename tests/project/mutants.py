"""Mutation testing: break the code that computes in every small way, and see whether a test notices.

    python tests/project/mutants.py innsight_py/layers innsight_py/methods
    python tests/project/mutants.py innsight_py/functions/deeplift.py --line 57
    python tests/project/mutants.py innsight_py/layers --imports

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
import functools
import gc
import importlib
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import numpy as np
import pandas as pd  # noqa: F401  (what is slow is imported before the processes fork)
import pytest
import torch  # noqa: F401
from mutants_known import KNOWN

ROOT = Path(__file__).resolve().parents[2]
#: Tests that look at numbers.
TESTS = [
    "layers/every_layer", "oracles/layer_oracle", "functions/numbers", "laws", "golden/golden_small",
    "golden/golden_more", "golden/golden_zoo", "model/engine", "methods/every_method", "results/residual",
    "methods/agnostic", "methods/direct", "model/memory_layout", "converters/torch_models",
    "converters/torch_operators",
]  # fmt: skip
#: Those that mutants of what runs at import meet: few, since each has to import everything anew.
IMPORT_TESTS = [
    "layers/every_layer", "oracles/layer_oracle", "methods/every_method", "golden/golden_small", "inputs/arguments",
    "results/residual",
]  # fmt: skip
#: Functions that make texts, show progress or check arguments.
SILENT = {
    "_fields", "__repr__", "extra_repr", "_unsupported", "kind", "reference_text", "_rule_name_text",
    "_rule_param_text", "_check_classes", "_check_rule_name", "_check_rule_param", "__init_subclass__",
    "_document", "_documented", "_explainable", "import_extra", "_runner", "check",
    "needs_axes", "not_the_batch", "expect", "_show", "_advance",
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
            if isinstance(node, ast.keyword) and node.arg == "strict":
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self.visit(child)


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
    function : str
        Name of the function or class around it.
    first, last : int
        The lines of these.
    """

    line: int
    change: str
    tree: ast.Module
    inside: bool
    function: str
    first: int
    last: int


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
    met: Counter[tuple[str, str]] = Counter()
    for node in places.found:
        for variant in _variants(node):
            kept, kind = dict(vars(node)), type(node)
            line = kept["lineno"]
            before = ast.unparse(node).splitlines()[0]
            after = ast.unparse(variant).splitlines()[0]
            _become(node, variant)
            ast.copy_location(node, ast.Constant(0, **{k: v for k, v in kept.items() if k.endswith(("no", "offset"))}))
            ast.fix_missing_locations(tree)
            around = [scope for scope in scopes if scope[1] <= line <= scope[2]]
            function = ".".join(name for name, _, _ in around)
            change = f"{before}  ->  {after}"
            met[function, change] += 1
            if met[function, change] > 1:
                change = f"{change} ({met[function, change]})"
            first, last = around[-1][1:] if around else (1, 1)
            yield Mutant(line, change, tree, any(a <= line <= b for a, b in bodies), function, first, last)
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


def implant(tree: ast.Module, path: Path, functions: list[FunctionType]) -> None:
    """Give the functions of a loaded module the code of its mutant."""
    fresh = {(c.co_qualname, c.co_firstlineno): c for c in _codes(compile(tree, str(path), "exec"))}
    for function in functions:
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


#: For each file and line the tests that come to it.
Lines = dict[str, dict[int, list[int]]]


class Survey:
    """Finds out which test runs which line of the modules, and that all tests pass."""

    def __init__(self, files: list[Path]) -> None:
        self.files = {str(file) for file in files}
        self.seen: set[tuple[str, int]] = set()

    def _trace(self, frame: FrameType, event: str, arg: object) -> Callable[..., object] | None:
        file = frame.f_code.co_filename
        if file not in self.files:
            return None

        def line(frame: FrameType, event: str, arg: object) -> object:
            self.seen.add((file, frame.f_lineno))
            return line

        self.seen.add((file, frame.f_lineno))
        return line

    def run(self, session: pytest.Session, chosen: list[int]) -> tuple[dict[str, Any], str | None]:
        """Run the chosen tests; return how long each takes with the lines it runs, and which one fails."""
        kept = [o for o in gc.get_objects() if type(o) is functools._lru_cache_wrapper]
        kept = [o for o in kept if str(getattr(o, "__module__", None)).startswith("test_")]
        found: dict[str, Any] = {}
        items = [session.items[n] for n in chosen]
        for item, following in zip(items, [*items[1:], None], strict=True):
            for cache in kept:
                cache.cache_clear()  # so that the next test makes on its own what it needs
            self.seen.clear()
            started = time.monotonic()
            sys.settrace(self._trace)
            try:
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            finally:
                sys.settrace(None)
            if session.testsfailed:
                return found, item.nodeid
            lines: defaultdict[str, list[int]] = defaultdict(list)
            for file, line in sorted(self.seen):
                lines[file].append(line)
            found[item.nodeid] = (round(time.monotonic() - started, 4), lines)
        return found, None


class Hunt:
    """A plugin of pytest: runs the collected tests not once, but for each mutant, in processes forked off."""

    def __init__(self, files: list[Path], options: argparse.Namespace) -> None:
        self.files, self.options = files, options
        self.known = {} if options.known else dict(KNOWN)
        self.alive = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        lines, self.seconds = self._survey(session)
        _warm_up()
        for file in self.files:
            self._hunt(session, file, lines[str(file)])
        return True

    def _survey(self, session: pytest.Session) -> tuple[Lines, list[float]]:
        """Ask a process of its own, or the file that keeps what one found out."""
        names = [item.nodeid for item in session.items]
        sources = {str(file): file.read_text() for file in self.files}
        keep = self.options.survey
        found: dict[str, Any] = json.loads(keep.read_text()) if keep and keep.exists() else {"tests": {}}
        if any(found["sources"].get(file) != text for file, text in sources.items() if found["tests"]):
            found = {"tests": {}}
        if new := [n for n, name in enumerate(names) if name not in found["tests"]]:
            found = {"tests": found["tests"] | self._ask(session, new), "sources": found.get("sources", sources)}
            if keep:
                keep.write_text(json.dumps(found))
        lines: Lines = defaultdict(lambda: defaultdict(list))
        for n, name in enumerate(names):
            for file, at in found["tests"][name][1].items():
                for line in at:
                    lines[file][line].append(n)
        return lines, [found["tests"][name][0] for name in names]

    def _ask(self, session: pytest.Session, chosen: list[int]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            answer = Path(folder) / "answer.json"
            if (child := os.fork()) == 0:
                try:
                    answer.write_text(json.dumps(Survey(self.files).run(session, chosen)))
                except BaseException:
                    say(traceback.format_exc())
                os._exit(0)
            os.waitpid(child, 0)
            if not answer.exists():
                raise pytest.UsageError("a test ends the process")
            found, failed = json.loads(answer.read_text())
        if failed:
            raise pytest.UsageError(f"the tests fail without any mutant: {failed}")
        say(f"# {len(found)} tests surveyed, {sum(seconds for seconds, _ in found.values()):.0f} s")
        return found

    def _hunt(self, session: pytest.Session, file: Path, lines: dict[int, list[int]]) -> None:
        started = time.monotonic()
        counts: Counter[str] = Counter()
        kills: defaultdict[str, Counter[int]] = defaultdict(Counter)
        every: Counter[int] = Counter()
        functions = [f for f in gc.get_objects() if type(f) is FunctionType and f.__code__.co_filename == str(file)]
        for i, mutant in enumerate(mutants(file.read_text())):
            key = (f"{file.parent.name}/{file.stem}", mutant.function, mutant.change)
            if not mutant.inside:
                self.known.pop(key, None)
                continue
            if i % self.options.every != self.options.start:
                continue
            if self.options.line not in (None, mutant.line) or (self.options.match or "") not in mutant.function:
                continue
            counts["mutants"] += 1
            if self.known.pop(key, None) is not None:
                counts["known"] += 1
                continue
            at = lines.get(mutant.line, [])
            near = {n for line in range(mutant.first, mutant.last + 1) for n in lines.get(line, [])}
            here = kills[mutant.function]
            order = self._order(session, at, here, every) + self._order(session, sorted(near - set(at)), here, every)
            killer, ran = self._fate(session, functions, mutant, file, order)
            if killer is None:
                counts["alive"] += 1
                passed = f"{ran} of {len(order)} tests, {len(at)} at the line"
                say(f"{file.relative_to(ROOT)}:{mutant.line}: {mutant.function}: {mutant.change}    [{passed}]")
            else:
                counts["killed"] += 1
                if killer >= 0:
                    here[killer] += 1
                    every[killer] += 1
        say(
            f"# {file.relative_to(ROOT)}: {counts['mutants']} mutants, {counts['killed']} killed, {counts['known']} "
            f"known to change no number, {counts['alive']} survived, {time.monotonic() - started:.0f} s"
        )
        if not self.options.line and not self.options.match and self.options.every == 1:
            for key in [key for key in self.known if key[0] == f"{file.parent.name}/{file.stem}"]:
                say(f"no such mutant any more: {key}")
                self.alive = True
        self.alive |= counts["alive"] > 0

    def _order(self, session: pytest.Session, tests: list[int], here: Counter[int], every: Counter[int]) -> list[int]:
        """Put first what noticed mutants of the same function or module; then one of each kind; then the rest.

        Both go file by file, those first that are quick: what a file's tests share is made anew at each change.
        """
        best = sorted((n for n in tests if every[n]), key=lambda n: (-here[n], self.seconds[n] / every[n]))[:8]
        kinds: defaultdict[str, list[int]] = defaultdict(list)
        files: defaultdict[str, list[float]] = defaultdict(list)
        for n in tests:
            name = session.items[n].nodeid
            kinds[name.partition("[")[0]].append(n)
            files[name.partition(":")[0]].append(self.seconds[n])
        order = {}
        for kind, members in kinds.items():
            quick = np.mean(files[kind.partition(":")[0]])
            for k, j in enumerate(np.random.default_rng(1).permutation(len(members))):
                n = members[j]
                order[n] = (bool(k), quick, (k + 1) * self.seconds[n])
        return [*best, *(n for n in sorted(tests, key=order.__getitem__) if n not in best)]

    def _fate(
        self, session: pytest.Session, functions: list[FunctionType], mutant: Mutant, file: Path, order: list[int]
    ) -> tuple[int | None, int]:
        """Return the number of the test that noticed and how many ran; -1: the process ended; None: none noticed."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            signal.alarm(int(self.options.seconds) + 60)
            try:
                implant(mutant.tree, file, functions)
                end = time.monotonic() + self.options.seconds
                items = [session.items[n] for n in order]
                killer, ran = "none", 0
                for ran, (item, following) in enumerate(zip(items, [*items[1:], None], strict=True), 1):
                    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                    if session.testsfailed:
                        killer = str(order[ran - 1])
                    if session.testsfailed or time.monotonic() > end:
                        break
                os.write(writer, f"{killer} {ran}".encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as answers:
            noticed, _, count = answers.read().partition(" ")
        os.waitpid(child, 0)
        return (None if noticed == "none" else int(noticed or -1)), int(count or 0)


def _warm_up() -> None:
    """Import and compile once what would be slow in every process."""
    import innsight_py

    for name in ("keras", "matplotlib.pyplot", "xarray"):
        importlib.import_module(name)
    for method in (innsight_py.LIME, innsight_py.SHAP):
        method(lambda rows: rows.sum(1), np.eye(3), seed=1)


def say(text: str) -> None:
    """Print past pytest."""
    print(text, file=sys.__stderr__, flush=True)


def file_of(name: str) -> str:
    """Return the path of a test file below ``tests/``.

    Examples
    --------
    >>> file_of("golden/golden_small")
    'golden/test_golden_small.py'
    """
    folder, _, stem = name.rpartition("/")
    return str(Path(folder, f"test_{stem}.py"))


def outside(file: Path, name: str, mutant: Mutant, tests: list[str]) -> bool:
    """Tell whether tests miss a mutant of what runs at import: in a process that has not imported the package yet."""
    child = os.fork()
    if child == 0:
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        signal.alarm(900)
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
    parser.add_argument("--seconds", type=float, default=30.0, help="how long tests may try to notice a mutant")
    parser.add_argument("--match", help="only mutants of functions with this in their names")
    parser.add_argument("--known", action="store_true", help="also mutants that are known to change no number")
    parser.add_argument("--survey", type=Path, help="file that keeps which test runs which line")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th mutant")
    parser.add_argument("--start", type=int, default=0, help="which of them is the first")
    parser.add_argument("--imports", action="store_true", help="mutants of what runs at import; takes longer")
    options = parser.parse_args()
    os.chdir(ROOT)
    os.environ |= {"CI": "1", "KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1"}
    files = [f for path in options.paths for f in (sorted(path.glob("*.py")) if path.is_dir() else [path])]
    files = [file.resolve() for file in files]
    names = IMPORT_TESTS if options.imports else TESTS
    tests = [f"tests/{t}" for t in (options.tests or [file_of(name) for name in names])]
    if options.imports:
        return int(sum(_at_import(file, options, tests) for file in files) > 0)
    hunt = Hunt(files, options)
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        status = pytest.main(["-q", "-s", "--tb=no", "-p", "no:cacheprovider", *tests], plugins=[hunt])
    return int(hunt.alive or status != pytest.ExitCode.OK)


def _at_import(file: Path, options: argparse.Namespace, tests: list[str]) -> bool:
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    total = alive = known = 0
    for mutant in mutants(file.read_text()):
        if mutant.inside or options.line not in (None, mutant.line):
            continue
        total += 1
        if (f"{file.parent.name}/{file.stem}", mutant.function, mutant.change) in KNOWN and not options.known:
            known += 1
        elif outside(file, name, mutant, tests):
            alive += 1
            print(
                f"{file.relative_to(ROOT)}:{mutant.line}: {mutant.function}: {mutant.change}",
                file=sys.stderr,
                flush=True,
            )
    say(f"# {file.relative_to(ROOT)}: {total} mutants at import, {known} known to change no number, {alive} survived")
    return alive > 0


if __name__ == "__main__":
    sys.exit(main())
