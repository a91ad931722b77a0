"""One list of methods serves the package, the shell and the documentation."""

from __future__ import annotations

import inspect

import pytest

import innsight_py
from innsight_py import AgnosticWrapper, InterpretingMethod
from innsight_py.methods import direct, registry
from innsight_py.methods.registry import METHODS, RUNNERS


def _subclasses(cls: type) -> set[type]:
    return {cls, *(lower for own in cls.__subclasses__() for lower in _subclasses(own))}


def test_every_method_is_in_the_list():
    """A public class of a method that nobody entered would be missing in the shell and in the documentation."""
    mine = {cls for cls in _subclasses(InterpretingMethod) if cls.__module__.startswith("innsight_py.")}
    whole = {
        cls for cls in mine if cls.__name__[0] != "_" and inspect.signature(cls).parameters.keys() & {"output_label"}
    }
    unlisted = {AgnosticWrapper, InterpretingMethod, direct.TorchSmoothGrad, direct.TorchIntegratedGradient}
    assert whole - unlisted == set(METHODS.values())


@pytest.mark.parametrize("name", METHODS)
def test_a_method_and_its_function_are_public(name):
    cls = METHODS[name]
    assert getattr(innsight_py, cls.__name__) is cls
    assert getattr(innsight_py, f"run_{name}") is RUNNERS[name]
    assert {cls.__name__, f"run_{name}"} <= set(innsight_py.__all__)
    made, own = inspect.signature(RUNNERS[name]), inspect.signature(cls)
    assert made.parameters == own.parameters
    assert made.return_annotation == cls.__name__


def test_the_names_for_tools_are_those_of_the_list():
    expected = {cls.__name__ for cls in METHODS.values()} | {f"run_{name}" for name in METHODS}
    assert set(registry.__all__) == expected


def test_every_public_name_is_there_once():
    assert len(set(innsight_py.__all__)) == len(innsight_py.__all__)
    assert all(hasattr(innsight_py, name) for name in innsight_py.__all__)
