"""Every example in a docstring runs, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import shutil

import pytest
from goldens import FOLDER

import innsight_py
import innsight_py.converters

#: The package, and the doors, which lie in a folder of their own.
PACKAGES = (innsight_py, innsight_py.converters)
MODULES = [
    *(package.__name__ for package in PACKAGES),
    *(
        module.name
        for package in PACKAGES
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    shutil.copy(FOLDER / "neuralnet" / "penguins.rds", tmp_path)
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert found.failed == 0


def test_converters_are_found():
    assert {"innsight_py.converters.r.lists", "innsight_py.converters.torch.door"} <= set(MODULES)


@pytest.mark.parametrize("name", innsight_py.__all__)
def test_public_names_are_documented(name):
    documentation = getattr(innsight_py, name).__doc__
    assert documentation
    abstract = ("ConvertedModel", "Explanation", "InterpretingMethod", "SpecError", "UnsupportedLayerError")
    if name not in abstract:
        assert ">>>" in documentation
    assert "%(" not in documentation
