"""Type hints of public names can be read at run time: editors, documentation and checkers ask for them."""

from __future__ import annotations

import inspect
import typing

import pytest

import innsight_py
from innsight_py import composites, rules


def functions():
    """Give the public functions and classes of the package, and what their instances can be asked."""
    for room in (innsight_py, rules, composites):
        for name in room.__all__:
            found = getattr(room, name)
            if not inspect.ismodule(found):
                yield f"{room.__name__}.{name}", found
            if inspect.isclass(found):
                members = {**vars(found.__base__), **vars(found)}  # pictures of an Explanation are in its base
                for method, value in members.items():
                    if inspect.isfunction(value) and (method == "__init__" or not method.startswith("_")):
                        yield f"{room.__name__}.{name}.{method}", value


FUNCTIONS = dict(functions())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_type_hints_can_be_read(name):
    hints = typing.get_type_hints(FUNCTIONS[name])
    assert not any(isinstance(hint, str) for hint in hints.values())


def test_what_the_hints_of_rules_are():
    """They are those of the rule's fields, also where a field comes from a base class in another file."""
    hints = typing.get_type_hints(rules.epsilon.__init__)
    assert hints["epsilon"] is float
    assert set(typing.get_args(hints["bias"])) == {"share", "zero"} | set(typing.get_args(hints["bias"]))
    assert inspect.signature(innsight_py.convert) == inspect.signature(innsight_py.Converter)
