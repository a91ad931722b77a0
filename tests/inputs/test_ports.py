"""Ports: what is known of a model's inputs and outputs, in one place."""

from __future__ import annotations

import json

import pytest
import torch

from innsight_py import Converter
from innsight_py.cli.show import model_json, model_text
from innsight_py.spec import SpecError

SHAPES = {(4,): "table", (3, 5): "signal", (2, 4, 4): "image", (1, 2, 3, 4): "volume"}


def converter(**keys):
    layers = [{"type": "Flatten", "name": f"flat_{i}", "inputs": [f"input_{i}"]} for i in range(1, len(SHAPES) + 1)]
    layers.append({"type": "Concatenate", "inputs": [layer["name"] for layer in layers], "axis": 1, "name": "all"})
    width = sum(torch.Size(dim).numel() for dim in SHAPES)
    layers.append({"type": "Dense", "weight": torch.ones(2, width), "name": "out"})
    return Converter({"input_dim": list(SHAPES), "layers": layers, **keys})


def test_a_port_says_what_lies_in_it():
    found = converter(input_keys=["a", "b", "c", "d"])
    assert [port.kind for port in found.inputs] == list(SHAPES.values())
    assert [port.key for port in found.inputs] == ["a", "b", "c", "d"]
    assert [port.dim for port in found.inputs] == found.input_dim == list(SHAPES)
    assert [port.names for port in found.inputs] == found.input_names
    assert [port.key for port in found.outputs] == found.output_keys
    assert [port.has_channels for port in found.inputs] == [False, True, True, True]


@pytest.mark.parametrize("name", ["input_dim", "output_dim", "input_keys", "output_keys"])
def test_views_of_ports_are_for_reading(name):
    with pytest.raises(AttributeError):
        setattr(converter(), name, [])


def test_names_that_are_set_must_fit():
    found = converter()
    found.output_names = ["no", "yes"]
    assert found.outputs[0].names == [["no", "yes"]]
    with pytest.raises(ValueError, match="output_names"):
        found.output_names = ["no"]


def test_kinds_are_kept_in_files(tmp_path):
    kinds = ["tokens", "signal", "image", "fixed"]
    found = converter(input_kinds=kinds)
    found.save(tmp_path / "model.safetensors")
    assert [port.kind for port in Converter.load(tmp_path / "model.safetensors").inputs] == kinds


@pytest.mark.parametrize("kinds", [["table"], ["image", "signal", "image", "volume"], "table", [1, 2, 3, 4]])
def test_kinds_that_do_not_fit_are_refused(kinds):
    with pytest.raises(SpecError, match="input_kinds"):
        converter(input_kinds=kinds)


def test_inspect_shows_ports():
    found = converter(input_keys=["a", "b", "c", "d"])
    assert "a (*, 4) table: X1, X2, X3, X4; b (*, 3, 5) signal; c (*, 2, 4, 4) image" in model_text(found)
    assert json.loads(model_json(found))["input_kinds"] == list(SHAPES.values())
