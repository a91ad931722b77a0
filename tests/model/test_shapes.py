"""Shapes that a module cannot take: the message names one that works, and that one does work."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from innsight_py import Converter, SpecError
from innsight_py._errors import code_of

DENSE = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
IMAGES = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
GREY = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))
SIGNALS = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten(), nn.Linear(24, 2))
FLAT = nn.Sequential(nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 2))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.table = nn.Sequential(nn.Conv2d(3, 1, 3), nn.Flatten(), nn.Linear(36, 2)), nn.Linear(5, 2)

    def forward(self, image, table):
        return self.image(image) + self.table(table)


@pytest.mark.parametrize(
    ("model", "given", "question", "meant"),
    [
        (SIGNALS, (4, 2, 10), "Did you include the batch?", (2, 10)),
        (SIGNALS, (1, 2, 10), "Did you include the batch?", (2, 10)),
        (IMAGES, (1, 3, 8, 8), "Did you include the batch?", (3, 8, 8)),
        (IMAGES, torch.Size((16, 3, 8, 8)), "Did you include the batch?", (3, 8, 8)),
        (IMAGES, (8, 8, 3), "Channels come first:", (3, 8, 8)),
        (SIGNALS, (10, 2), "Channels come first:", (2, 10)),
        (GREY, (8, 8), "There is an axis for the channel:", (1, 8, 8)),
        (FLAT, (8, 8), "The model takes flat inputs:", (64,)),
        (FLAT, (1, 8, 8), "The model takes flat inputs:", (64,)),
        (Two(), [(4, 3, 8, 8), (4, 5)], "Did you include the batch?", [(3, 8, 8), (5,)]),
        (Two(), [(8, 8, 3), (5,)], "Channels come first:", [(3, 8, 8), (5,)]),
    ],
)
def test_the_shape_that_was_meant(model, given, question, meant):
    with pytest.raises(SpecError) as error:
        Converter(model.eval(), input_dim=given)
    message = str(error.value)
    assert f"{question} input_dim={meant} works." in message
    assert code_of(message) == "input-shapes"
    dims = eval(re.search(r"input_dim=(\(.+\)|\[.+\]) works", message)[1])  # noqa: S307
    assert Converter(model, input_dim=dims).output_dim == [(2,)]


def test_nothing_is_named_where_nothing_works():
    with pytest.raises(SpecError) as error:
        Converter(DENSE, input_dim=(7,))
    assert " works" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ((None, 3), "Leave out the batch: (3,)."),
        ((-1, 3, 8, 8), "Leave out the batch: (3, 8, 8)."),
        ([None, 3], "Leave out the batch: (3,)."),
        (torch.zeros(5, 3), "x.shape[1:]"),
        ("3", "expected whole numbers, got '3'"),
        ((3.0,), "expected whole numbers, got 3.0"),
        ((), "expected at least one number"),
    ],
    ids=str,
)
def test_what_is_no_shape(given, advice):
    with pytest.raises(SpecError) as error:
        Converter(DENSE, input_dim=given)
    assert advice in str(error.value)
    assert code_of(error.value) == "input-shapes"


def test_a_module_without_a_shape():
    with pytest.raises(ValueError, match=r"input_dim=\(3, 32, 32\)") as error:
        Converter(DENSE)
    assert code_of(error.value) == "input-shapes"


def test_several_inputs_and_one_shape():
    with pytest.raises(SpecError, match="one shape for each input") as error:
        Converter(Two(), input_dim=(3, 8, 8))
    assert code_of(error.value) == "input-shapes"


def test_the_model_is_left_as_it_was():
    """Trying other shapes changes neither mode, nor statistics, nor weights."""
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.warns(UserWarning, match="training mode"), pytest.raises(SpecError):
        Converter(model, input_dim=(4,))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
