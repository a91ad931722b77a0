"""No test ends before it has looked at something."""

from __future__ import annotations

import ast
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

TESTS = Path(__file__).parents[1]
RNG = np.random.default_rng(1)
FILES = {path.relative_to(TESTS).as_posix(): ast.parse(path.read_text()) for path in sorted(TESTS.rglob("*.py"))}
#: What a call is named that fails where something is wrong, besides functions of the tests that contain one.
CHECKS = ("assert", "raises", "warns", "fail")


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def own_nodes(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """Walk a function without the functions in it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def checks(node: ast.AST, checking: set[str]) -> bool:
    """Tell whether something below a node may fail a test."""
    calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
    return (
        any(isinstance(each, ast.Assert) for each in ast.walk(node))
        or any(name_of(call).startswith(CHECKS) or name_of(call) in checking for call in calls)
        or any(keyword.arg == "check" for call in calls for keyword in call.keywords)  # of a process
    )


def checking_functions() -> set[str]:
    """Name the functions of the tests that check something, by themselves or through others."""
    known: set[str] = set()
    helpers = [each for tree in FILES.values() for each in functions(tree) if not each.name.startswith("test_")]
    while found := {each.name for each in helpers if each.name not in known and checks(each, known)}:
        known |= found
    return known


def early_returns(tree: ast.AST) -> list[str]:
    """Name the tests that return: parameters without a check are filtered out, branches have an ``else``."""
    tests = [each for each in functions(tree) if each.name.startswith("test_")]
    return [each.name for each in tests if any(isinstance(node, ast.Return) for node in own_nodes(each))]


@pytest.mark.parametrize("file", FILES)
def test_no_test_returns(file):
    assert early_returns(FILES[file]) == []


def test_a_return_is_found():
    code = "def test_it(x):\n    if x:\n        return\n    assert x\n"
    assert early_returns(ast.parse(code)) == ["test_it"]


def test_every_test_checks_something():
    known = checking_functions()
    tests = [(file, each) for file, tree in FILES.items() for each in functions(tree) if each.name.startswith("test_")]
    assert [f"{file}: {each.name}" for file, each in tests if not checks(each, known)] == []


def test_tests_share_through_helper_modules():
    """No test imports another: what they share lies in a module that is not a test."""
    imported = {
        (file, alias.name if isinstance(node, ast.Import) else node.module)
        for file, tree in FILES.items()
        for node in tree.body  # test_readme.py counts tests where it compares their number
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert {(file, name) for file, name in imported if name and name.startswith("test_")} == set()


def test_no_two_modules_have_one_name():
    """All folders are on the path, so that one of them would hide the other."""
    names = [Path(file).name for file in FILES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("time", range(3))
def test_draws_depend_on_the_name_of_a_test_alone(time, request):
    """Workers steal tests from each other, so a test cannot know what ran before it."""
    seed = zlib.crc32(request.node.nodeid.encode())
    assert RNG.random() == np.random.default_rng(seed).random()
    assert torch.rand(()) == torch.rand((), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("data", [gzip.compress(b"now"), b"\x00"])
def test_bytes_are_named_by_their_number(data, request):
    """A packed file holds the time, and two workers that collect in other seconds must see the same tests."""
    assert request.node.callspec.id == f"{len(data)} bytes"
