"""Programs in files of ``torch.export.save`` are read as the live programs are, number by number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_models import MODELS, make

from innsight_py import Converter
from innsight_py.spec import spec_as_dict


def written(converter: Converter) -> dict:
    """Return all that was read, without where in the user's code it comes from; tensors as their bytes."""

    def plain(value):
        if isinstance(value, torch.Tensor):
            return (value.dtype, tuple(value.shape), value.numpy().tobytes())
        if isinstance(value, np.ndarray):
            return (value.dtype, value.shape, value.tobytes())
        if isinstance(value, list | tuple):
            return [plain(entry) for entry in value]
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items() if key != "place"}
        return value

    return plain(spec_as_dict(converter._spec))


def read(model) -> dict | str:
    """Read a model, or say why it is refused."""
    try:
        return written(Converter(model))
    except ValueError as error:
        return str(error).partition(" at ")[0]


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")  # torch's own, of recurrent layers
@pytest.mark.parametrize("rows", ["one", "any"])
@pytest.mark.parametrize("name", MODELS)
def test_files_are_read_as_live_programs(name, rows, tmp_path):
    model, dims = make(name)
    dynamic = None if rows == "one" else ({0: torch.export.Dim.AUTO},) * len(dims)
    program = torch.export.export(
        model, tuple(torch.randn(1 if rows == "one" else 3, *dim) for dim in dims), dynamic_shapes=dynamic
    )
    torch.export.save(program, tmp_path / "model.pt2")
    found = read(tmp_path / "model.pt2")
    assert found == read(program)
    assert isinstance(found, dict) or "fixed to 3 rows" in found
